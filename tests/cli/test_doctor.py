"""doctor: every finding it can make, on servers made to deserve it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from lukhas_redis import ContextStore, Settings
from lukhas_redis.cli.diagnosis import rights
from lukhas_redis.cli.diagnosis import server as judging
from lukhas_redis.cli.diagnosis import tenant as tenants
from lukhas_redis.cli.diagnosis.finding import Finding
from lukhas_redis.cli.diagnosis.report import Report
from lukhas_redis.keys import KeySpace
from lukhas_redis.models import Stats
from lukhas_redis.testing import RunningServer, ServerBinary, assert_same, dump, wait_until
from tests.cli.running import Lukhas, Ran
from tests.deploy.deployed import Deployed, boot, make_secrets
from tests.fix_farm import Topology

QUICK = {"reach", "version", "deployment", "role", "eviction"}
SERVER = QUICK | {"memory", "persistence", "replication", "durability", "clock", "rights", "functions"}
TENANT = {"mode", "pressure", "backlog", "deadlines", "accounts"}


def findings(ran: Ran) -> dict[str, Any]:
    """The findings by the name of their check; one per check."""
    return {finding["check"]: finding for finding in ran.json["findings"]}


@pytest.fixture
def own(fresh_server: Any, capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., tuple[RunningServer, Lukhas]]:
    """Starts a server that the test may spoil, and `lukhas` for it."""

    def start(**config: str) -> tuple[RunningServer, Lukhas]:
        server: RunningServer = fresh_server(config={name.replace("_", "-"): value for name, value in config.items()})
        return server, Lukhas(capsysbinary, "--url", server.url)

    return start


def test_sound_on_every_topology(topology: Topology, tenant: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """On each topology every check is made, nothing fails, the exit code is 0, and not a key is changed."""
    with ContextStore.connect(topology.url, tenant=tenant, settings=Settings(metrics=False)) as store:
        store.preserve("s1", {"n": 1})
    lukhas = Lukhas(capsysbinary, "--url", topology.url, "--tenant", tenant)
    with topology.client() as client:
        before = dump(client, prefix=f"lukhas:{{{tenant}")
        ran = lukhas("doctor", "-o", "json")
        assert_same(before, dump(client, prefix=f"lukhas:{{{tenant}"))
    assert ran.code == 0, ran.out
    more = {"cluster": {"cluster"}, "sentinel": {"sentinels"}}.get(topology.kind, set())
    assert set(findings(ran)) == SERVER | TENANT | more
    assert ran.json["counts"]["fail"] == 0
    if topology.kind == "cluster":
        servers = {finding["server"] for finding in ran.json["findings"] if finding["check"] == "reach"}
        assert len(servers) == 3


def test_every_finding_that_is_not_ok_says_what_to_do(lukhas: Lukhas) -> None:
    """A warning or failure has an advice; the table shows the same findings as the JSON."""
    ran = lukhas("doctor", "-o", "json")
    assert all(finding["advice"] for finding in ran.json["findings"] if finding["status"] != "ok")
    rows = lukhas("doctor").out.splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [[f["status"], f["check"]] for f in ran.json["findings"]]


def test_quick_makes_only_the_quick_checks(lukhas: Lukhas) -> None:
    """`--quick` is what a health check needs, and no more."""
    ran = lukhas("doctor", "--quick", "-o", "json")
    assert ran.code == 0
    assert set(findings(ran)) == QUICK


def test_evicting_server_fails(own: Callable[..., tuple[RunningServer, Lukhas]]) -> None:
    """A server that evicts fails with the setting to change, and the tenant's part says the same; exit code 1."""
    _, lukhas = own(maxmemory_policy="allkeys-lru")
    ran = lukhas("doctor", "-o", "json")
    assert ran.code == 1
    found = findings(ran)
    assert found["eviction"]["status"] == found["tenant"]["status"] == "fail"
    assert "maxmemory-policy noeviction" in found["eviction"]["advice"]
    assert lukhas("doctor", "--quick").code == 1


def test_durability_and_persistence(own: Callable[..., tuple[RunningServer, Lukhas]], monkeypatch: Any) -> None:
    """Without an append-only file it warns and can give memory only; asking for more fails; with it, local is given."""
    server, lukhas = own()
    found = findings(lukhas("doctor", "-o", "json"))
    assert found["persistence"]["status"] == "warn"
    assert found["durability"]["found"] == "can give: memory"
    monkeypatch.setenv("LUKHAS_DURABILITY", "local")
    ran = lukhas("doctor", "-o", "json")
    assert (ran.code, findings(ran)["durability"]["status"]) == (1, "fail")
    server.config_set("appendonly", "yes")
    server.config_set("appendfsync", "always")
    wait_until(lambda: server.info("persistence")["aof_last_bgrewrite_status"] == "ok", what="the file is written")
    found = findings(lukhas("doctor", "-o", "json"))
    assert found["durability"] | {"server": None} == {
        "check": "durability",
        "status": "ok",
        "found": "can give: memory, local",
        "advice": "",
        "server": None,
    }


