"""checksum_of: one checksum of the whole, however the data came to be and is kept."""

from __future__ import annotations

import pickle
from os import urandom
from typing import Any

import pytest

from lukhas_redis import ContextStore, Settings
from lukhas_redis.ops.restore import checksum_of
from lukhas_redis.testing import RunningServer

ITEMS: list[Any] = [b"\xff", (1, 2), {"x", "y"}, {"a": [frozenset({3})]}, 2**80, urandom(3000)]


def _store(server: RunningServer, tenant: str, **settings: Any) -> ContextStore:
    return ContextStore.connect(server.url, tenant=tenant, settings=Settings(metrics=False, **settings))


def test_the_checksum_of_a_body_alone_is_that_of_the_metadata(server: RunningServer, tenant: str) -> None:
    """Where nothing was appended, it is the checksum that was stored."""
    with _store(server, tenant) as store:
        kept = store.preserve("s", {"list": ITEMS})
        assert checksum_of(store.restore(kept.context_id)) == kept.checksum


@pytest.mark.parametrize("near", ["off", "on"])
@pytest.mark.parametrize("shared", [False, True])
def test_parts_and_folds_do_not_alter_it(server: RunningServer, tenant: str, near: str, shared: bool) -> None:
    """Appended, patched, folded, or preserved at once: equal data has an equal checksum, as a view and as a copy."""
    with _store(server, tenant, near_cache=near) as store:
        grown = store.preserve("s", {"list": [], "n": 1, "gone": 0})
        for item in ITEMS:
            store.append(grown.context_id, "/list", [item])
        store.patch(grown.context_id, {"n": 2, "gone": None})
        parts = store.restore(grown.context_id, shared=shared)
        assert parts.metadata.segments == 7
        assert checksum_of(parts) != parts.metadata.checksum
        whole = store.preserve("s", {"list": ITEMS, "n": 2})
        assert checksum_of(parts) == whole.checksum
        for _ in range(6):
            store.append(grown.context_id, "/list", [urandom(3000)])
        before = store.restore(grown.context_id, shared=shared)  # this one folds
        after = store.restore(grown.context_id, shared=shared)
        assert (before.metadata.segments, after.metadata.segments) == (13, 0)
        assert checksum_of(before) == checksum_of(after) == after.metadata.checksum


def test_data_over_the_default_limits_has_one(server: RunningServer, tenant: str) -> None:
    """A store that allows deeper data gets its checksum, too."""
    deep: Any = []
    for _ in range(70):
        deep = [deep]
    with _store(server, tenant, max_depth=100) as store:
        kept = store.preserve("s", {"deep": deep})
        assert checksum_of(pickle.loads(pickle.dumps(store.restore(kept.context_id)))) == kept.checksum
