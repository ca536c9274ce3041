"""The example as a process, which other tests drive too."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.hubs import HERE, Case, soon

EXAMPLE = HERE.parent / "example.py"
PIPE = asyncio.subprocess.PIPE


class Example:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> Any:
        assert self.process.stdout
        line = await soon(self.process.stdout.readline())
        return json.loads(line) if line else None

    async def write(self, *lines: str) -> None:
        assert self.process.stdin
        self.process.stdin.write("".join(line + "\n" for line in lines).encode())
        await soon(self.process.stdin.drain())

    async def end(self) -> tuple[int, str]:
        """Ends its input, and returns its status and what it said."""
        assert self.process.stdin and self.process.stderr
        self.process.stdin.close()
        words = await soon(self.process.stderr.read())
        return await soon(self.process.wait()), words.decode()


class Examples(Case):
    async def example(self, *args: str) -> Example:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", str(EXAMPLE), *args, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=4 << 20
        )

        async def end() -> None:
            if process.returncode is None:
                process.kill()
            await process.communicate()

        self.addAsyncCleanup(end)
        return Example(process)

    async def test_sub(self) -> None:
        hub = await self.hub()
        sub = await self.example("-n", "3", hub.ticket, "chat:*", "file")
        ready = await sub.line()
        self.assertIs(ready["ready"], True)
        await hub.publish({"type": "chat", "id": "é", "payload": {"a": [1]}}, {"type": "other"}, {"type": "file"})
        await hub.publish({"type": "chat", "payload": None}, {"type": "chat", "payload": "not that"})
        self.assertEqual(await sub.line(), {"type": "chat", "id": "é", "payload": {"a": [1]}})
        self.assertEqual(await sub.line(), {"type": "file"})
        self.assertEqual(await sub.line(), {"type": "chat", "payload": None})
        self.assertIsNone(await sub.line())
        self.assertEqual(await sub.end(), (0, ""))

    async def test_pub(self) -> None:
        hub = await self.hub()
        with tempfile.TemporaryDirectory() as folder:
            key = str(Path(folder) / "key")
            pub = await self.example("--pub", "--key", key, hub.peer)
            node = (await pub.line())["node"]
            await pub.write('{"type":"chat","id":"a","payload":[1.50,null]}', '{"type":"chat"}')
            self.assertEqual((await pub.end())[0], 0)
            want = {"type": "chat", "id": "a", "from": node, "payload": [1.5, None]}
            self.assertEqual(await hub.event(), want)
            self.assertEqual(await hub.event(), {"type": "chat", "from": node})
            again = await self.example("--pub", "--key", key, hub.peer)
            self.assertEqual((await again.line())["node"], node)
            self.assertEqual((await again.end())[0], 0)

    async def test_both_at_once(self) -> None:
        hub = await self.hub("-forward")
        one = await self.example("--pub", "-n", "1", hub.peer, "ping")
        two = await self.example("--pub", "-n", "1", hub.peer, "pong")
        node = (await one.line())["node"]
        await two.line()
        await one.write('{"type":"pong","payload":1}')
        self.assertEqual(await two.line(), {"type": "pong", "from": node, "payload": 1})
        await two.write('{"type":"ping","payload":2}')
        self.assertEqual((await one.line())["payload"], 2)
        self.assertEqual(await one.end(), (0, ""))
        self.assertEqual(await two.end(), (0, ""))

    async def test_bad_line(self) -> None:
        hub = await self.hub()
        for bad in ("{", '{"type":"__ack"}', '{"id":"a"}', ""):
            pub = await self.example("--pub", hub.peer)
            await pub.write('{"type":"good"}', bad, '{"type":"never"}')
            status, words = await pub.end()
            self.assertEqual(status, 2)
            self.assertIn("line 2: ", words)
            self.assertEqual((await hub.event())["type"], "good")

    async def test_wrong_usage(self) -> None:
        for args in (["x"], ["x", "chat"], ["-n", "1", "--pub", "x"]):
            example = await self.example(*args)
            status, words = await example.end()
            self.assertEqual(status, 2)
            self.assertNotIn("Traceback", words)

    async def test_refusal(self) -> None:
        hub = await self.hub()
        example = await self.example(hub.peer, "direct:*")
        status, words = await example.end()
        self.assertEqual(status, 1)
        self.assertIn("forbidden", words)

    async def test_signal(self) -> None:
        hub = await self.hub()
        for count, status in (("0", 0), ("1", 1)):
            example = await self.example("-n", count, hub.peer, "chat")
            await example.line()
            example.process.send_signal(signal.SIGTERM)
            self.assertEqual(await example.end(), (status, ""))