def test_replica_fails(own: Callable[..., tuple[RunningServer, Lukhas]], fresh_server: Any) -> None:
    """Pointed at a replica it fails and names the primary; a broken link is a failure of its own."""
    primary: RunningServer = fresh_server()
    server, lukhas = own()
    server.command("REPLICAOF", primary.host, str(primary.port))
    wait_until(lambda: server.info("replication")["master_link_status"] == "up", what="the replica follows")
    found = findings(lukhas("doctor", "-o", "json"))
    assert found["role"]["status"] == "fail"
    assert f"{primary.host}:{primary.port}" in found["role"]["advice"]
    assert found["replication"]["status"] == "ok"
    primary.kill9()
    wait_until(lambda: server.info("replication")["master_link_status"] == "down", what="the link is down")
    assert findings(lukhas("doctor", "-o", "json"))["replication"]["status"] == "fail"


def test_node_of_a_cluster_behind_a_plain_url_fails(cluster: Any, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """A cluster's node behind redis:// fails and names the URL to use."""
    node = cluster.primaries()[0]
    found = findings(Lukhas(capsysbinary, "--url", node.url)("doctor", "-o", "json"))
    assert found["deployment"]["status"] == "fail"
    assert "redis+cluster://" in found["deployment"]["advice"]


@pytest.mark.parametrize(
    "rules, status",
    [
        ("~lukhas:* +@all", "ok"),
        ("~lukhas:* +@read +@connection +@transaction +evalsha +script|load +info +time", "warn"),
        ("~lukhas:* +@all -hset -zadd", "fail"),
        ("~other:* +@all", "fail"),
        ("~lukhas:* +@all -multi", "warn"),
    ],
)
def test_rights(own: Callable[..., tuple[RunningServer, Lukhas]], rules: str, status: str) -> None:
    """A worker is ok, a reader a warning, missing commands or keys a failure, what cannot be asked a warning."""
    server, lukhas = own()
    server.command("ACL", "SETUSER", "u", "on", ">secret", *rules.split())
    url = f"redis://u:secret@{server.host}:{server.port}"
    ran = lukhas("--url", url, "doctor", "-o", "json")
    found = findings(ran)["rights"]
    assert found["status"] == status, found
    if "-hset" in rules:
        assert found["found"].endswith("may not run: hset, zadd")
    assert "secret" not in ran.out + ran.err


@pytest.fixture(scope="module")
def deployed(binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory) -> Generator[Deployed]:
    """A server with the shipped configuration and users."""
    booted = boot(binary, make_secrets(binary, tmp_path_factory.mktemp("secrets")))
    yield booted
    booted.server.close()


@pytest.mark.parametrize("user, rights_status", [("worker", "ok"), ("reader", "warn"), ("ops", "warn")])
def test_shipped_roles(
    deployed: Deployed, capsysbinary: pytest.CaptureFixture[bytes], user: str, rights_status: str
) -> None:
    """As each role of deploy/users.acl nothing but what its role cannot do is reported, and nothing fails."""
    Lukhas(capsysbinary, "--url", deployed.url("deploy")).json("functions", "load")
    ran = Lukhas(capsysbinary, "--url", deployed.url(user))("doctor", "-o", "json")
    found = findings(ran)
    assert found["rights"]["status"] == rights_status, found["rights"]
    assert ran.code == 0, [finding for finding in found.values() if finding["status"] == "fail"]
    assert found["functions"]["status"] == ("ok" if user == "ops" else "warn")
    assert deployed.password(user) not in ran.out + ran.err


def test_probe_covers_every_command_and_runs_none(server: RunningServer) -> None:
    """Every command of every script can be asked about, each form is complete, and asking leaves no key."""
    reading, writing = rights.needed()
    assert {"HSET", "XADD", "EVALSHA", "GET"} <= {*reading, *writing}
    with server.client() as client:
        for command in (*reading, *writing):
            pipe = client.connection_pool.get_connection()
            pipe.send_command("MULTI")
            assert pipe.read_response() == b"OK"
            pipe.send_command(*rights.probe(command, "lukhas:{probe-test}:probe"))
            assert pipe.read_response() == b"QUEUED", command
            pipe.send_command("DISCARD")
            pipe.read_response()
            client.connection_pool.release(pipe)
        assert not client.exists("lukhas:{probe-test}:probe")


def test_tenant_findings(lukhas: Lukhas, store: ContextStore, server: RunningServer) -> None:
    """A key made immortal, a body deleted by hand, a full tenant and a mode that is not live are each found."""
    kept, lost = store.preserve("s1", {}), store.preserve("s2", {})
    store.set_flag("max_entries", "2")
    store.set_mode("dry_run")
    keys = KeySpace("lukhas", store.tenant).root
    with server.client() as client:
        client.persist(keys.ctx(kept.context_id))
        client.delete(keys.body(lost.context_id))
    ran = lukhas("doctor", "-o", "json")
    found = findings(ran)
    assert ran.code == 1
    assert found["mode"]["status"] == "warn"
    assert {found[name]["status"] for name in ("pressure", "deadlines", "accounts")} == {"fail"}
    assert keys.ctx(kept.context_id) in found["deadlines"]["found"]


def test_another_library_is_a_warning(own: Callable[..., tuple[RunningServer, Lukhas]]) -> None:
    """No library is a warning that names the command; after `functions load` it is ok."""
    _, lukhas = own()
    assert "functions load" in findings(lukhas("doctor", "-o", "json"))["functions"]["advice"]
    lukhas.json("functions", "load")
    assert findings(lukhas("doctor", "-o", "json"))["functions"]["status"] == "ok"


def test_unreachable_server_is_a_finding_and_exit_5(own: Callable[..., tuple[RunningServer, Lukhas]]) -> None:
    """A server that is gone is one failed finding with the likely cause, and exit code 5, also with --quick."""
    server, lukhas = own()
    server.kill9()
    for words in (["doctor"], ["doctor", "--quick"]):
        ran = lukhas(*words, "-o", "json")
        assert ran.code == 5
        (found,) = ran.json["findings"]
        assert (found["check"], found["status"]) == ("reach", "fail")
        assert "is the server started" in found["advice"]


def test_wrong_password_is_exit_6(own: Callable[..., tuple[RunningServer, Lukhas]]) -> None:
    """Refused credentials are exit code 6, and the password is nowhere."""
    server, lukhas = own()
    ran = lukhas("--url", f"redis://nobody:hunter2@{server.host}:{server.port}", "doctor", "-o", "json")
    assert ran.code == 6
    assert "hunter2" not in ran.out + ran.err


HEALTHY = {"redis_version": "7.2.4", "valkey_version": "9.1.2", "role": "master", "redis_mode": "standalone"}


def report(skew_ms: float = 0.0, round_trip_ms: float = 0.1, **facts: str) -> Report:
    """A server's report, healthy but for `facts`."""
    return Report("s:1", round_trip_ms, skew_ms, {**HEALTHY, **facts}, [b"appendonly", b"no"])


@pytest.mark.parametrize(
    "check, status, given",
    [
        ("version", "fail", report(redis_version="6.2.14", valkey_version="")),
        ("version", "warn", report(valkey_version="7.2.5")),
        ("version", "ok", report()),
        ("reach", "warn", report(round_trip_ms=80.0)),
        ("clock", "warn", report(skew_ms=-1500.0)),
        ("memory", "warn", report(used_memory="950", maxmemory="1000")),
        ("memory", "ok", report(used_memory="100", maxmemory="1000")),
        ("persistence", "fail", report(aof_enabled="1", aof_last_write_status="err")),
        ("replication", "warn", report(slave0="ip=a,port=1,state=wait_bgsave,offset=0,lag=0")),
        ("replication", "warn", report(slave0="ip=a,port=1,state=online,offset=0,lag=60")),
        ("replication", "ok", report(slave0="ip=a,port=1,state=online,offset=0,lag=1")),
    ],
)
def test_verdicts_on_reports_no_server_here_gives(check: str, status: str, given: Report) -> None:
    """Old versions, slow links, wrong clocks, full memory, failing disks and late replicas are judged as documented."""
    made = {**{name: value for name, value in given.facts.items() if value}}
    given = Report(given.server, given.round_trip_ms, given.skew_ms, made, given.durability)
    found: list[Finding] = [
        *judging.quick(given, Settings(), clustered=False),
        *judging.thorough(given, Settings()),
    ]
    assert [finding.status for finding in found if finding.check == check] == [status]


def stats(**changes: Any) -> Stats:
    """A tenant at peace, but for `changes`."""
    calm: dict[str, Any] = {"tenant": "t", "mode": "live", "policy": "reject", "live": 1, "expired": 0, "bytes": 1}
    limits: dict[str, Any] = {"max_entries": 10, "max_bytes": 0, "pressure": 0.1, "totals": {}, "flags": {}}
    return Stats(**{**calm, **limits, **changes})


@pytest.mark.parametrize(
    "changes, status",
    [({"pressure": 0.86}, "warn"), ({"pressure": 1.0}, "fail"), ({"pressure": 1.0, "policy": "evict_lru"}, "warn")],
)
def test_pressure(changes: dict[str, Any], status: str) -> None:
    """Over 0.85 is a warning; a full tenant that refuses is a failure, one that evicts is not."""
    assert tenants.pressure(stats(**changes)).status == status


def test_backlog() -> None:
    """More than a thousand expired contexts in the accounts are a warning that names `sweep`."""
    found = tenants.backlog(stats(expired=1001))
    assert found.status == "warn"
    assert "sweep" in found.advice
    assert tenants.backlog(stats(expired=1000)).status == "ok"
