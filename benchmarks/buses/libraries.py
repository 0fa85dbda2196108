"""Other libraries that pass events or tasks on through Redis, asyncio all of them.

What belongs here: how the documentation of each says to use it, with its defaults but for the concurrency and results,
which nobody keeps. What does not: measuring. Invariant: none of them is imported before it is opened.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from benchmarks.buses.plain import Plain
from benchmarks.buses.side import Guarantees, Handle, Payload
from benchmarks.optional import needed


class FastStream(Plain):
    """`RedisBroker` with a subscriber to a stream, in a group, with as many workers as asked for."""

    name: ClassVar[str] = "FastStream"
    package: ClassVar[str] = "faststream"
    said: ClassVar[Guarantees] = Guarantees(
        "after the handler",
        "by a second subscriber (min_idle_time)",
        "none",
        "of the stream with 1 worker",
        "none",
        "none",
    )
    stream: ClassVar[str] = "faststream"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._broker: Any = None

    async def prepare(self) -> None:
        """Its own group would begin with what comes after it was made."""
        self._connect()
        await super().prepare()

    async def open(self) -> None:
        """`connect`."""
        await self._connect().connect()

    async def emit(self, payload: Payload, priority: str = "normal") -> None:  # noqa: ARG002 - the interface
        """`publish`."""
        await self._broker.publish(payload, stream=self.stream)

    async def work(self, handle: Handle, concurrency: int) -> None:
        """`subscriber` and `start`."""
        kind = needed("faststream.redis", self.package).StreamSub

        async def handler(body: dict[str, Any]) -> None:
            handle(body)

        stream = kind(self.stream, group=self.group, consumer="one")
        self._broker.subscriber(stream=stream, max_workers=concurrency)(handler)
        await self._broker.start()
        await asyncio.Event().wait()

    def _connect(self) -> Any:
        self._broker = needed("faststream.redis", self.package).RedisBroker(self.url, logger=None)
        return self._broker


class Taskiq(Plain):
    """`RedisStreamBroker` with a task, and the receiver that its worker command runs."""

    name: ClassVar[str] = "taskiq-redis"
    package: ClassVar[str] = "taskiq-redis"
    said: ClassVar[Guarantees] = Guarantees(
        "after the task", "claimed after 10 min, running or not", "none", "none", "none", "none"
    )
    stream: ClassVar[str] = "taskiq"
    group: ClassVar[str] = "taskiq"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._broker: Any = None
        self._task: Any = None
        self._handle: Handle = lambda _: None

    async def prepare(self) -> None:
        """Its own group would begin with what comes after it was made."""
        self._connect()
        await super().prepare()

    async def open(self) -> None:
        """`startup`."""
        await self._connect().startup()

    async def emit(self, payload: Payload, priority: str = "normal") -> None:  # noqa: ARG002 - the interface
        """`kiq`."""
        await self._task.kiq(payload)

    async def work(self, handle: Handle, concurrency: int) -> None:
        """`Receiver.listen`."""
        self._handle = handle
        receiver = needed("taskiq.receiver", "taskiq").Receiver(self._broker, max_async_tasks=concurrency)
        await receiver.listen(asyncio.Event())

    def _connect(self) -> Any:
        self._broker = needed("taskiq_redis", self.package).RedisStreamBroker(self.url)

        async def task(payload: dict[str, Any]) -> None:
            self._handle(payload)

        self._task = self._broker.register_task(task, task_name="bench")
        return self._broker


class Arq(Plain):
    """A job on the default queue, and its worker; it needs an older redis-py than this package."""

    name: ClassVar[str] = "arq"
    package: ClassVar[str] = "arq"
    said: ClassVar[Guarantees] = Guarantees(
        "after the job", "started again after 310 s (job_timeout)", "none", "none", "none", "none"
    )
    python: ClassVar[str] = "BENCH_ARQ_PYTHON"
    poll_seconds: ClassVar[float] = 0.5

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._pool: Any = None

    async def prepare(self) -> None:
        """Nothing: the queue is there for all."""
        needed("arq", self.package)

    async def open(self) -> None:
        """`create_pool`."""
        arq = needed("arq", self.package)
        self._pool = await arq.create_pool(self._settings())

    async def emit(self, payload: Payload, priority: str = "normal") -> None:  # noqa: ARG002 - the interface
        """`enqueue_job`."""
        await self._pool.enqueue_job("bench", payload)

    async def work(self, handle: Handle, concurrency: int) -> None:
        """`Worker.async_run`."""
        module = needed("arq.worker", self.package)

        async def job(_: dict[str, Any], payload: dict[str, Any]) -> None:
            handle(payload)

        worker = module.Worker(
            [module.func(job, name="bench", keep_result=0)],
            redis_settings=self._settings(),
            max_jobs=concurrency,
            handle_signals=False,
            poll_delay=self.poll_seconds,
        )
        await worker.async_run()

    async def unfinished(self) -> int:
        """What is still in the queue: it leaves it when it has run."""
        return int(await self.client.zcard("arq:queue"))

    def _settings(self) -> Any:
        return needed("arq.connections", self.package).RedisSettings.from_dsn(self.url)


class ArqQuick(Arq):
    """The same, looking at its queue 50 times as often as it does by itself."""

    name: ClassVar[str] = "arq, poll_delay=0.01"
    poll_seconds: ClassVar[float] = 0.01


class Streaq(Plain):
    """A task and its worker, over its own client."""

    name: ClassVar[str] = "streaq"
    package: ClassVar[str] = "streaq"
    said: ClassVar[Guarantees] = Guarantees(
        "after the task", "claimed after 60 s without a sign of life", "any number, strict", "none", "none", "none"
    )

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._worker: Any = None
        self._task: Any = None
        self._handle: Handle = lambda _: None
        self._stack = AsyncExitStack()

    async def prepare(self) -> None:
        """Nothing: the queue is there for all."""
        needed("streaq", self.package)

    async def open(self) -> None:
        """Enter the worker, without running it."""
        await self._stack.enter_async_context(self._connect(1))

    async def emit(self, payload: Payload, priority: str = "normal") -> None:  # noqa: ARG002 - the interface
        """`enqueue`."""
        await self._task.enqueue(payload)

    async def work(self, handle: Handle, concurrency: int) -> None:
        """`run_async`."""
        self._handle = handle
        await self._connect(concurrency).run_async()

    async def unfinished(self) -> int:
        """What is still in the stream: it is deleted there when it has run."""
        return int(await self.client.xlen(self._worker.stream_key + "normal"))

    def _connect(self, concurrency: int) -> Any:
        make = needed("streaq", self.package).Worker
        self._worker = make(redis_url=self.url, concurrency=concurrency, handle_signals=False)

        async def task(payload: dict[str, Any]) -> None:
            self._handle(payload)

        self._task = self._worker.task(task, name="bench", ttl=0, silent=True)
        return self._worker
