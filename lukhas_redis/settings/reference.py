"""The tables of `docs/settings.md`, made from the model. Run with a path to bring that file up to date.

What belongs here: turning fields into Markdown. What does not: the prose around the tables.
Invariant: the tables say what the model enforces, because they are made from its schema.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from lukhas_redis.settings.model import Settings
from lukhas_redis.settings.policies import BUILT_IN_POLICIES, ContextPolicy

_KINDS = {"integer": "int", "number": "float", "boolean": "bool", "string": "str", "object": "mapping", "null": "None"}


def settings_table() -> str:
    """Return the Markdown table of every setting: name, type, default, range, meaning."""
    properties = Settings.model_json_schema()["properties"]
    rows = [
        [f"`{name}`", _kind(spec), _default(spec), _range(spec), str(spec["description"])]
        for name, spec in properties.items()
    ]
    return _table(["setting", "type", "default", "allowed", "meaning"], rows)


def policies_table() -> str:
    """Return the Markdown table of the built-in policies."""
    fields = list(ContextPolicy.model_fields)
    policies = {**BUILT_IN_POLICIES, "any other type": ContextPolicy()}
    rows = [[kind, *(_code(getattr(policy, name)) for name in fields)] for kind, policy in policies.items()]
    return _table(["context type", *(f"`{name}`" for name in fields)], rows)


def with_tables(text: str) -> str:
    """Return the document `text` with what stands between its table marks made anew."""
    tables = {"settings": settings_table(), "policies": policies_table()}

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n{tables[found[2]]}\n{found[3]}"

    return re.sub(r"(<!-- (settings|policies) -->).*?(<!-- /\2 -->)", made, text, flags=re.DOTALL)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def _choices(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return list(spec.get("anyOf", [spec]))


def _kind(spec: dict[str, Any]) -> str:
    return " or ".join(_KINDS[choice["type"]] for choice in _choices(spec))


def _default(spec: dict[str, Any]) -> str:
    return _code(spec["default"]) if "default" in spec else "see below"


def _range(spec: dict[str, Any]) -> str:
    return ", ".join(text for choice in _choices(spec) if (text := _limits(choice)))


def _limits(choice: dict[str, Any]) -> str:
    if "enum" in choice or "const" in choice:
        return ", ".join(_code(value) for value in choice.get("enum", [choice.get("const")]))
    if "pattern" in choice:
        return f"`{choice['pattern'].strip('^$')}`"
    if "exclusiveMinimum" in choice:
        return f"over {_number(choice['exclusiveMinimum'])}, to {_number(choice['maximum'])}"
    return f"{_number(choice['minimum'])} to {_number(choice['maximum'])}" if "minimum" in choice else ""


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _code(value: Any) -> str:
    return f"`{value}`" if not isinstance(value, int) or isinstance(value, bool) else f"{value:,}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_tables(document.read_text(encoding="utf-8")), encoding="utf-8")
