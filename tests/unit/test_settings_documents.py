"""Settings: files and their keys, policies, the resource-limits document, secrets, and the page that documents them.

What does not belong here: sources and their order, single values (`test_settings.py`).
"""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from lukhas_redis.errors import InvalidArgument
from lukhas_redis.settings import ContextPolicy, Settings, mask_url
from lukhas_redis.settings.reference import settings_table, with_tables


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("LUKHAS_") or name == "CONTEXT_BUS_ACTIVE":
            monkeypatch.delenv(name)


def write(path: Path, text: str) -> Path:
    """Write a file and return its path."""
    path.write_text(text, encoding="utf-8")
    return path


# -- files -------------------------------------------------------------------------------------------------


def test_unknown_keys(tmp_path: Path) -> None:
    """An unknown key is refused with its source and the setting that was probably meant."""
    path = write(tmp_path / "s.toml", "max_dept = 3")
    with pytest.raises(InvalidArgument, match=rf"'max_dept' \(from file {path}\); did you mean 'max_depth'"):
        Settings.load(path)
    with pytest.raises(InvalidArgument, match=r"'zzz' \(from argument\)$"):
        Settings.load(zzz=1)


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("s.toml", "max_depth = ", "cannot be parsed"),
        ("s.json", "{", "cannot be parsed"),
        ("s.json", '{"max_depth": 1, "max_depth": 2}', "'max_depth' stands there twice"),
        ("s.json", "[" * 100_000, "cannot be parsed"),
        ("s.json", "[]", "top level"),
        ("s.yaml", "max_depth: 1", r"\.toml or \.json"),
        ("s.json", '{"max_depth": "1"}', "max_depth: .*from file"),
    ],
)
def test_bad_files(name: str, text: str, reason: str, tmp_path: Path) -> None:
    """A file that cannot be used is refused by its path and the reason."""
    path = write(tmp_path / name, text)
    with pytest.raises(InvalidArgument, match=reason) as refused:
        Settings.load(path)
    assert str(path) in str(refused.value)


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    """A file that is absent, a folder, or no UTF-8 is refused by its path."""
    (tmp_path / "latin.toml").write_bytes(b'tenant = "\xe9"')
    (tmp_path / "folder.toml").mkdir()
    for name in ("none.toml", "latin.toml", "folder.toml"):
        with pytest.raises(InvalidArgument, match=name):
            Settings.load(tmp_path / name)


# -- policies ----------------------------------------------------------------------------------------------


def test_policies_of_all_sources_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source changes the fields it names and keeps the rest, and each field knows its source."""
    path = write(tmp_path / "s.toml", '[policies.session]\nttl_seconds = 600\ncompression = "none"\n')
    monkeypatch.setenv("LUKHAS_POLICIES", '{"session": {"ttl_seconds": 700}, "own.type": {"near_cache": true}}')
    settings = Settings.load(path, policies={"user_profile": ContextPolicy(capacity_share=0.5)})
    assert settings.policy("session") == ContextPolicy(ttl_seconds=700, compression="none")
    assert settings.policy("own.type") == ContextPolicy(near_cache=True)
    assert settings.policy("user_profile") == ContextPolicy(near_cache=True, capacity_share=0.5)
    origin = settings.origin()
    assert origin["policies.session.ttl_seconds"] == (700, "environment LUKHAS_POLICIES")
    assert origin["policies.session.compression"] == ("none", f"file {path}")
    assert origin["policies.user_profile.capacity_share"] == (0.5, "argument")
    assert origin["policies.user_profile.near_cache"] == (True, "default")


def test_policy_of_an_unknown_type() -> None:
    """A type nobody described gets the default policy."""
    assert Settings.load().policy("never heard of") == ContextPolicy()


@pytest.mark.parametrize(
    "policies, field",
    [
        ([], "policies"),
        ({"session": 5}, "policies.session"),
        ({"a b": {}}, "policies.a b"),
        ({"a" * 65: {}}, "policies.aaa"),
        ({"session": {"ttl": 100}}, "policies.session.ttl: unknown key"),
        ({"session": {"ttl_seconds": "100"}}, "policies.session.ttl_seconds"),
        ({"session": {"ttl_seconds": 60.5}}, "policies.session.ttl_seconds"),
        ({"session": {"compression": "zip"}}, "policies.session.compression"),
        ({"session": {"capacity_share": 0}}, "policies.session.capacity_share"),
        ({"session": {"capacity_share": 1.01}}, "policies.session.capacity_share"),
        ({"session": {"near_cache": 1}}, "policies.session.near_cache"),
    ],
)
def test_bad_policies(policies: Any, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad policy is refused by type and field, from an argument and from JSON in the environment."""
    with pytest.raises(InvalidArgument, match=f"^{field}.*argument"):
        Settings.load(policies=policies)
    monkeypatch.setenv("LUKHAS_POLICIES", json.dumps(policies))
    with pytest.raises(InvalidArgument, match=f"^{field}.*LUKHAS_POLICIES"):
        Settings.load()


def test_policies_that_are_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """`LUKHAS_POLICIES` that is no JSON is refused by its name."""
    monkeypatch.setenv("LUKHAS_POLICIES", "session=600")
    with pytest.raises(InvalidArgument, match="LUKHAS_POLICIES is not JSON"):
        Settings.load()


# -- the resource-limits document --------------------------------------------------------------------------

LIMITS: dict[str, dict[str, Any]] = {
    "memory": {
        "max_context_size_bytes": 1_000_000,
        "max_cache_size_entries": 10,
        "max_memory_store_entries": 50,
        "cleanup_interval_seconds": 30,
    },
    "cpu": {"max_serialization_time_ms": 11, "max_compression_time_ms": 12, "consensus_timeout_ms": 13},
    "bandwidth": {"max_context_throughput_mbps": 14, "required_compression_ratio": 0.5},
}


