"""The spoke plays every script of docs/vectors/sessions.json and docs/vectors/clients.json, which say how they
are written. The test is the hub, and the application at the spoke."""

from __future__ import annotations

import asyncio
import json
import re
import unittest
from collections import defaultdict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import iroh

import irohub
from tests.hubs import Case, PlayedHub, PlayedLink, close, soon

VECTORS = Path(__file__).parents[3] / "docs" / "vectors"
SCRIPTS: list[dict[str, Any]] = [
    script for name in ("sessions", "clients") for script in json.loads((VECTORS / f"{name}.json").read_bytes())["spoke"]
]
BESIDES = {"silent", "topics", "as", "or_closed", "sub"}  # what belongs to a verb


class Link:
    """The hub's end of a connection. It answers what scripts leave to the player."""

    def __init__(self, played: PlayedLink, silent: bool) -> None:
        self.played = played
        self.silent = silent
        self.got: asyncio.Queue[irohub.Event | None] = asyncio.Queue()  # None: the end of the stream
        self.held: asyncio.Queue[str] = asyncio.Queue()
        self.writing = asyncio.Lock()
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        try:
            while True:
                frame = await self.played.next()
                empty = frame.type == "__subscribe" and topics(frame) == []
                if not empty and frame.type != "__unsubscribe":
                    self.got.put_nowait(frame)
                elif empty and self.silent:
                    self.held.put_nowait(frame.id)
                elif frame.id:
                    await self.acknowledge(frame.id)
        except EOFError:
            self.got.put_nowait(None)
        except iroh.IrohError:
            pass  # closed: the script tells how

    async def acknowledge(self, id: str) -> None:
        await self.send(irohub.encode("__ack", id))

    async def send(self, data: bytes) -> None:
        async with self.writing:
            await self.played.send_bytes(data)


def topics(request: irohub.Event) -> list[str]:
    assert isinstance(request.payload, dict), request
    return [request.payload["topic"]] if "topic" in request.payload else list(request.payload["topics"])


