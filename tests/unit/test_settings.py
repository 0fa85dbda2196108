"""Settings: where a value comes from, and which values are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lukhas_redis.errors import InvalidArgument
from lukhas_redis.settings import BUILT_IN_POLICIES, Settings

DEFAULTS: dict[str, Any] = {
    "url": None,
    "prefix": "lukhas",
    "tenant": "default",
    "shards": 1,
    "max_context_size_bytes": 10_485_760,
    "max_cache_size_entries": 1000,
    "max_cache_size_bytes": 134_217_728,
    "near_cache": "by_type",
    "max_memory_store_entries": 5000,
    "max_tenant_bytes": 0,
    "cleanup_interval_seconds": 300,
    "eviction_policy": "reject",
    "default_ttl_seconds": 3600,
    "min_ttl_seconds": 60,
    "max_ttl_seconds": 86_400,
    "max_depth": 50,
    "max_serialization_time_ms": 100,
    "max_compression_time_ms": 500,
    "slow_codec": "observe",
    "consensus_timeout_ms": 30_000,
    "max_context_throughput_mbps": 100,
    "required_compression_ratio": 0.9,
    "request_retention_seconds": 600,
    "tombstone_grace_seconds": 3600,
    "max_tombstones": 10_000,
    "event_window_entries": 1000,
    "audit_window_entries": 10_000,
    "touch_interval_seconds": 60,
    "inline_body_bytes": 32_768,
    "max_segments": 4096,
    "bus_max_entries": 100_000,
    "bus_max_payload_bytes": 65_536,
    "bus_history_seconds": 3600,
    "bus_hold_seconds": 30.0,
    "bus_max_deliveries": 5,
    "bus_low_every": 16,
    "bus_first_backoff_seconds": 1.0,
    "bus_longest_backoff_seconds": 60.0,
    "bus_max_dead_letters": 10_000,
    "bus_worker_idle_seconds": 3600,
    "max_history": 100,
    "call_timeout_seconds": 5.0,
    "connect_timeout_seconds": 2.0,
    "socket_timeout_seconds": 5.0,
    "max_connections": 32,
    "client_name": None,
    "durability": "memory",
    "replicas_to_wait": 1,
    "wait_timeout_ms": 1000,
    "server_appendfsync": None,
    "require_noeviction": True,
    "check_interval_seconds": 30,
    "initial_mode": "live",
    "metrics": True,
    "session_label": "bucket",
    "session_buckets": 32,
    "policies": dict(BUILT_IN_POLICIES),
}
# Lowest and highest value of each number, both allowed.
RANGES: dict[str, tuple[int, int]] = {
    "shards": (1, 1024),
    "max_context_size_bytes": (1, 268_435_456),
    "max_cache_size_entries": (0, 10_000_000),
    "max_cache_size_bytes": (0, 2**40),
    "max_memory_store_entries": (1, 100_000_000),
    "max_tenant_bytes": (0, 2**50),
    "cleanup_interval_seconds": (1, 86_400),
    "default_ttl_seconds": (1, 31_536_000),
    "min_ttl_seconds": (1, 31_536_000),
    "max_ttl_seconds": (1, 31_536_000),
    "max_depth": (1, 200),
    "max_serialization_time_ms": (1, 600_000),
    "max_compression_time_ms": (1, 600_000),
    "consensus_timeout_ms": (1, 3_600_000),
    "max_context_throughput_mbps": (0, 1_000_000),
    "bus_max_entries": (1, 100_000_000),
    "bus_max_payload_bytes": (0, 1_048_576),
    "bus_history_seconds": (0, 31_536_000),
    "bus_max_deliveries": (1, 1_000_000),
    "bus_low_every": (2, 1_000_000),
    "bus_max_dead_letters": (1, 10_000_000),
    "bus_worker_idle_seconds": (1, 31_536_000),
    "max_history": (1, 10_000),
    "required_compression_ratio": (0, 1),
    "request_retention_seconds": (1, 604_800),
    "tombstone_grace_seconds": (1, 31_536_000),
    "max_tombstones": (1, 10_000_000),
    "event_window_entries": (1, 10_000_000),
    "audit_window_entries": (1, 10_000_000),
    "touch_interval_seconds": (0, 86_400),
    "inline_body_bytes": (0, 1_048_576),
    "max_segments": (2, 100_000),
    "max_connections": (1, 65_535),
    "replicas_to_wait": (1, 16),
    "wait_timeout_ms": (1, 600_000),
    "check_interval_seconds": (1, 86_400),
    "session_buckets": (1, 4096),
}
SECONDS = [
    "call_timeout_seconds",
    "connect_timeout_seconds",
    "socket_timeout_seconds",
    "bus_hold_seconds",
    "bus_first_backoff_seconds",
    "bus_longest_backoff_seconds",
]
# What makes an extreme value of one setting agree with the others.
AGREEING: dict[tuple[str, int], dict[str, Any]] = {
    ("default_ttl_seconds", 1): {"min_ttl_seconds": 1},
    ("default_ttl_seconds", 31_536_000): {"max_ttl_seconds": 31_536_000},
    ("min_ttl_seconds", 31_536_000): {"default_ttl_seconds": 31_536_000, "max_ttl_seconds": 31_536_000},
    ("max_ttl_seconds", 1): {"default_ttl_seconds": 1, "min_ttl_seconds": 1},
    ("request_retention_seconds", 1): {"call_timeout_seconds": 0.5},
}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("LUKHAS_") or name == "CONTEXT_BUS_ACTIVE":
            monkeypatch.delenv(name)


def write(path: Path, text: str) -> Path:
    """Write a file and return its path."""
    path.write_text(text, encoding="utf-8")
    return path


# -- sources and their order -------------------------------------------------------------------------------


def test_defaults() -> None:
    """Without any source every setting has its documented default, and says so."""
    settings = Settings.load()
    assert dict(settings) == DEFAULTS
    assert {origin for _, origin in settings.origin().values()} == {"default"}


def test_file_over_default(tmp_path: Path) -> None:
    """A TOML and a JSON file are read alike and win over the defaults."""
    toml = write(tmp_path / "s.toml", 'max_depth = 11\ntenant = "shop"\ncall_timeout_seconds = 3\n')
    same = write(tmp_path / "s.json", '{"max_depth": 11, "tenant": "shop", "call_timeout_seconds": 3}')
    for path in (toml, same):
        settings = Settings.load(path)
        assert (settings.max_depth, settings.tenant, settings.call_timeout_seconds) == (11, "shop", 3.0)
        assert settings.origin()["max_depth"] == (11, f"file {path}")
        assert settings.origin()["prefix"] == ("lukhas", "default")


def test_file_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LUKHAS_CONFIG` names the file, and the argument `file` wins over it."""
    first, second = write(tmp_path / "a.toml", "max_depth = 11"), write(tmp_path / "b.toml", "max_depth = 12")
    monkeypatch.setenv("LUKHAS_CONFIG", str(first))
    assert Settings.load().origin()["max_depth"] == (11, f"file {first}")
    assert Settings.load(second).origin()["max_depth"] == (12, f"file {second}")


