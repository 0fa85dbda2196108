"""Real servers for tests: single, Sentinel and Cluster, a fault proxy, and whole-dataset dumps.

What belongs here: what a test of this package, or of a program that uses it, needs of the world outside. What does
not: fixtures of one test framework. Invariant: everything started here ends with the process that started it, and
listens on the loopback interface or a unix socket only. Nothing here is imported by the package itself.
"""

from lukhas_redis.testing.binaries import ServerBinary, default_binary, server_binaries
from lukhas_redis.testing.clusters import Cluster, start_cluster
from lukhas_redis.testing.dumps import Dump, KeyDump, assert_same, difference, dump, frozen_expiry
from lukhas_redis.testing.ports import free_port
from lukhas_redis.testing.proxy import TcpProxy
from lukhas_redis.testing.sentinels import SentinelGroup, start_sentinels
from lukhas_redis.testing.servers import RunningServer, start_server
from lukhas_redis.testing.waiting import wait_until, wait_until_async

__all__ = [
    "Cluster",
    "Dump",
    "KeyDump",
    "RunningServer",
    "SentinelGroup",
    "ServerBinary",
    "TcpProxy",
    "assert_same",
    "default_binary",
    "difference",
    "dump",
    "free_port",
    "frozen_expiry",
    "server_binaries",
    "start_cluster",
    "start_sentinels",
    "start_server",
    "wait_until",
    "wait_until_async",
]
