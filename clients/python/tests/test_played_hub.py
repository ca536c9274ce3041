"""The spoke against hubs that a test plays, over iroh: what a hub may do, and what none should."""

from __future__ import annotations

import asyncio
import unittest
import unittest.mock
from dataclasses import replace

import iroh

import irohub
from tests.hubs import Happenings, PlayedCase, soon


class Played(PlayedCase):
    async def test_frames_in_any_pieces(self) -> None:
        spoke, link = await self.meet(irohub.Options(), "n")
        stream = b"".join(irohub.encode("n", "", [n, "x" * (n * 7)]) for n in range(60))
        for at in range(0, len(stream), 997):
            await link.send_bytes(stream[at : at + 997])
        for n in range(60):
            self.assertEqual((await self.next(spoke)).payload, [n, "x" * (n * 7)])

    async def test_what_a_later_hub_may_send_is_ignored(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(), "n")
        await link.send("__later", "1", ["what"])
        await link.send("__subscribe", "1", {"topics": ["no hub asks that"]})
        await link.send("__ack", "of nothing")
        await link.send("__error", "of nothing", {"code": "forbidden"})
        body = b'{"later":{"type":1},"type":"n","x":[]}'
        await link.send_bytes(len(body).to_bytes(4, "big") + body)
        self.assertEqual((await self.next(spoke)).topic, "n")
        subscribing = asyncio.create_task(spoke.subscribe("a"))
        request = await link.next()
        await link.send("__error", request.id, {"code": "later", "topic": "a", "message": "words", "more": 1})
        with self.assertRaises(irohub.RefusedError) as raised:
            await soon(subscribing)
        self.assertIs(type(raised.exception), irohub.RefusedError)
        self.assertEqual(raised.exception.code, "later")
        await link.send("__error", "", None)
        self.assertIsInstance(await happenings.next(), irohub.RefusedError)

    async def test_wrong_frames_of_a_hub(self) -> None:
        half = irohub.encode("n", "", 1)[:-1]
        for wrong in (b"\0\0\0\0", b"\xff\xff\xff\xff", irohub.encode("n")[:4] + b'{"type":"\xff"}', half):
            happenings = Happenings()
            spoke, link = await self.meet(happenings.options(), "n")
            await link.send("n", "", "before")
            await link.send_bytes(wrong)
            if wrong is half:
                await soon(link._sending.finish())
            error = await happenings.next()
            self.assertIsInstance(error, irohub.ProtocolError)
            await self.played.closed(link, 2)
            self.assertEqual((await self.next(spoke)).payload, "before")
            with self.assertRaises(irohub.ProtocolError):
                await self.next(spoke)

    async def test_codes_that_end_a_spoke(self) -> None:
        for code, kind in ((2, irohub.ProtocolError), (3, irohub.ForbiddenError), (5, irohub.TooManyError)):
            happenings = Happenings()
            spoke, link = await self.meet(happenings.options(), "n")
            await link.send("n")
            await link.end(code, "words")
            self.assertIsInstance(await happenings.next(), kind)
            await self.next(spoke)
            with self.assertRaises(kind) as raised:
                await self.next(spoke)
            assert isinstance(raised.exception, irohub.CloseError)
            self.assertEqual((raised.exception.code, raised.exception.reason), (code, "words"))
            self.assertEqual(spoke.state, irohub.State("closed", error=raised.exception))
            for call in (spoke.flush(), spoke.subscribe("a"), spoke.publish("n"), spoke.close()):
                with self.assertRaises(kind):
                    await soon(call)

    async def test_codes_that_a_spoke_comes_back_from(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(), "a", "b:*")
        for code in (0, 1, 4, 6, 77):
            await link.send("a", "", code)
            await link.end(code)
            error = await happenings.next()
            assert isinstance(error, irohub.CloseError)
            self.assertEqual(error.code, code)
            link = await self.greet_next("a", "b:*")
            self.assertEqual(await happenings.next(), "reconnected")
            self.assertEqual((await self.next(spoke)).payload, code)

    async def test_stream_reset_alone(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options())
        await link._sending.reset(4)
        self.assertIsInstance(await happenings.next(), irohub.SlowError)
        await self.greet_next()

    async def test_codes_while_it_reconnects(self) -> None:
        """A full hub is tried again, after the longest pause; one that forbids is not."""
        happenings = Happenings()
        states: list[irohub.State] = []
        spoke, link = await self.meet(happenings.options(on_state=states.append), "n")
        await link.end(1)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        for code in (5, 1, 6):
            link = await self.played.accept()
            await link.next()
            await link.end(code)
        link = await self.played.accept()
        await link.next()
        await link.end(3)
        with self.assertRaises(irohub.ForbiddenError):
            await self.next(spoke)
        told = [(state.name, state.attempt, getattr(state.error, "code", None)) for state in states]
        tries = [("reconnecting", 1, 1), ("reconnecting", 2, 5), ("reconnecting", 3, 1), ("reconnecting", 4, 6)]
        self.assertEqual(told, [("connecting", 0, None), ("connected", 0, None), *tries, ("closed", 0, 3)])

    async def test_it_does_not_say_that_it_is_back_before_all_is_acknowledged(self) -> None:
        happenings = Happenings()
        topics = [f"t:{n}" for n in range(150)]
        spoke, link = await self.meet(happenings.options(), *topics)
        await link.end(1)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        await soon(spoke.publish("waits"))
        link = await self.played.accept()
        asked: list[str] = []
        while len(asked) < 150:
            self.assertFalse(spoke.connected)
            request = await link.next()
            self.assertEqual(request.type, "__subscribe")
            asked += request.payload["topics"]
            await link.send("t", "1", len(asked))  # events may come in between
            await link.send("__ack", request.id)
        self.assertEqual(sorted(asked), sorted(topics))
        self.assertEqual(await happenings.next(), "reconnected")
        self.assertTrue(spoke.connected)
        self.assertEqual((await link.next()).type, "waits")
        await link.send("t", "1", "after")
        self.assertEqual((await self.next(spoke)).payload, "after")  # what came before may have a gap behind it

    async def test_topic_that_is_refused_after_a_reconnect(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(), "a", "b", "c")
        await link.end(1)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        link = await self.played.accept()
        request = await link.next()
        await link.send("__error", request.id, {"code": "forbidden", "topic": "b", "message": "no longer"})
        self.assertEqual((await link.greet()).payload, {"topics": ["a", "c"]})
        self.assertEqual(await happenings.next(), "reconnected")
        with self.assertRaises(irohub.TopicForbiddenError):
            await self.next(spoke)
        request = await link.next()
        self.assertEqual((request.type, request.payload), ("__unsubscribe", {"topics": ["a", "c"]}))
        self.assertEqual(spoke.topics, frozenset())

    async def test_requests_outlast_a_reconnect(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(), "old")
        adding = asyncio.create_task(spoke.subscribe("new", "old"))
        self.assertEqual((await link.next()).payload, {"topics": ["new"]})
        await link.end(1)
        link = await self.greet_next("old")
        request = await link.greet()
        self.assertEqual((request.type, request.payload), ("__subscribe", {"topics": ["new"]}))
        await soon(adding)
        self.assertEqual(spoke.topics, {"old", "new"})

    async def test_flush_tells_of_what_may_be_lost(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options())
        await soon(spoke.publish("n", 1))
        self.assertEqual((await link.next()).payload, 1)
        await link.end(1)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)
        await soon(spoke.publish("n", 2))
        link = await self.greet_next()
        self.assertEqual((await link.next()).payload, 2)
        for wanted in (irohub.ShutdownError, None):
            flushing = asyncio.create_task(spoke.flush())
            await link.greet()
            if wanted:
                with self.assertRaises(wanted):
                    await soon(flushing)
            else:
                await soon(flushing)
        # What the hub has acknowledged is not in doubt, whatever becomes of the connection.
        await link.end(1)
        link = await self.greet_next()
        flushing = asyncio.create_task(spoke.flush())
        await link.greet()
        await soon(flushing)

    async def test_flush_and_lost_connection(self) -> None:
        spoke, link = await self.meet(irohub.Options(min_backoff=0.01))
        flushing = asyncio.create_task(spoke.flush())
        await link.next()
        await link.end(1)
        with self.assertRaises(irohub.ShutdownError):
            await soon(flushing)
        await self.greet_next()

    async def test_hub_that_never_answers(self) -> None:
        connecting = asyncio.create_task(irohub.connect(self.played.peer, irohub.Options(handshake_timeout=2.0)))
        await self.played.accept()
        with self.assertRaises(irohub.LostError):
            await soon(connecting)

    async def test_hub_that_does_not_read(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(write_timeout=0.3))
        filling = asyncio.create_task(self.fill(spoke))
        error = await happenings.next()
        assert isinstance(error, irohub.TimeoutClosedError)
        await self.played.closed(link, 6)
        await self.greet_next()
        self.assertEqual(await happenings.next(), "reconnected")
        filling.cancel()

    @staticmethod
    async def fill(spoke: irohub.Spoke) -> None:
        while True:
            await spoke.publish("n", "x" * 100_000)

    async def test_hub_that_does_not_end_the_connection(self) -> None:
        spoke, link = await self.meet(irohub.Options(write_timeout=0.3))
        with self.assertRaises(irohub.TimeoutClosedError):
            await soon(spoke.close())

    async def test_close_without_a_connection(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(min_backoff=1000.0, max_backoff=1000.0))
        await link.end(1)
        await happenings.next()
        await spoke.publish("n")
        with self.assertRaises(irohub.LostError) as raised:
            await soon(spoke.close())
        self.assertEqual(str(raised.exception), "closed without a connection; events not written: 1")

    async def test_close_during_an_attempt_does_not_wait_for_iroh_to_forget_it(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(min_backoff=0.01))
        await link.end(1)
        await happenings.next()
        incoming = await soon(self.played._endpoint.accept_next())  # and no answer
        self.assertIsNotNone(incoming)
        released = asyncio.Event()
        close = iroh.Endpoint.close

        async def closing(endpoint: iroh.Endpoint) -> None:
            await close(endpoint)
            released.set()

        with unittest.mock.patch.object(iroh.Endpoint, "close", closing):
            await soon(spoke.close())
            self.assertFalse(released.is_set())
            await soon(released.wait())

    async def test_hub_that_ends_its_stream_alone(self) -> None:
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(write_timeout=0.3))
        await soon(link._sending.finish())
        self.assertIsInstance(await happenings.next(), irohub.LostError)
        await self.greet_next()

    async def test_what_had_arrived_before_the_close_is_read(self) -> None:
        """Even if the hub did not wait."""
        happenings = Happenings()
        spoke, link = await self.meet(happenings.options(), "n")
        for n in range(50):
            await link.send("n", "", [n, "x" * 10_000])
        await link.end(1)
        for n in range(50):
            self.assertEqual((await self.next(spoke)).payload[0], n)
        self.assertIsInstance(await happenings.next(), irohub.ShutdownError)

    async def test_callback_that_fails(self) -> None:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

        def fail(error: irohub.SpokeError) -> None:
            raise RuntimeError("a mistake")

        happenings = Happenings()
        options = replace(happenings.options(), on_disconnect=fail)
        spoke, link = await self.meet(options)
        await link.end(1)
        await self.greet_next()
        self.assertEqual(await happenings.next(), "reconnected")
        self.assertIsInstance(told[0], RuntimeError)

    async def test_each_subscription_gets_its_events(self) -> None:
        spoke, link = await self.meet()
        topics = (("a",), ("a:*",), ("a:1", "a:*", "b"), ("b",))
        subscribing = [asyncio.create_task(spoke.subscribe(*each)) for each in topics]
        await link.greet()
        subs = [await soon(one) for one in subscribing]
        for n, (kind, id) in enumerate((("a", ""), ("a", "1"), ("b", ""), ("c", ""), ("a", "2"))):
            await link.send(kind, id, n)
        closing = asyncio.create_task(spoke.close())
        with self.assertRaises(EOFError):
            while True:
                await link.next()
        await link.end(0)
        await soon(closing)
        got: list[list[int]] = []
        for sub in subs:
            got.append([event.payload async for event in sub])
        self.assertEqual(got, [[0], [0, 1, 4], [0, 1, 2, 4], [2]])

    async def test_keeping_on_after_the_end_of_a_with(self) -> None:
        """async with closes what it has opened, and await leaves it open."""
        accepting = asyncio.create_task(self.played.accept())
        connecting = irohub.connect(self.played.peer)
        entering = asyncio.create_task(connecting.__aenter__())
        link = await accepting
        await link.greet()
        spoke = await soon(entering)
        subscribing = spoke.subscribe("a")
        entering_too = asyncio.create_task(subscribing.__aenter__())
        await link.greet()
        sub = await soon(entering_too)
        self.assertEqual(sub.topics, ("a",))
        await subscribing.__aexit__(None, None, None)
        self.assertEqual((await link.next()).payload, {"topics": ["a"]})
        leaving = asyncio.create_task(connecting.__aexit__(None, None, None))
        with self.assertRaises(EOFError):
            await link.next()
        await link.end(0)
        await soon(leaving)
        self.assertEqual(spoke.state, irohub.State("closed"))


if __name__ == "__main__":
    unittest.main()
