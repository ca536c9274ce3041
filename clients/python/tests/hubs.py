"""Hubs to test against: the real one, a process of its own, and one that a test plays."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import iroh

import irohub
from irohub import _link, _options

HERE = Path(__file__).parent
BINARY = Path(os.environ.get("IROHUB_BIN", HERE.parent.parent.parent / "bin" / "irohub")).absolute()

FAST = {"handshake_timeout": 5.0, "min_backoff": 0.01, "max_backoff": 0.2}

T = TypeVar("T")


async def soon(work: Awaitable[T]) -> T:
    """A failsafe; nothing that goes well takes as long."""
    return await asyncio.wait_for(work, 60)


class Happenings:
    """What the callbacks tell, in order."""

    def __init__(self) -> None:
        self._all: asyncio.Queue[object] = asyncio.Queue()

    def options(self, **more: Any) -> irohub.Options:
        return irohub.Options(
            on_disconnect=self._all.put_nowait,
            on_reconnect=lambda: self._all.put_nowait("reconnected"),
            on_refused=self._all.put_nowait,
            **{**FAST, **more},
        )

    async def next(self) -> object:
        return await soon(self._all.get())


class Case(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        # The test case turns on asyncio's debugging, which makes all of it three times as slow.
        asyncio.get_running_loop().set_debug(False)

        self.spokes: list[irohub.Spoke] = []
        self.events: dict[irohub.Spoke, irohub.Subscription] = {}  # the last subscription of each

    async def hub(self, *flags: str) -> Hub:
        """Starts a hub, which the end of the test stops."""
        hub = Hub("-stdin", *flags)
        await hub.start()
        self.addAsyncCleanup(hub.end)
        return hub

    async def slow_hub(self, *flags: str) -> Hub:
        """Starts a hub whose policy takes a while for each topic; see slowhub. It can be stopped and
        started anew, with its key."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        program = str(Path(folder.name) / "slowhub")
        if shutil.which("go") is None:
            if os.environ.get("CI"):
                self.fail("go is missing")
            self.skipTest("needs go, from https://go.dev/dl")
        build = ("go", "build", "-o", program, "./clients/python/tests/slowhub")
        await asyncio.to_thread(subprocess.run, build, cwd=HERE.parents[2], check=True)
        hub = Hub("-key", str(Path(folder.name) / "key"), *flags, command=(program,))
        await hub.start()
        self.addAsyncCleanup(hub.end)
        return hub

    async def spoke(self, peer: str, options: irohub.Options = irohub.Options(), *topics: str) -> irohub.Spoke:
        """Connects and subscribes. The end of the test closes the spoke, well or not."""
        spoke = await soon(irohub.connect(peer, options))
        self.spokes.append(spoke)
        self.addAsyncCleanup(close, spoke)
        if topics:
            await self.listen(spoke, *topics)
        return spoke

    async def listen(self, spoke: irohub.Spoke, *topics: str) -> irohub.Subscription:
        self.events[spoke] = await soon(spoke.subscribe(*topics))
        return self.events[spoke]

    async def next(self, spoke: irohub.Spoke) -> irohub.Event:
        """What comes next to the spoke's last subscription."""
        return await soon(anext(self.events[spoke]))


async def close(spoke: irohub.Spoke) -> None:
    try:
        await soon(spoke.close())
    except irohub.SpokeError:
        pass