def test_environment_over_file_and_argument_over_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over the file, an argument over both."""
    path = write(tmp_path / "s.toml", "max_depth = 11")
    monkeypatch.setenv("LUKHAS_MAX_DEPTH", "12")
    assert Settings.load(path).origin()["max_depth"] == (12, "environment LUKHAS_MAX_DEPTH")
    assert Settings.load(path, max_depth=13).origin()["max_depth"] == (13, "argument")


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("shards", "4", 4),
        ("call_timeout_seconds", "0.5", 0.5),
        ("metrics", "off", False),
        ("require_noeviction", "1", True),
        ("eviction_policy", "evict_lru", "evict_lru"),
        ("server_appendfsync", "always", "always"),
        ("url", "redis://localhost", "redis://localhost"),
        ("client_name", "worker-1", "worker-1"),
    ],
)
def test_environment_text_becomes_the_type(name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is text and becomes the type of its setting."""
    monkeypatch.setenv(f"LUKHAS_{name.upper()}", text)
    assert Settings.load().origin()[name] == (value, f"environment LUKHAS_{name.upper()}")


@pytest.mark.parametrize("name, text", [("SHARDS", "many"), ("SHARDS", "0"), ("METRICS", "maybe"), ("DURABILITY", "x")])
def test_bad_environment_text(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that cannot be read is refused by the name of the setting and of the variable."""
    monkeypatch.setenv(f"LUKHAS_{name}", text)
    with pytest.raises(InvalidArgument, match=rf"^{name.lower()}: .*\(from environment LUKHAS_{name}\)$"):
        Settings.load()


def test_empty_and_foreign_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as not set, and a variable of another program is left alone."""
    for name in ("LUKHAS_SHARDS", "LUKHAS_CONFIG", "LUKHAS_URL", "CONTEXT_BUS_ACTIVE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("LUKHAS_TEST_REDIS_URL", "redis://localhost")
    assert dict(Settings.load()) == DEFAULTS


@pytest.mark.parametrize(
    "text, mode",
    [(t, "dry_run") for t in ("false", "0", "no", "OFF")] + [(t, "live") for t in ("true", "1", "yes", "on")],
)
def test_old_switch(text: str, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`CONTEXT_BUS_ACTIVE` gives the initial mode, over a file and under `LUKHAS_INITIAL_MODE`."""
    monkeypatch.setenv("CONTEXT_BUS_ACTIVE", text)
    path = write(tmp_path / "s.toml", 'initial_mode = "paused"')
    assert Settings.load(path).origin()["initial_mode"] == (mode, "environment CONTEXT_BUS_ACTIVE")
    monkeypatch.setenv("LUKHAS_INITIAL_MODE", "paused")
    assert Settings.load().origin()["initial_mode"] == ("paused", "environment LUKHAS_INITIAL_MODE")


def test_old_switch_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is neither true nor false is not guessed at."""
    monkeypatch.setenv("CONTEXT_BUS_ACTIVE", "perhaps")
    with pytest.raises(InvalidArgument, match="CONTEXT_BUS_ACTIVE is 'perhaps'"):
        Settings.load()


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name: str) -> None:
    """The ends of each range are allowed and the numbers beyond them refused, naming the setting and its source."""
    low, high = RANGES[name]
    for value in (low, high):
        assert getattr(Settings.load(**{name: value, **AGREEING.get((name, value), {})}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidArgument, match=rf"\b{name}: .*\(from argument\)") as refused:
            Settings.load(None, **{name: value})
        assert name in refused.value.fields["wrong"]


def test_every_number_has_a_tested_range() -> None:
    """No numeric setting is without a range."""
    numbers = {
        name for name, value in DEFAULTS.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert numbers == {*RANGES, *SECONDS}


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0, -1.0, 3600.5, float("nan"), float("inf"), "5", True, None])
def test_bad_seconds(name: str, value: Any) -> None:
    """A time must be a number over zero, up to an hour."""
    with pytest.raises(InvalidArgument, match=f"^{name}: "):
        Settings.load(**{name: value})


@pytest.mark.parametrize(
    "name, value",
    [
        ("prefix", ""),
        ("prefix", "a:b"),
        ("prefix", "a" * 65),
        ("tenant", "{t}"),
        ("tenant", "a\n"),
        ("tenant", 7),
        ("shards", "2"),
        ("shards", 2.0),
        ("shards", True),
        ("shards", None),
        ("url", 5),
        ("metrics", 1),
        ("client_name", "two words"),
        ("client_name", ""),
        ("eviction_policy", "evict_all"),
        ("slow_codec", "ignore"),
        ("durability", "disk"),
        ("server_appendfsync", "everysec"),
        ("initial_mode", "off"),
        ("session_label", "hash"),
        ("required_compression_ratio", float("nan")),
    ],
)
def test_bad_values(name: str, value: Any) -> None:
    """A value of another type or outside the allowed ones is refused by the name of the setting."""
    with pytest.raises(InvalidArgument, match=f"^{name}: ") as refused:
        Settings.load(**{name: value})
    assert refused.value.fields["field"] == name


@pytest.mark.parametrize(
    "arguments, field",
    [
        ({"min_ttl_seconds": 100, "max_ttl_seconds": 99}, "min_ttl_seconds"),
        ({"default_ttl_seconds": 59}, "default_ttl_seconds"),
        ({"default_ttl_seconds": 86_401}, "default_ttl_seconds"),
        ({"policies": {"session": {"ttl_seconds": 59}}}, "policies.session.ttl_seconds"),
        ({"policies": {"session": {"ttl_seconds": 86_401}}}, "policies.session.ttl_seconds"),
        ({"shards": 10, "max_memory_store_entries": 9}, "max_memory_store_entries"),
        ({"request_retention_seconds": 4}, "request_retention_seconds"),
    ],
)
def test_rules_between_settings(arguments: dict[str, Any], field: str) -> None:
    """Settings that are right alone and wrong together are refused, naming the one to change."""
    with pytest.raises(InvalidArgument, match=field) as refused:
        Settings.load(**arguments)
    assert refused.value.fields["field"] == field
