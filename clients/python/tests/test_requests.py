"""How calls of subscribe and flush become requests: several in one, few at once."""

from __future__ import annotations

import asyncio
import unittest
import unittest.mock

import irohub
from tests.hubs import Case, Happenings, PlayedCase, soon


class Packing(PlayedCase):
    async def test_calls_at_once_share_requests(self) -> None:
        spoke, link = await self.meet()
        topics = [f"t:{n:03}" for n in range(100)]
        subscribing = asyncio.gather(*(spoke.subscribe(topic) for topic in topics))
        requests = [await link.next() for _ in range(2)]  # both before any answer
        self.assertEqual([len(request.payload["topics"]) for request in requests], [64, 36])
        for request in requests:
            await link.send("__ack", request.id)
        await soon(subscribing)
        self.assertEqual(spoke.topics, set(topics))

    async def test_bounds_of_a_request(self) -> None:
        for topics, most in (
            ([f"t:{n}" for n in range(1000)], 64),
            ([f"{n:03}" + '"' * 1000 for n in range(100)], 64),
        ):
            spoke, link = await self.meet(irohub.Options(max_frame=32 << 10))
            subscribing = asyncio.create_task(spoke.subscribe(*topics))
            await asyncio.sleep(0)
            outstanding = [await link.next() for _ in range(4)]
            flushing = asyncio.create_task(spoke.flush())
            flush = await link.next()  # rather than a fifth request
            self.assertEqual(flush.payload, {"topics": []})
            named: list[str] = []
            while len(named) < len(topics):
                if not outstanding:
                    outstanding.append(await link.next())
                request = outstanding.pop(0)
                self.assertLessEqual(len(request.payload["topics"]), most)
                self.assertLessEqual(len(request.json or ""), (16 << 10) + 20)
                named += request.payload["topics"]
                self.assertFalse(subscribing.done())
                await link.send("__ack", request.id)
            await link.send("__ack", flush.id)
            await soon(asyncio.gather(subscribing, flushing))
            self.assertEqual(named, topics)

    async def test_requests_fit_into_small_frames(self) -> None:
        spoke, link = await self.meet(irohub.Options(max_frame=4096))
        subscribing = asyncio.create_task(spoke.subscribe(*(f"{n}" + '"' * 1022 for n in range(10))))
        for request in await link.greet_all(10):
            self.assertLessEqual(len(request.json or ""), 4096 - 50)
        await soon(subscribing)

    async def test_a_refusal_concerns_the_call_that_it_names(self) -> None:
        spoke, link = await self.meet()
        calls = [("a",), ("b", "bad"), ("c",), ("bad",), ("d",)]
        subscribing = [asyncio.create_task(spoke.subscribe(*topics)) for topics in calls]
        request = await link.next()
        self.assertEqual(request.payload, {"topics": ["a", "b", "bad", "c", "d"]})
        await link.send("__error", request.id, {"code": "forbidden", "topic": "bad", "message": "no"})
        self.assertEqual((await link.greet()).payload, {"topics": ["a", "c", "d"]})
        results = await soon(asyncio.gather(*subscribing, return_exceptions=True))
        kinds = [type(result) for result in results]
        refused, well = irohub.TopicForbiddenError, irohub.Subscription
        self.assertEqual(kinds, [well, refused, well, refused, well])
        self.assertEqual(spoke.topics, {"a", "c", "d"})

    async def test_a_refusal_that_names_nobody(self) -> None:
        """Then each call is asked for alone, and has an answer of its own."""
        spoke, link = await self.meet()
        subscribing = [asyncio.create_task(spoke.subscribe(*topics)) for topics in (("a", "b"), ("c",))]
        request = await link.next()
        await link.send("__error", request.id, {"code": "later", "topic": "", "message": "no"})
        self.assertEqual((await link.greet()).payload, {"topics": ["a", "b"]})
        request = await link.next()
        self.assertEqual(request.payload, {"topics": ["c"]})
        await link.send("__error", request.id, {"code": "later", "topic": "", "message": "no"})
        results = await soon(asyncio.gather(*subscribing, return_exceptions=True))
        self.assertEqual([type(result) for result in results], [irohub.Subscription, irohub.RefusedError])
        self.assertEqual(spoke.topics, {"a", "b"})

    async def test_a_call_of_several_requests_is_refused_whole(self) -> None:
        spoke, link = await self.meet(irohub.Options(), "t:3", "kept")
        topics = [f"t:{n}" for n in range(100)]
        subscribing = asyncio.create_task(spoke.subscribe(*topics))
        await link.greet()
        request = await link.next()
        await link.send("__error", request.id, {"code": "forbidden", "topic": "t:99", "message": "no"})
        with self.assertRaises(irohub.TopicForbiddenError):
            await soon(subscribing)
        undone: list[str] = []
        while len(undone) < 99:
            request = await link.next()
            self.assertEqual((request.type, request.id), ("__unsubscribe", ""))
            undone += request.payload["topics"]
        self.assertEqual(undone, [topic for topic in topics if topic != "t:3"])
        self.assertEqual(spoke.topics, {"t:3", "kept"})

    async def test_only_what_is_new_is_asked_for(self) -> None:
        """The hub is asked for the first subscription of a topic, and told of the end of the last."""
        spoke, link = await self.meet(irohub.Options(), "a", "b")
        second = await soon(spoke.subscribe("a"))
        third = asyncio.create_task(spoke.subscribe("b", "c"))
        request = await link.greet()
        self.assertEqual(request.payload, {"topics": ["c"]})
        self.events[spoke].close()
        second.close()
        request = await link.next()
        self.assertEqual((request.type, request.payload), ("__unsubscribe", {"topics": ["a"]}))
        (await soon(third)).close()
        request = await link.next()
        self.assertEqual((request.type, request.payload), ("__unsubscribe", {"topics": ["b", "c"]}))
        self.assertEqual(spoke.topics, frozenset())

    async def test_a_topic_that_is_left_while_it_is_asked_for_again(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(), "a", "b")
        other = asyncio.create_task(spoke.subscribe("c"))
        await link.greet()
        left = await soon(other)
        await link.end(1)
        link = await self.played.accept()
        request = await link.next()
        self.assertEqual(request.payload, {"topics": ["a", "b", "c"]})
        left.close()
        await link.send("__ack", request.id)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        self.assertEqual(await happenings.next(), "reconnected")
        request = await link.next()
        self.assertEqual((request.type, request.payload), ("__unsubscribe", {"topics": ["c"]}))

    async def test_cancelled_call_leaves_what_another_has(self) -> None:
        """Of calls for one topic, whichever is cancelled, at whichever step."""
        for steps in range(6):
            for cancelled in (0, 1):
                spoke, link = await self.meet()
                calls = [asyncio.create_task(spoke.subscribe("a", f"own:{n}")) for n in range(2)]
                await link.greet()
                for _ in range(steps):
                    await asyncio.sleep(0)
                calls[cancelled].cancel()
                results = await soon(asyncio.gather(*calls, return_exceptions=True))
                flushing = asyncio.create_task(spoke.flush())
                undone: set[str] = set()
                while (request := await link.next()).type == "__unsubscribe":
                    undone |= set(request.payload["topics"])
                await link.send("__ack", request.id)
                await soon(flushing)
                self.assertIsInstance(results[1 - cancelled], irohub.Subscription)
                left = {"a", f"own:{1 - cancelled}"}
                if isinstance(results[cancelled], irohub.Subscription):
                    left.add(f"own:{cancelled}")
                else:
                    self.assertEqual(undone, {f"own:{cancelled}"})
                self.assertEqual(spoke.topics, left)

    async def test_flush_cancelled_as_it_learns_of_a_loss(self) -> None:
        """The loss is then reported by the next call."""
        spoke, link = await self.meet()
        await spoke.publish("t", 1)
        await link.next()
        flushing = asyncio.create_task(spoke.flush())
        await link.next()
        mine = spoke._session.link
        assert mine is not None
        report = mine.end_answers

        def report_and_cancel(error: irohub.SpokeError) -> None:
            report(error)
            flushing.cancel()

        with unittest.mock.patch.object(mine, "end_answers", report_and_cancel):
            await link.end(1)
            with self.assertRaises(asyncio.CancelledError):
                await soon(flushing)
        link = await self.greet_next()
        flushing = asyncio.create_task(spoke.flush())
        await link.send("__ack", (await link.next()).id)
        with self.assertRaises(irohub.ShutdownError):
            await soon(flushing)

    async def test_close_as_the_connection_is_lost(self) -> None:
        """The keeper is then ending the link, and must not be cut short: it knows what is lost."""
        spoke, link = await self.meet()
        await spoke.publish("t", 1)
        await link.next()
        mine = spoke._session.link
        assert mine is not None
        report, closing = mine.end_answers, []

        def report_and_close(error: irohub.SpokeError) -> None:
            report(error)
            closing.append(asyncio.create_task(spoke.close()))

        with unittest.mock.patch.object(mine, "end_answers", report_and_close):
            await link.end(1)
            for _ in range(10000):
                if closing:
                    break
                await asyncio.sleep(0)
        with self.assertRaises(irohub.ShutdownError):
            await soon(closing[0])

    async def test_flushes_share_requests(self) -> None:
        spoke, link = await self.meet()
        flushing = asyncio.gather(*(spoke.flush() for _ in range(100)))
        for _ in range(2):
            await link.greet()
        await soon(flushing)

    async def test_each_link_is_asked_for_all(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options())
        topics = [f"t:{n:03}" for n in range(100)]
        subscribing = asyncio.gather(*(spoke.subscribe(topic) for topic in topics))
        await link.greet()  # of two
        await link.end(1)
        link = await self.played.accept()
        requests = await link.greet_all(100)
        self.assertEqual(sorted({t for r in requests for t in r.payload["topics"]}), topics)
        await soon(subscribing)
        self.assertEqual(spoke.topics, set(topics))

    async def test_time_limit_begins_anew_with_each_answer(self) -> None:
        """The hub takes less than the limit for each answer, and more for all."""
        happenings = Happenings()
        topics = [f"t:{n:03}" for n in range(256)]
        spoke, link = await self.meet(happenings.options(handshake_timeout=2.0), *topics)
        await link.end(1)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        link = await self.played.accept()
        loop = asyncio.get_running_loop()
        began, named = loop.time(), 0
        while named < len(topics):
            request = await link.next()
            named += len(request.payload["topics"])
            turn: asyncio.Future[None] = loop.create_future()
            loop.call_later(0.75, turn.set_result, None)
            await turn
            await link.send("__ack", request.id)
        self.assertGreater(loop.time() - began, 2)
        self.assertEqual(await happenings.next(), "reconnected")

    async def test_fewer_topics_a_request_for_a_hub_that_is_slower_still(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(handshake_timeout=1.0), *(f"t:{n:02}" for n in range(64)))
        await link.end(1)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        for most in (64, 16, 4):
            link = await self.played.accept()
            self.assertEqual(len((await link.next()).payload["topics"]), most)
            await link.closed()


