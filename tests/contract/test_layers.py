"""The architecture as a test: which part of the package may import which.

What belongs here: the direction of imports, their cycles, what the sans-IO part may not import.
What does not: style (ruff), types (mypy, pyright).
Invariant: the rules are read from the source, so imports inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "lukhas_redis"

# From left to right: a part imports from its own layer and from those before it.
LAYERS = (
    {"errors", "settings", "models", "bus_models", "keys", "documents"},
    {"codec", "scripts", "calls", "functions", "build"},
    {"ops"},
    {"transport", "metrics", "telemetry"},
    {"shell", "batch"},
    {"store", "aio"},
    {"bus", "router", "context"},
    {"http", "cli", "compat", "demo", "__main__"},
)
# At the side: these start servers and know nothing of the store, which may start one of them.
SIDE = {"embedded": 0, "testing": 0}
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts} | SIDE

# What decides must get time, randomness and replies as arguments.
SANS_IO = ("ops", "calls")
IO_MODULES = {"redis", "asyncio", "time", "random", "os", "logging"}

Graph = Mapping[str, set[str]]


def sources(root: Path) -> dict[str, str]:
    """The source of every module under the package folder `root`, by dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def imported(source: str) -> set[str]:
    """Dotted names that `source` imports anywhere in it; `from a import b` gives `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def import_graph(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """Which of `modules` each of them imports: the longest module that a dotted name starts with."""
    graph = {}
    for module, source in modules.items():
        targets = {known for name in imported(source) if (known := _module_of(name, modules))}
        graph[module] = targets - {module}
    return graph


def _module_of(name: str, modules: Mapping[str, str]) -> str | None:
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def part(module: str) -> str:
    """The part of the package that a module belongs to: `lukhas_redis.ops.drop` is `ops`; the package itself is ''."""
    return module.partition(".")[2].partition(".")[0]


def may_import(here: str, there: str) -> bool:
    """Whether one part may import another; a part without a layer may import nothing."""
    if there in SIDE:
        return here == "testing" or LEVEL.get(here, -1) >= LEVEL["transport"]
    return LEVEL.get(there, len(LAYERS)) <= LEVEL.get(here, -1)


def wrong_way(graph: Graph) -> Iterator[str]:
    """Imports to the right, of a part at the side that is not for this layer, or of the package's own front."""
    for module, targets in graph.items():
        here = part(module)
        for target in sorted(targets):
            there = part(target)
            if here not in ("", there) and not may_import(here, there):
                yield f"{module} imports {target}"


def cycle(graph: Graph) -> list[str]:
    """One circle of imports, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def impure(modules: Mapping[str, str]) -> Iterator[str]:
    """Imports of I/O, time or chance in the sans-IO parts."""
    for module, source in modules.items():
        if part(module) in SANS_IO:
            for name in sorted(imported(source)):
                if name.partition(".")[0] in IO_MODULES:
                    yield f"{module} imports {name}"


@pytest.fixture(scope="module")
def package() -> dict[str, str]:
    """The modules of lukhas_redis as they are on disk."""
    return sources(PACKAGE)


def test_every_part_has_a_layer(package: dict[str, str]) -> None:
    """A new module or folder is given its layer, here, by whoever adds it."""
    assert {part(module) for module in package} - {""} <= set(LEVEL)


def test_every_folder_is_a_package(package: dict[str, str]) -> None:
    """Each folder with modules has its `__init__.py`, without which the imports of its modules cannot be placed."""
    parents = {module.rpartition(".")[0] for module in package} - {""}
    assert parents - set(package) == set()


def test_imports_go_left(package: dict[str, str]) -> None:
    """No module imports from a layer to its right, nor from the package's own front."""
    assert list(wrong_way(import_graph(package))) == []


def test_no_import_cycles(package: dict[str, str]) -> None:
    """No two modules need each other, not even inside a function."""
    assert cycle(import_graph(package)) == []


def test_operations_do_no_io(package: dict[str, str]) -> None:
    """Operations and calls import nothing that talks to a server, reads a clock or draws a number."""
    assert list(impure(package)) == []


BAD = {
    "lukhas_redis": "",
    "lukhas_redis.keys": "def late():\n    from lukhas_redis.store import ContextStore\n",
    "lukhas_redis.store": "import lukhas_redis.keys\nfrom lukhas_redis import embedded\n",
    "lukhas_redis.ops": "from lukhas_redis import __version__\n",
    "lukhas_redis.ops.drop": """
import redis.asyncio
from time import monotonic
from lukhas_redis import embedded, testing
""",
    "lukhas_redis.embedded": "import os\nfrom lukhas_redis.transport import Sync\n",
    "lukhas_redis.transport": "import asyncio\n",
    "lukhas_redis.testing": "from lukhas_redis.embedded import start\n",
}


def test_guard_sees_a_wrong_direction() -> None:
    """Imports to the right, of the package's front, and of or by a side part against the rules are all reported."""
    assert list(wrong_way(import_graph(BAD))) == [
        "lukhas_redis.keys imports lukhas_redis.store",
        "lukhas_redis.ops imports lukhas_redis",
        "lukhas_redis.ops.drop imports lukhas_redis.embedded",
        "lukhas_redis.ops.drop imports lukhas_redis.testing",
        "lukhas_redis.embedded imports lukhas_redis.transport",
    ]


def test_guard_sees_a_cycle() -> None:
    """A circle closed by an import inside a function is reported."""
    assert set(cycle(import_graph(BAD))) == {"lukhas_redis.keys", "lukhas_redis.store"}


def test_guard_sees_io() -> None:
    """Submodules and from-imports of forbidden modules are reported in the sans-IO parts, and only there."""
    assert list(impure(BAD)) == [
        "lukhas_redis.ops.drop imports redis.asyncio",
        "lukhas_redis.ops.drop imports time.monotonic",
    ]


def test_guard_sees_a_relative_import() -> None:
    """A relative import, which the graph could not place, fails the test that reads it."""
    with pytest.raises(AssertionError, match="line 1: relative import"):
        imported("from . import keys\n")
