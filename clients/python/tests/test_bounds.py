"""What waits for the iteration is bounded, whatever a hub does. tests/test_held.py measures it."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import Callable, Coroutine
from typing import Any

import irohub_spoke as irohub
from tests.hubs import Happenings, PlayedCase, PlayedLink, soon

EVENT = irohub.encode("n", "", "x" * 10_000)


async def flood(link: PlayedLink, size: int = 8 << 20) -> None:
    """Sends events until the spoke takes no more."""
    try:
        for _ in range(size // len(EVENT)):
            await link._sending.write_all(EVENT)
    except Exception:
        pass  # the spoke has closed the connection


class Bounds(PlayedCase):
    def watch(self, spoke: irohub.Spoke) -> list[int]:
        """Has the most that waited at any time in its first member."""
        most, has_room = [0], spoke._has_room

        def has(link: irohub._Link, size: int) -> bool:
            most[0] = max(most[0], sum(len(body) for body in spoke._queue))
            return has_room(link, size)

        spoke._has_room = has  # type: ignore[method-assign]
        return most

    async def test_while_an_answer_is_awaited(self) -> None:
        """A hub that floods and never answers: what waits for the answer is told, and by whom."""
        limit = 1 << 20
        asks: list[Callable[[irohub.Spoke], Coroutine[Any, Any, None]]] = [
            lambda spoke: spoke.subscribe("a"),
            lambda spoke: spoke.unsubscribe("a"),
            lambda spoke: spoke.flush(),
        ]
        links: list[PlayedLink] = []  # held, or they would end
        for ask in asks:
            happenings = Happenings()
            spoke, link = await self.meet(happenings.options(max_queue=limit, write_timeout=0.5))
            most = self.watch(spoke)
            asking = asyncio.create_task(ask(spoke))
            await link.next()
            flooding = asyncio.create_task(flood(link))
            with self.assertRaises(irohub.SlowError) as raised:
                await soon(asking)
            self.assertIn("nobody takes them", str(raised.exception))
            self.assertIsInstance(await happenings.next(), irohub.SlowError)
            await self.played.closed(link, 4)
            await soon(flooding)
            self.assertGreater(most[0], limit // 2)
            self.assertLessEqual(most[0], limit)
            self.assertEqual((await soon(anext(spoke))).topic, "n")
            links.append(await self.greet_next())
            self.assertEqual(await happenings.next(), "reconnected")

    async def test_an_answer_does_not_end_while_events_are_taken(self) -> None:
        """However late it comes, and however small the queue."""
        spoke, link = await self.meet(irohub.Options(max_queue=20_000, write_timeout=2.0))
        asking = asyncio.create_task(spoke.subscribe("a"))
        request = await link.next()
        flooding = asyncio.create_task(flood(link, 30 * len(EVENT)))
        for _ in range(29):
            await soon(anext(spoke))
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.1, turn.set_result, None)
            await turn
        await soon(flooding)
        await link.send("__ack", request.id)
        await soon(asking)

    async def test_before_the_link_is_acknowledged(self) -> None:
        connecting = asyncio.create_task(irohub.connect(self.played.peer, irohub.Options(handshake_timeout=2.0)))
        link = await self.played.accept()
        (spoke,) = [spoke for spoke in irohub._spokes if not spoke._keeper]
        most = self.watch(spoke)
        await flood(link)
        with self.assertRaises(irohub.LostError):
            await soon(connecting)
        self.assertLessEqual(most[0], 1 << 20)

    async def test_after_cuts(self) -> None:
        """All connections together keep no more than one does."""
        limit = 100_000
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(max_queue=limit), "n")
        most = self.watch(spoke)
        for _ in range(17):
            await flood(link, 500_000)
            await link.end(4)
            # In a flood the packet with the code may be lost, and iroh then knows of a reset alone.
            self.assertIsInstance(await happenings.next(), (irohub.SlowError, irohub.LostError))
            link = await self.greet_next("n")
            self.assertEqual(await happenings.next(), "reconnected")
        self.assertGreater(most[0], limit // 2)
        self.assertLessEqual(most[0], limit)
        await link.send("n", "", "last")
        while (await soon(anext(spoke))).payload != "last":
            pass

    async def test_shutdown_while_nobody_takes(self) -> None:
        """The spoke waits with what had come for as long as with anything, and then comes back."""
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(max_queue=50_000, write_timeout=0.5))
        await flood(link, 500_000)
        await link.end(1)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        self.assertLessEqual(sum(map(len, spoke._queue)), 50_000)
        await self.greet_next()
        self.assertEqual(await happenings.next(), "reconnected")

    async def test_while_it_closes(self) -> None:
        spoke, link = await self.meet(irohub.Options(max_queue=50_000))
        most = self.watch(spoke)
        await link.send("n")
        closing = asyncio.create_task(spoke.close())
        await flood(link, 2 << 20)
        await link.end(0)
        await soon(closing)
        self.assertLessEqual(most[0], 50_000)
        self.assertTrue([event async for event in spoke])

    async def test_one_event_may_be_larger(self) -> None:
        spoke, link = await self.meet(irohub.Options(max_queue=1))
        for n in range(5):
            await link.send("n", "", [n, "x" * 100_000])
        for n in range(5):
            self.assertEqual((await soon(anext(spoke))).payload[0], n)

    async def test_answers_fit_into_the_smallest_frame(self) -> None:
        spoke, link = await self.meet(irohub.Options(max_frame=irohub.MAX_ANSWER))
        subscribing = asyncio.create_task(spoke.subscribe("a"))
        request = await link.next()
        refusal = {"code": "forbidden", "topic": "a", "message": ""}
        room = irohub.MAX_ANSWER + 4 - len(irohub.encode("__error", request.id, refusal))
        await link.send("__error", request.id, {**refusal, "message": "x" * room})
        with self.assertRaises(irohub.TopicForbiddenError):
            await soon(subscribing)

    async def test_streams_that_a_hub_opens_are_stopped(self) -> None:
        spoke, link = await self.meet()
        for _ in range(120):  # more than iroh lets be open at once
            stream = await soon(link.conn.open_uni())
            await soon(stream.write_all(b"x" * 1000))
            self.assertEqual(await soon(stream.stopped()), 2)
            if not spoke.connected:
                break
            if _ == 60:
                break
        both = await soon(link.conn.open_bi())
        await soon(both.send().write_all(b"x"))
        self.assertEqual(await soon(both.send().stopped()), 2)
        flushing = asyncio.create_task(spoke.flush())
        await link.greet()
        await soon(flushing)


if __name__ == "__main__":
    unittest.main()
