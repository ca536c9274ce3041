"""What waits for a subscription is bounded, whatever a hub does. tests/test_held.py measures it."""

from __future__ import annotations

import asyncio
import unittest

import irohub
from irohub import _events
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
    def held(self, sub: irohub.Subscription) -> int:
        return sum(len(body) for body in sub._queue)

    async def test_a_subscription_that_nobody_reads(self) -> None:
        """It ends, and holds no more than its limit; the spoke and the others go on."""
        limit = 1 << 20
        spoke, link = await self.meet(irohub.Options(max_queue=limit), "n")
        await flood(link)
        flushing = asyncio.create_task(spoke.flush())
        request = await link.next()
        self.assertEqual((request.type, request.payload), ("__unsubscribe", {"topics": ["n"]}))
        await link.greet()
        await soon(flushing)
        self.assertGreater(self.held(self.events[spoke]), limit // 2)
        self.assertLessEqual(self.held(self.events[spoke]), limit)
        got = 0
        with self.assertRaises(irohub.SlowError) as raised:
            while True:
                await self.next(spoke)
                got += 1
        self.assertEqual(got, limit // (len(EVENT) + 60))
        size = len(EVENT) + 60
        words = f"the next event of {size} bytes does not fit beside {got * size} bytes that wait; the limit is {limit}"
        self.assertEqual(raised.exception.reason, words)
        await self.closing(spoke, link)

    async def closing(self, spoke: irohub.Spoke, link: PlayedLink) -> None:
        closing = asyncio.create_task(spoke.close())
        with self.assertRaises(EOFError):
            await link.next()
        await link.end(0)
        await soon(closing)

    async def test_an_answer_comes_whatever_is_waiting(self) -> None:
        spoke, link = await self.meet(irohub.Options(max_queue=20_000), "n")
        asking = asyncio.create_task(spoke.subscribe("a"))
        request = await link.next()
        await flood(link)
        await link.send("__ack", request.id)
        await soon(asking)

    async def test_before_the_link_is_acknowledged(self) -> None:
        connecting = asyncio.create_task(irohub.connect(self.played.peer, irohub.Options(handshake_timeout=2.0)))
        link = await self.played.accept()
        await flood(link)
        with self.assertRaises(irohub.LostError):
            await soon(connecting)

    async def test_after_cuts(self) -> None:
        """All connections together leave no more than one does."""
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(max_queue=1 << 20), "n")
        for _ in range(17):
            await flood(link, 50_000)
            await link.end(4)
            # In a flood the packet with the code may be lost, and iroh then knows of a reset alone.
            self.assertIsInstance(await happenings.next(), (irohub.SlowError, irohub.LostError))
            link = await self.greet_next("n")
            self.assertEqual(await happenings.next(), "reconnected")
        self.assertLessEqual(self.held(self.events[spoke]), 1 << 20)
        await link.send("n", "", "last")
        while (await self.next(spoke)).payload != "last":
            pass

    async def test_one_event_may_be_larger(self) -> None:
        spoke, link = await self.meet(irohub.Options(max_queue=1), "n")
        for n in range(5):
            await link.send("n", "", [n, "x" * 100_000])
            self.assertEqual((await self.next(spoke)).payload[0], n)

    async def test_close_drops_what_is_waiting(self) -> None:
        spoke, link = await self.meet(irohub.Options(), "n")
        await flood(link, 100_000)
        flushing = asyncio.create_task(spoke.flush())
        await link.greet()
        await soon(flushing)
        sub = self.events[spoke]
        self.assertGreater(self.held(sub), 0)
        sub.close()
        sub.close()
        self.assertEqual((self.held(sub), sub._queued), (0, 0))

    async def test_answers_fit_into_the_smallest_frame(self) -> None:
        spoke, link = await self.meet(irohub.Options(max_frame=4096))
        subscribing = asyncio.create_task(spoke.subscribe("a"))
        request = await link.next()
        refusal = {"code": "forbidden", "topic": "a", "message": ""}
        room = _events.MAX_ANSWER + 4 - len(irohub.encode("__error", request.id, refusal))
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
