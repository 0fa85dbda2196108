"""Replies that do not arrive: the effect happens once, and what is not known is called unknown.

What belongs here: broken and silent connections to a healthy server. What does not: servers that refuse.
"""

from __future__ import annotations

from threading import Thread

import pytest

from lukhas_redis.errors import OutcomeUnknown, Unavailable
from lukhas_redis.testing import RunningServer, TcpProxy, wait_until
from tests.unit.transport.scripts_for_tests import (
    LOOK,
    asking,
    asking_all,
    count_call,
    counter_key,
    read,
    simple_call,
    snapshot,
    take_call,
)
from tests.unit.transport.shells import Shell, on_both_shells

pytestmark = [pytest.mark.faults, on_both_shells]


@pytest.mark.parametrize("times", [1, 3])
def test_lost_replies_leave_one_effect(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str, times: int
) -> None:
    """A call whose reply is lost once or three times returns the first answer, and its effect happened once."""
    with shell(proxy.url_for(server)) as used:
        assert used.run(asking(count_call(tenant, "before"))) == 1
        proxy.drop_replies(times, command="EVALSHA")
        assert used.run(asking(count_call(tenant, "lost"))) == 2
    assert proxy.dropped == times
    assert server.admin.get(counter_key(tenant)) == b"2"


def test_a_call_that_must_not_be_repeated_is_unknown_at_once(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """Without a request id one lost reply is reported as unknown, and the script ran once."""
    with shell(proxy.url_for(server)) as used:
        used.run(asking(simple_call(LOOK, tenant)))
        used.run(asking(count_call(tenant, "loads the script")))
        proxy.drop_replies(1, command="EVALSHA")
        with pytest.raises(OutcomeUnknown) as caught:
            used.run(asking(count_call(tenant, None)))
    assert caught.value.retryable
    assert caught.value.fields["request_id"] is None
    assert server.admin.get(counter_key(tenant)) == b"2"


def test_lost_replies_to_reads_are_asked_for_again(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """Reads, plain or by script or both of one moment, survive lost replies."""
    server.admin.set(counter_key(tenant), 7)
    with shell(proxy.url_for(server)) as used:
        used.ready()
        for request, wanted in (
            (simple_call(LOOK, tenant), 7),
            (read(tenant, "GET", counter_key(tenant)), b"7"),
            (snapshot(tenant), [7, b"7"]),
        ):
            assert used.run(asking(request)) == wanted
            proxy.drop_replies(1)
            assert used.run(asking(request)) == wanted
    assert proxy.dropped == 3


def test_a_reset_in_the_middle_of_a_reply_is_repeated(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """A connection cut inside a large reply is a lost reply: the read is repeated and whole."""
    body = bytes(range(256)) * 4096
    server.admin.set(counter_key(tenant), body)
    with shell(proxy.url_for(server)) as used:
        assert used.run(asking(read(tenant, "STRLEN", counter_key(tenant)))) == len(body)
        proxy.cut_after(100_000)
        healing = Thread(target=_heal_after_cut, args=(proxy,))
        healing.start()
        assert used.run(asking(read(tenant, "GET", counter_key(tenant)))) == body
        healing.join()


def _heal_after_cut(proxy: TcpProxy) -> None:
    """The proxy cuts every reply past its budget; the next attempt shall find it healthy."""
    connections = proxy.connections
    wait_until(lambda: proxy.connections > connections, what="a new connection after the cut")
    proxy.cut_after(None)


def test_a_staged_payload_whose_reply_is_lost_is_sent_again_as_a_whole(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """A staged call repeated after a lost reply stages its payload again and leaves no stage behind."""
    payload = bytes(range(256)) * 4000
    with shell(proxy.url_for(server)) as used:
        assert used.run(asking(take_call(tenant, payload, "first"))) == len(payload)
        proxy.drop_replies(1, command="EVALSHA")
        assert used.run(asking(take_call(tenant, payload, "second"))) == len(payload)
    assert server.admin.get(f"t:{{{tenant}}}:body") == payload
    assert server.admin.exists(f"t:{{{tenant}}}:stage:second") == 0


def test_one_lost_reply_in_a_pipeline_spoils_no_other_call(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """Twenty calls sent together, a reply in their midst lost: each has its own answer and one effect."""
    with shell(proxy.url_for(server)) as used:
        used.run(asking(count_call(tenant, "first")))
        proxy.drop_replies(1, command="EVALSHA")
        calls = [count_call(tenant, f"id{number}") for number in range(20)]
        replies = used.run(asking_all(*calls))
        assert sorted(replies) == list(range(2, 22))
        assert used.run(asking_all(*calls)) == replies
    assert server.admin.get(counter_key(tenant)) == b"21"


def test_a_refused_connection_is_unavailable_and_heals(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """Nobody listens: nothing was applied; somebody listens again: the next call works."""
    with shell(proxy.url_for(server), call_timeout_seconds=1.0) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        proxy.refuse()
        with pytest.raises(Unavailable, match="not applied"):
            used.run(asking(count_call(tenant, "b")))
        proxy.accept()
        assert used.run(asking(count_call(tenant, "c"))) == 2


def test_a_silent_server_makes_writes_unknown_and_reads_unavailable(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """No reply by the deadline: a write may have happened, a read has not; the same request id then tells."""
    with shell(proxy.url_for(server), call_timeout_seconds=1.0) as used:
        used.run(asking(count_call(tenant, "a")))
        used.run(asking(read(tenant, "GET", counter_key(tenant))))
        proxy.pause()
        with pytest.raises(OutcomeUnknown) as caught:
            used.run(asking(count_call(tenant, "b")))
        with pytest.raises(Unavailable):
            used.run(asking(read(tenant, "GET", counter_key(tenant))))
        proxy.resume()
        assert caught.value.fields["request_id"] == "b"
        assert used.run(asking(count_call(tenant, "b"))) == 2
    assert server.admin.get(counter_key(tenant)) == b"2"


def test_a_connection_that_died_while_idle_is_not_used(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """Calls that cannot be repeated survive connections that were closed between two calls."""
    with shell(proxy.url_for(server)) as used:
        used.run(asking(count_call(tenant, "a")))
        proxy.cut()
        wait_until(lambda: proxy.open_connections == 0, what="the cut")
        assert used.run(asking(count_call(tenant, None))) == 2


def test_a_best_effort_call_is_tried_once(
    shell: type[Shell], server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """A best effort call whose server refuses connections ends with the first refusal."""
    with shell(proxy.url_for(server)) as used:
        assert used.run(asking(count_call(tenant, "a", best_effort=True))) == 1
        proxy.refuse()
        with pytest.raises(Unavailable):
            used.run(asking(count_call(tenant, "b", best_effort=True)))