class SlowPolicy(Case):
    async def test_reconnecting_takes_longer_than_the_limit(self) -> None:
        hub = await self.slow_hub("-delay", "12ms")
        happenings = Happenings()
        topics = [f"t:{n:03}" for n in range(300)]  # 3.6 s in all, 0.8 s a request
        spoke = await self.spoke(hub.peer, happenings.options(handshake_timeout=2.0), *topics)
        addr = hub.addr
        await hub.stop()
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        await hub.start(addr)
        self.assertEqual(await happenings.next(), "reconnected")
        self.assertEqual(spoke.topics, set(topics))
        await soon(spoke.flush())

    async def test_hub_with_a_small_queue(self) -> None:
        hub = await self.slow_hub("-max-queue", "4096")
        happenings = Happenings()
        spoke = await self.spoke(hub.peer, happenings.options())
        await soon(asyncio.gather(*(spoke.subscribe(f"t:{n}") for n in range(200))))
        await soon(asyncio.gather(*(spoke.flush() for _ in range(200))))
        await soon(spoke.subscribe(*(f"u:{n}" for n in range(200))))
        self.assertEqual(len(spoke.topics), 400)
        addr = hub.addr
        await hub.stop()
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        await hub.start(addr)
        self.assertEqual(await happenings.next(), "reconnected")

    async def test_each_caller_has_its_own_answer(self) -> None:
        hub = await self.slow_hub("-max-subscriptions", "70")
        spoke = await self.spoke(hub.peer)
        topics = [("no:" if n % 10 == 0 else "t:") + str(n) for n in range(50)]
        results = await soon(asyncio.gather(*map(spoke.subscribe, topics), return_exceptions=True))
        for topic, result in zip(topics, results, strict=True):
            if topic.startswith("no"):
                assert isinstance(result, irohub.TopicForbiddenError)
                self.assertEqual(result.topic, topic)
            else:
                self.assertIsInstance(result, irohub.Subscription)
        results = await soon(asyncio.gather(*(spoke.subscribe(f"u:{n}") for n in range(100)), return_exceptions=True))
        well = [result for result in results if isinstance(result, irohub.Subscription)]
        self.assertEqual(len(well), 70 - 45)
        for result in results:
            self.assertIsInstance(result, (irohub.TooManySubscriptionsError, irohub.Subscription))
        self.assertEqual(len(spoke.topics), 70)


if __name__ == "__main__":
    unittest.main()
