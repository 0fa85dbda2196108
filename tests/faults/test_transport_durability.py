"""Durability levels against what a server is configured to give.

What belongs here: refusals before the first durable write, and confirmations after each. What does not: what a level
survives (kill -9 loops of the store).
"""

from __future__ import annotations

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.errors import DurabilityUnknown, ServerUnsuitable
from lukhas_redis.testing import RunningServer, wait_until
from tests.fix_servers import StartsServers
from tests.unit.transport.scripts_for_tests import asking, asking_all, count_call, counter_key, take_call
from tests.unit.transport.shells import Shell, on_both_shells

pytestmark = [pytest.mark.faults, on_both_shells]
DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.mark.parametrize(
    "config,setting",
    [({"appendonly": "no"}, "appendonly"), ({"appendonly": "yes", "appendfsync": "everysec"}, "appendfsync")],
)
@pytest.mark.parametrize("level", ["local", "replicated"])
def test_a_level_the_server_cannot_give_is_refused_before_anything_is_written(
    shell: type[Shell], fresh_server: StartsServers, tenant: str, config: dict[str, str], setting: str, level: str
) -> None:
    """Without an append-only file that is synced always, a durable write is refused and names the setting."""
    server = fresh_server(config=config)
    with shell(server.url) as used, pytest.raises(ServerUnsuitable) as caught:
        used.run(asking(count_call(tenant, "a", durability=level)))
    assert caught.value.fields["setting"] == setting
    assert f"CONFIG SET {setting}" in str(caught.value)
    assert server.admin.exists(counter_key(tenant)) == 0


def test_a_durable_server_confirms(shell: type[Shell], fresh_server: StartsServers, tenant: str) -> None:
    """With appendfsync always, writes at level local are answered, small and staged, alone and among others."""
    server = fresh_server(config=DURABLE)
    with shell(server.url) as used:
        assert used.run(asking(count_call(tenant, "a", durability="local"))) == 1
        assert used.run(asking(take_call(tenant, b"x" * 70_000, durability="local"))) == 70_000
        both = used.run(asking_all(count_call(tenant, "b", durability="local"), count_call(tenant, "c")))
        assert sorted(both) == [2, 3]
        with pytest.raises(Refused):
            used.run(asking(count_call(tenant, "d", by=101, durability="local")))


def test_a_setting_changed_behind_our_back_is_noticed_with_the_next_write(
    shell: type[Shell], fresh_server: StartsServers, tenant: str
) -> None:
    """A server that stops syncing makes the very next durable write DurabilityUnknown: applied, not confirmed."""
    server = fresh_server(config=DURABLE)
    with shell(server.url) as used:
        assert used.run(asking(count_call(tenant, "a", durability="local"))) == 1
        server.config_set("appendfsync", "everysec")
        with pytest.raises(DurabilityUnknown, match="appendfsync is everysec") as caught:
            used.run(asking(count_call(tenant, "b", durability="local")))
    assert caught.value.fields["request_id"] == "b"
    assert server.admin.get(counter_key(tenant)) == b"2"


def test_a_new_connection_is_checked_again(shell: type[Shell], fresh_server: StartsServers, tenant: str) -> None:
    """After a reconnect the settings are looked at before the next durable write, not after it."""
    server = fresh_server(config=DURABLE)
    with shell(server.url) as used:
        assert used.run(asking(count_call(tenant, "a", durability="local"))) == 1
        server.config_set("appendfsync", "everysec")
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert used.run(asking(count_call(tenant, "c"))) == 2
        with pytest.raises(ServerUnsuitable, match="appendfsync"):
            used.run(asking(count_call(tenant, "b", durability="local")))
    assert server.admin.get(counter_key(tenant)) == b"2"


def test_the_operator_may_vouch_where_config_is_denied(
    shell: type[Shell], fresh_server: StartsServers, tenant: str
) -> None:
    """Without +config|get a durable write is refused with both remedies; vouching for the setting is one of them."""
    server = fresh_server(config=DURABLE)
    server.command("ACL", "SETUSER", "worker", "on", ">pw", "~*", "+@all", "-config")
    url = f"redis://worker:pw@{server.host}:{server.port}"
    with shell(url) as used, pytest.raises(ServerUnsuitable) as caught:
        used.run(asking(count_call(tenant, "a", durability="local")))
    assert "+config|get" in str(caught.value)
    assert 'server_appendfsync="always"' in str(caught.value)
    with shell(url, server_appendfsync="always") as used:
        assert used.run(asking(count_call(tenant, "a", durability="local"))) == 1


def test_replicas_confirm_or_the_outcome_says_so(shell: type[Shell], fresh_server: StartsServers, tenant: str) -> None:
    """Level replicated is answered while a replica follows, and DurabilityUnknown with the count when it is frozen."""
    primary, replica = fresh_server(config=DURABLE), fresh_server()
    replica.command("REPLICAOF", primary.host, primary.port)
    wait_until(lambda: _in_step(primary), what="a replica in step")
    with shell(primary.url, wait_timeout_ms=500, call_timeout_seconds=20) as used:
        assert used.run(asking(count_call(tenant, "a", durability="replicated"))) == 1
        assert replica.admin.get(counter_key(tenant)) == b"1"
        replica.pause()
        with pytest.raises(DurabilityUnknown, match="0 of 1 replicas") as caught:
            used.run(asking(count_call(tenant, "b", durability="replicated")))
        replica.resume()
    assert caught.value.fields["request_id"] == "b"
    assert primary.admin.get(counter_key(tenant)) == b"2"


def _in_step(primary: RunningServer) -> bool:
    """WAIT says nothing about a connection that has not written."""
    with primary.client(single_connection_client=True) as client:
        client.set("written", 1)
        acknowledged: int = client.wait(1, 100)
    return acknowledged == 1