class Hub:
    """A hub as a process: irohub hub, or another program that starts and ends as it does."""

    def __init__(self, *flags: str, command: tuple[str, ...] = (str(BINARY), "hub")) -> None:
        self._command = command
        self._flags = list(flags)
        self._lines: asyncio.Queue[Any] = asyncio.Queue()
        self._log = tempfile.TemporaryFile()

    async def end(self) -> None:
        if self.process.returncode is None:
            await self.stop()
        self._log.close()

    async def start(self, addr: str = "127.0.0.1:0") -> None:
        self._lines = asyncio.Queue()
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            *self._flags,
            "-addr",
            addr,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            limit=4 << 20,
            cwd=BINARY.parent,  # the native library is found from there
        )
        self._reader = asyncio.create_task(self._read())
        ready = await soon(self._lines.get())
        if ready is None:
            raise AssertionError(f"the hub did not start: {self.log()}")
        self.node: str = ready["node"]
        self.addr: str = ready["addrs"][0]
        self.ticket: str = ready["ticket"]
        self.peer = f"{self.node}@{self.addr}"

    async def _read(self) -> None:
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            self._lines.put_nowait(json.loads(line))
        self._lines.put_nowait(None)

    async def event(self) -> Any:
        """The next event that a spoke has published."""
        event = await soon(self._lines.get())
        if event is None:
            raise AssertionError(f"the hub has ended: {self.log()}")
        return event

    async def publish(self, *events: dict[str, Any]) -> None:
        assert self.process.stdin
        for event in events:
            # Without spaces: a hub keeps a payload's bytes, and some events are as large as may be.
            self.process.stdin.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
        await soon(self.process.stdin.drain())

    async def stop(self) -> None:
        """Ends the hub by a signal, and waits until it has."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = await soon(self.process.wait())
        except asyncio.TimeoutError:
            self.process.kill()
            status = await self.process.wait()
        await self._reader
        if self.process.stdin:
            self.process.stdin.close()
        if status:
            raise AssertionError(f"the hub ended with {status}: {self.log()}")

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


class PlayedHub:
    """A hub's end of connections, which a test plays by hand: for what the real one never does."""

    def __init__(self) -> None:
        self._conns: list[iroh.Connection] = []
        self._codes: list[int] = []  # other than 0, that spokes have given iroh

    async def start(self) -> None:
        options = iroh.EndpointOptions(preset=iroh.preset_minimal(), bind_addr="127.0.0.1:0", alpns=[_options.ALPN])
        self._endpoint = await iroh.Endpoint.bind(options)
        self.peer = f"{self._endpoint.id()}@{self._endpoint.bound_sockets()[0]}"
        close = iroh.Connection.close

        def noted(conn: iroh.Connection, code: int, reason: bytes) -> None:
            if code and not any(conn is own for own in self._conns):
                self._codes.append(code)
            close(conn, code, reason)

        self._noting = mock.patch.object(iroh.Connection, "close", noted)
        self._noting.start()

    async def end(self) -> None:
        self._noting.stop()
        await self._endpoint.close()

    async def accept(self) -> PlayedLink:
        """Takes the next spoke, up to its stream."""
        incoming = await soon(self._endpoint.accept_next())
        assert incoming
        conn = await soon((await incoming.accept()).connect())
        self._conns.append(conn)
        return PlayedLink(conn, await soon(conn.accept_bi()))

    async def closed(self, link: PlayedLink, code: int) -> None:
        """Waits until a spoke has closed its link, and checks with which code.

        The code goes in one packet, which nobody acknowledges. A few round trips later iroh has
        forgotten the connection, and answers with a reset, even if that packet got lost, or a busy
        machine did not come to send it. No spoke can help that: it has given iroh the code.
        """
        words = await link.closed()
        if code not in self._codes:
            raise AssertionError(f"a spoke has closed with {self._codes}, and not with {code}")
        self._codes.remove(code)
        error = _link.closed_error(words)
        if words != "reset by peer" and not (isinstance(error, irohub.CloseError) and error.code == code):
            raise AssertionError(f"the connection has ended with {words!r}, and not with {code}")

    def hang_up(self) -> None:
        for conn in self._conns:
            conn.close(0, b"")


class PlayedLink:
    def __init__(self, conn: iroh.Connection, stream: iroh.BiStream) -> None:
        self.conn = conn
        self._sending, self._receiving = stream.send(), stream.recv()
        self._frames = irohub.FrameReader()
        self._got: list[irohub.Event] = []

    async def next(self) -> irohub.Event:
        """The next envelope from the spoke."""
        while not self._got:
            data = await soon(self._receiving.read(65536))
            if not data:
                raise EOFError
            self._got += map(irohub.parse_envelope, self._frames.feed(data))
        return self._got.pop(0)

    async def send(self, type: str, id: str = "", payload: object = None) -> None:
        await self.send_bytes(irohub.encode(type, id, payload))

    async def send_bytes(self, data: bytes) -> None:
        await soon(self._sending.write_all(data))

    async def greet_all(self, count: int) -> list[irohub.Event]:
        """Acknowledges requests until they have named so many topics."""
        requests: list[irohub.Event] = []
        while sum(len(request.payload["topics"]) for request in requests) < count:
            requests.append(await self.greet())
        return requests

    async def greet(self) -> irohub.Event:
        """Acknowledges the first request."""
        request = await self.next()
        await self.send("__ack", request.id)
        return request

    async def end(self, code: int, reason: str = "") -> None:
        """Closes as a hub does: once all has arrived."""
        await soon(self._sending.finish())
        await soon(self._sending.stopped())
        self.conn.close(code, reason.encode())

    async def closed(self) -> str:
        """Waits until the spoke has closed the connection, and returns iroh's words."""
        return await soon(self.conn.closed())


class PlayedCase(Case):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.played = PlayedHub()
        await self.played.start()
        self.addAsyncCleanup(self.played.end)

    async def asyncTearDown(self) -> None:
        closing = [asyncio.create_task(close(spoke)) for spoke in self.spokes]
        await asyncio.sleep(0)  # each has begun
        self.played.hang_up()
        await soon(asyncio.gather(*closing))

    async def meet(self, options: irohub.Options = irohub.Options(), *topics: str) -> tuple[irohub.Spoke, PlayedLink]:
        """A spoke, and the hub's end of its link."""
        accepting = asyncio.create_task(self.played.accept())
        connecting = asyncio.create_task(self.spoke(self.played.peer, options))
        link = await accepting
        greeting = await link.greet()
        self.assertEqual((greeting.type, greeting.payload), ("__subscribe", {"topics": []}))
        self.assertTrue(greeting.id)
        spoke = await connecting
        if topics:
            subscribing = asyncio.create_task(self.listen(spoke, *topics))
            requests = await link.greet_all(len(topics))
            self.assertEqual([t for request in requests for t in request.payload["topics"]], list(topics))
            await soon(subscribing)
        return spoke, link

    async def greet_next(self, *topics: str) -> PlayedLink:
        """Takes the spoke that comes back, which subscribes to topics at once."""
        link = await self.played.accept()
        self.assertEqual((await link.greet()).payload, {"topics": sorted(topics)})
        return link