def test_resource_limits_round_trip(tmp_path: Path) -> None:
    """The document becomes settings name by name and comes back equal, from a mapping and from a file."""
    path = write(tmp_path / "limits.json", json.dumps(LIMITS))
    for settings in (Settings.from_resource_limits(LIMITS), Settings.load(path)):
        assert settings.resource_limits() == LIMITS
        assert all(getattr(settings, name) == value for group in LIMITS.values() for name, value in group.items())
    assert Settings.load(path).origin()["max_cache_size_entries"] == (10, f"file {path}")


def test_resource_limits_with_arguments() -> None:
    """A limit left out keeps its default, and a further argument wins over the document."""
    settings = Settings.from_resource_limits({**LIMITS, "cpu": {}}, max_cache_size_entries=7, tenant="shop")
    assert (settings.consensus_timeout_ms, settings.max_cache_size_entries, settings.tenant) == (30_000, 7, "shop")


@pytest.mark.parametrize(
    "change, field",
    [
        *[({group: None}, group) for group in LIMITS],
        ({"disk": {}}, "disk"),
        ({"max_depth": 5}, "max_depth"),
        ({"cpu": {"max_depth": 5}}, "cpu.max_depth"),
        ({"cpu": {"consensus_timeout_ms": 0}}, "consensus_timeout_ms"),
        ({"cpu": 5}, "cpu"),
    ],
)
def test_bad_resource_limits(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    """A missing group, an unknown key or a value out of range is refused by name, from a mapping and from a file."""
    document = {key: value for key, value in {**LIMITS, **change}.items() if value is not None}
    path = write(tmp_path / "limits.json", json.dumps(document))
    with pytest.raises(InvalidArgument, match=field) as refused:
        Settings.from_resource_limits(document)
    assert refused.value.fields["field"] == field
    with pytest.raises(InvalidArgument, match=f"(?s){field}.*{path}|{path}.*{field}"):
        Settings.load(path)


def test_resource_limits_that_are_no_mapping() -> None:
    """A document that is no mapping is refused."""
    document: Any = ["memory", "cpu", "bandwidth"]
    with pytest.raises(InvalidArgument, match="must be a mapping, not list"):
        Settings.from_resource_limits(document)


# -- secrets and the object itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url, masked",
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user@host", "redis://user@host"),
        ("rediss://user:s3cret@host:6379/0", "rediss://user:***@host:6379/0"),
        ("redis://:s3cret@host", "redis://:***@host"),
        ("redis://u:s3/cr@et:s3cret@host", "redis://u:***@host"),
        ("unix://u:s3cret@/run/r.sock?db=1", "unix://u:***@/run/r.sock?db=1"),
        ("redis://host?password=s3cret&db=2", "redis://host?password=***&db=2"),
        ("redis://host?db=2&sentinel_password=s3cret#x", "redis://host?db=2&sentinel_password=***#x"),
        ("redis://us/er:s3cret@host", "redis://us/er:***@host"),
        ("u:s3cret@host", "u:***@host"),
        ("redis:/u:s3cret@host", "redis:***@host"),
        ("redis://u:s3cret@a,redis://u:s3cret@b", "redis://u:***@b"),
    ],
)
def test_mask_url(url: str, masked: str) -> None:
    """No password of a URL is shown, and the rest of it is."""
    assert mask_url(url) == masked
    settings = Settings.load(url=url)
    assert settings.url == url
    assert settings.origin()["url"] == (masked, "argument")
    assert "s3cret" not in repr(settings) + str(settings)


def test_refusals_do_not_show_the_url() -> None:
    """An error about another setting, or about the URL itself, does not print the URL."""
    bad: Any = {"url": ["redis://u:s3cret@host"], "max_depth": 0}
    with pytest.raises(InvalidArgument, match=r"url: .*max_depth: ") as refused:
        Settings.load(**bad)
    assert "s3cret" not in repr(refused.value) + repr(refused.value.fields)


def test_frozen() -> None:
    """Settings and policies do not change after they are made."""
    settings: Any = Settings.load()
    for target, name in ((settings, "max_depth"), (settings.policy("session"), "near_cache")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(target, name, 1)


def test_pickle_keeps_values_and_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings reach another process as they were, whatever its environment says."""
    data = pickle.dumps(Settings.load(max_depth=7))
    monkeypatch.setenv("LUKHAS_MAX_DEPTH", "9")
    restored = pickle.loads(data)
    assert restored.origin()["max_depth"] == (7, "argument")


def test_constructor_does_what_load_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings(...)` reads the same sources as `Settings.load(...)`."""
    monkeypatch.setenv("LUKHAS_SHARDS", "3")
    made, loaded = Settings(max_depth=7), Settings.load(max_depth=7)
    assert (made, made.origin()) == (loaded, loaded.origin())


# -- the documentation -------------------------------------------------------------------------------------


@pytest.fixture
def page() -> str:
    """The text of the settings page."""
    return (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")


def test_documentation_is_up_to_date(page: str) -> None:
    """The tables of the page are what the model says now, and a stale row would be replaced."""
    assert with_tables(page) == page
    assert with_tables(page.replace("| `max_depth` | int | 50 |", "| `max_depth` | int | 51 |")) == page


def test_documentation_names_every_setting() -> None:
    """Every setting has a row with its default and a meaning."""
    rows = {line.split("`")[1]: line for line in settings_table().splitlines()[2:]}
    assert list(rows) == list(Settings.model_fields)
    assert rows["shards"].startswith("| `shards` | int | 1 | 1 to 1,024 | ")
    assert all(len(line.split(" | ")[-1]) > 10 for line in rows.values())