class Sessions(Case):
    async def play(self, script: dict[str, Any]) -> None:
        self.links: list[Link] = []
        self.ids: dict[str, list[str]] = {}
        self.may: list[Any] = []
        self.told: asyncio.Queue[object] = asyncio.Queue()  # errors of lost connections; "back"
        self.subs: dict[str, irohub.Subscription] = {}
        self.came: dict[str, asyncio.Queue[irohub.Event | irohub.SpokeError | None]] = defaultdict(asyncio.Queue)
        self.states: list[irohub.State] = []
        options = irohub.Options(
            handshake_timeout=30,
            min_backoff=0.01,
            max_backoff=0.2,
            on_disconnect=self.told.put_nowait,
            on_reconnect=lambda: self.told.put_nowait("back"),
            on_state=self.states.append,
            **script.get("options", {}),
        )
        self.played = PlayedHub()
        await self.played.start()
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self.start("connected", self.spoke(self.played.peer, options))
        self.app: irohub.Spoke | None = None
        try:
            for n, step in enumerate(script["steps"]):
                (verb,) = step.keys() - BESIDES
                try:
                    await soon(getattr(self, f"do_{verb}")(step[verb], step))
                except Exception as error:
                    raise AssertionError(f"step {n + 1}, {step}: {error!r}") from error
        finally:
            for task in (*self.tasks.values(), *(link.reading for link in self.links)):
                task.cancel()
            closing = [asyncio.create_task(close(spoke)) for spoke in self.spokes]
            await asyncio.sleep(0)  # each has begun
            self.played.hang_up()
            await asyncio.gather(*self.tasks.values(), *closing, return_exceptions=True)
            await self.played.end()

    def text(self, frame: Any) -> list[str]:
        """The frame's text, once for each id that it stands for."""
        text = frame if isinstance(frame, str) else json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
        named = re.search(r"<id:(\w+)>", text)
        texts = [text.replace(named[0], id) for id in self.ids[named[1]]] if named else [text]
        return [re.sub(r"<([^<>]+)\*([0-9]+)>", lambda found: found[1] * int(found[2]), text) for text in texts]

    def event(self, frame: Any) -> Any:
        return json.loads(self.text(frame)[0])

    def same(self, event: irohub.Event, want: Any) -> bool:
        got = {"type": event.type, "id": event.id, "from": event.sender, "payload": event.payload}
        if event.json is None:
            del got["payload"]
        there = {name: value for name, value in got.items() if value or name == "payload"}
        return bool(there == self.event(want))

    # ---- the hub

    @property
    def link(self) -> Link:
        return self.links[-1]

    async def do_accept(self, _: bool, step: dict[str, Any]) -> None:
        self.links.append(Link(await self.played.accept(), step.get("silent", False)))

    async def do_greet(self, _: bool, step: dict[str, Any]) -> None:
        await self.link.acknowledge(await self.link.held.get())

    async def do_hold(self, _: bool, step: dict[str, Any]) -> None:
        await self.link.held.get()

    async def do_request(self, type: str, step: dict[str, Any]) -> None:
        rest, ids = list(step["topics"]), []
        while rest:
            request = await self.link.got.get()
            assert request and request.type == type and request.id, request
            for topic in topics(request):
                self.assertIn(topic, rest)
                rest.remove(topic)
            ids.append(request.id)
        self.ids[step["as"]] = ids

    async def do_send(self, frame: Any, step: dict[str, Any]) -> None:
        for text in self.text(frame):
            await self.link.send(len(text.encode()).to_bytes(4, "big") + text.encode())

    async def do_hex(self, digits: str, step: dict[str, Any]) -> None:
        await self.link.send(bytes.fromhex(digits))

    async def do_publishes(self, event: Any, step: dict[str, Any]) -> None:
        got = await self.link.got.get()
        self.assertTrue(got and self.same(got, event), got)

    async def do_eof(self, _: bool, step: dict[str, Any]) -> None:
        self.assertIsNone(await self.link.got.get())

    async def do_end(self, code: int, step: dict[str, Any]) -> None:
        await self.link.played.end(code)

    async def do_finish(self, _: bool, step: dict[str, Any]) -> None:
        await self.link.played._sending.finish()

    async def do_abort(self, code: int, step: dict[str, Any]) -> None:
        await self.link.played._sending.reset(code)
        self.link.reading.cancel()  # which holds what is to be stopped
        await asyncio.wait([self.link.reading])
        await self.link.played._receiving.stop(code)

    async def do_close(self, code: int, step: dict[str, Any]) -> None:
        self.link.played.conn.close(code, b"")

    async def do_closed(self, code: int, step: dict[str, Any]) -> None:
        await self.played.closed(self.link.played, code)

    # ---- the application

    async def do_connected(self, _: bool, step: dict[str, Any]) -> None:
        self.app = await self.tasks["connected"]

    async def subscribe(self, sub: str, names: list[str], reads: bool) -> None:
        self.subs[sub] = await self.spoken().subscribe(*names)
        if reads:
            self.start(f"reading {id(names)}", self.collect(sub))

    async def collect(self, sub: str) -> None:
        try:
            async for event in self.subs[sub]:
                self.came[sub].put_nowait(event)
            self.came[sub].put_nowait(None)
        except irohub.SpokeError as error:
            self.came[sub].put_nowait(error)

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        self.tasks[name] = asyncio.create_task(work)

    def spoken(self) -> irohub.Spoke:
        assert self.app is not None
        return self.app

    async def do_subscribe(self, names: list[str], step: dict[str, Any]) -> None:
        sub = step.get("sub", "")
        self.start("subscribed", self.subscribe(sub, names, not sub.startswith("unread")))

    async def do_subscribed(self, _: bool, step: dict[str, Any]) -> None:
        await self.tasks["subscribed"]

    async def do_unsubscribe(self, sub: str, step: dict[str, Any]) -> None:
        self.subs[sub].close()

    async def do_read(self, sub: str, step: dict[str, Any]) -> None:
        self.start(f"reading {sub}", self.collect(sub))

    async def do_sub_ends(self, why: Any, step: dict[str, Any]) -> None:
        got = await self.came[step["sub"]].get()
        if why is True or why == 0:
            self.assertIsNone(got)
        else:
            assert isinstance(got, (irohub.CloseError, irohub.RefusedError)), got
            self.assertEqual(got.code, why)

    async def do_refused(self, code: str, step: dict[str, Any]) -> None:
        await self.refusal("subscribed", code)

    async def refusal(self, task: str, code: str) -> None:
        with self.assertRaises(irohub.RefusedError) as raised:
            await self.tasks[task]
        self.assertEqual(raised.exception.code, code)

    async def do_publish(self, frame: Any, step: dict[str, Any]) -> None:
        event = self.event(frame)
        await self.spoken().publish(event["type"], event.get("payload"), id=event.get("id", ""))

    async def do_flush(self, _: bool, step: dict[str, Any]) -> None:
        self.start("flushed", self.spoken().flush())

    async def do_flushed(self, result: Any, step: dict[str, Any]) -> None:
        if result is True:
            await self.tasks["flushed"]
        elif result == "lost":
            with self.assertRaises((irohub.CloseError, irohub.LostError)):
                await self.tasks["flushed"]
        else:
            await self.refusal("flushed", result)

    async def do_may_deliver(self, event: Any, step: dict[str, Any]) -> None:
        self.may.append(event)

    async def do_delivers(self, event: Any, step: dict[str, Any]) -> None:
        while True:
            got = await self.came[step.get("sub", "")].get()
            if isinstance(got, irohub.CloseError) and got.code == step.get("or_closed"):
                return await self.do_closed(got.code, step)
            assert isinstance(got, irohub.Event), got
            if self.same(got, event):
                self.may = []
                return
            may = [other for other in self.may if self.same(got, other)]
            self.assertTrue(may, f"{got}, want {event}")
            self.may.remove(may[0])

    async def do_lost(self, code: int, step: dict[str, Any]) -> None:
        error = await self.told.get()
        assert isinstance(error, irohub.CloseError), error
        self.assertEqual(error.code, code)
        self.assertIn(irohub.State("reconnecting", 1, error), self.states)

    async def do_back(self, _: bool, step: dict[str, Any]) -> None:
        self.assertEqual(await self.told.get(), "back")

    async def do_ends(self, code: int, step: dict[str, Any]) -> None:
        if self.app is None:
            with self.assertRaises(irohub.CloseError) as raised:
                await self.tasks["connected"]
            error: object = raised.exception
        else:
            error = None
            while error is None:  # it may queue a few before the end has come to it
                try:
                    await self.app.publish("ended")
                    await asyncio.sleep(0)
                except irohub.SpokeError as ended:
                    error = ended
            self.assertEqual(self.app.state, irohub.State("closed", error=error))
        assert isinstance(error, irohub.CloseError), error
        self.assertEqual(error.code, code)

    async def do_leave(self, _: bool, step: dict[str, Any]) -> None:
        self.start("left", self.spoken().close())

    async def do_left(self, well: Any, step: dict[str, Any]) -> None:
        if well is True:
            await self.tasks["left"]
        else:
            with self.assertRaises((irohub.CloseError, irohub.LostError)):
                await self.tasks["left"]
        self.assertEqual(self.states[-1].name, "closed")


def _add(script: dict[str, Any]) -> None:
    async def test(self: Sessions) -> None:
        await self.play(script)

    setattr(Sessions, f"test_{re.sub('[^a-z0-9]+', '_', script['name'])}", test)


for _script in SCRIPTS:
    _add(_script)


class Scripts(unittest.TestCase):
    def test_there_is_one_for_each_name(self) -> None:
        self.assertGreaterEqual(len(SCRIPTS), 15)
        self.assertEqual(len([name for name in dir(Sessions) if name.startswith("test_")]), len(SCRIPTS))
