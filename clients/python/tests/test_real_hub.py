"""The spoke against irohub hub, a process of its own, over iroh."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import unittest
from pathlib import Path

import iroh

import irohub
from irohub import _events
from tests.hubs import HERE, Case, Happenings, soon
from tests.test_vectors import VECTORS

BIG_QUEUE = ("-max-queue", str(64 << 20))


def a_key() -> tuple[bytes, str]:
    key = iroh.SecretKey.generate()
    return key.to_bytes(), str(key.public())


class Conversation(Case):
    async def test_subscriptions_and_their_ends(self) -> None:
        hub = await self.hub()
        spoke = await self.spoke(hub.ticket)
        await self.listen(spoke, "file:*", "message.sent:conv-123")
        other = await soon(spoke.subscribe("message.sent:*"))
        self.assertEqual(spoke.topics, {"file:*", "message.sent:conv-123", "message.sent:*"})
        await hub.publish(
            {"type": "other", "payload": 0},
            {"type": "message.sent", "id": "conv-124", "payload": 0},
            {"type": "message.sent", "id": "conv-123", "payload": {"text": "hello 😀"}},
            {"type": "file", "payload": None},
            {"type": "file", "id": "a:b"},
        )
        event = await self.next(spoke)
        self.assertEqual((event.topic, event.payload), ("message.sent:conv-123", {"text": "hello 😀"}))
        self.assertIsNone(event.sender)  # the hub's own
        event = await self.next(spoke)
        self.assertEqual((event.topic, event.json), ("file", "null"))
        event = await self.next(spoke)
        self.assertEqual((event.topic, event.json), ("file:a:b", None))

        got = [(await soon(anext(other))).topic for _ in range(2)]
        self.assertEqual(got, ["message.sent:conv-124", "message.sent:conv-123"])
        self.events[spoke].close()
        self.assertEqual([event async for event in self.events[spoke]], [])
        await hub.publish({"type": "file"}, {"type": "message.sent", "id": "conv-123", "payload": 2})
        self.assertEqual((await soon(anext(other))).payload, 2)
        self.assertEqual(spoke.topics, {"message.sent:*"})

    async def test_publish(self) -> None:
        hub = await self.hub()
        spoke = await self.spoke(hub.peer, irohub.Options(), "chat:*")
        await soon(spoke.publish("chat", {"text": "héllo"}, id="room"))
        await soon(spoke.publish("chat"))
        await soon(spoke.publish("chat", irohub.Json("[1.0, 12345678901234567890.10]")))
        await soon(spoke.flush())
        self.assertEqual(
            await hub.event(),
            {"type": "chat", "id": "room", "from": spoke.node, "payload": {"text": "héllo"}},
        )
        self.assertEqual(await hub.event(), {"type": "chat", "from": spoke.node})
        self.assertEqual((await hub.event())["payload"], [1.0, 12345678901234567890.10])

    async def test_refusals(self) -> None:
        hub = await self.hub()
        happenings = Happenings()
        spoke = await self.spoke(hub.peer, happenings.options(), "kept")

        with self.assertRaises(irohub.TopicForbiddenError) as forbidden:
            await soon(spoke.subscribe("a", f"direct:{'0' * 64}"))
        self.assertEqual(forbidden.exception.topic, f"direct:{'0' * 64}")
        with self.assertRaises(irohub.TopicForbiddenError):
            await soon(spoke.subscribe("direct:*"))
        with self.assertRaises(irohub.TooManySubscriptionsError):
            await soon(spoke.subscribe(*(f"t:{i}" for i in range(1024))))
        for topic in ("", "__ack", "a\n", "é" * 513, "\ud800"):
            with self.assertRaises(irohub.InvalidTopicError):
                await soon(spoke.subscribe(topic))
            with self.assertRaises(irohub.InvalidTopicError):
                await soon(spoke.publish(topic))
        with self.assertRaises(irohub.InvalidTopicError):
            await soon(spoke.publish("", id="a"))
        self.assertEqual(spoke.topics, {"kept"})  # each is carried out whole or not at all
        await hub.publish({"type": "a"}, {"type": "t", "id": "1"}, {"type": "kept"})
        self.assertEqual((await self.next(spoke)).topic, "kept")

        # What the spoke's own checks keep from the hub.
        link = await spoke._session.connected()
        spoke._session.outbox.send(link, irohub.encode("__subscribe", "", {"topics": ["a", "__ack"]}))
        self.assertIsInstance(await happenings.next(), irohub.InvalidTopicError)
        twice = irohub.Json('{"topic":"a","topic":"a"}')
        for payload in (None, {}, {"topic": 1}, {"topic": "a", "topics": ["a"]}, twice):
            spoke._session.outbox.send(link, irohub.encode("__subscribe", "", payload))
            self.assertIsInstance(await happenings.next(), irohub.InvalidPayloadError)
        spoke._session.outbox.send(link, irohub.encode("__unsubscribe", "", {"topic": "__a"}))
        self.assertIsInstance(await happenings.next(), irohub.InvalidTopicError)
        with self.assertRaises(irohub.InvalidTopicError):
            await soon(spoke.flush())
        spoke._session.outbox.send(link, irohub.encode("__later", "1", {"any": "thing"}))  # is ignored
        await soon(spoke.flush())
        self.assertTrue(spoke.connected)

    async def test_event_that_is_too_large_to_pass_on(self) -> None:
        hub = await self.hub()
        happenings = Happenings()
        spoke = await self.spoke(hub.peer, happenings.options())
        room = _events.MAX_FRAME - _events.FROM_SIZE - len('{"type":"big","payload":""}')
        with self.assertRaises(irohub.InvalidPayloadError):
            await soon(spoke.publish("big", "x" * (room + 1)))
        spoke._session.outbox.send(None, irohub.encode("big", "", "x" * (room + 1)))
        self.assertIsInstance(await happenings.next(), irohub.InvalidPayloadError)
        await soon(spoke.publish("big", "x" * room))
        self.assertEqual(len((await hub.event())["payload"]), room)
        with self.assertRaises(irohub.InvalidPayloadError):
            await soon(spoke.flush())
        await soon(spoke.flush())  # tells it once

    async def test_mailboxes_both_ways(self) -> None:
        hub = await self.hub("-forward")
        (a_secret, a_node), (b_secret, b_node) = a_key(), a_key()
        a = await self.spoke(hub.peer, irohub.Options(secret_key=a_secret), f"direct:{a_node}")
        b = await self.spoke(hub.peer, irohub.Options(secret_key=b_secret), f"direct:{b_node}")
        self.assertEqual((a.node, b.node), (a_node, b_node))
        await hub.publish({"type": "direct", "id": a_node, "payload": "from the hub"})
        got = await self.next(a)
        self.assertEqual((got.sender, got.payload, got.topic), (None, "from the hub", f"direct:{a_node}"))
        await soon(a.publish("direct", "from a", id=b_node))
        got = await self.next(b)
        self.assertEqual((got.sender, got.payload), (a_node, "from a"))
        assert got.sender
        await soon(b.publish("direct", "from b", id=got.sender))
        got = await self.next(a)
        self.assertEqual((got.sender, got.payload), (b_node, "from b"))
        with self.assertRaises(irohub.TopicForbiddenError):
            await soon(a.subscribe(f"direct:{b_node}"))

    async def test_several_spokes_get_their_topics_in_order(self) -> None:
        hub = await self.hub("-forward")
        topics = [("a:1",), ("a:*",), ("b",), ("a:*", "a:2", "b"), ()]
        spokes = [await self.spoke(hub.peer, irohub.Options(), *each, "end") for each in topics]
        sender = await self.spoke(hub.peer)
        rand = random.Random(2)
        sent = [(rand.choice(["a", "a:1", "a:2", "b", "c"]), n) for n in range(500)]
        for topic, n in sent:
            kind, _, id = topic.partition(":")
            await soon(sender.publish(kind, n, id=id))
        await soon(sender.publish("end"))
        for spoke, patterns in zip(spokes, topics, strict=True):
            want = [n for topic, n in sent if any(irohub.matches(pattern, topic) for pattern in patterns)]
            got: list[int] = []
            while (event := await self.next(spoke)).topic != "end":
                self.assertEqual(event.sender, sender.node)
                got.append(event.payload)
            self.assertEqual(got, want)

    async def test_not_back_to_the_publisher(self) -> None:
        hub = await self.hub("-forward")
        spoke = await self.spoke(hub.peer, irohub.Options(), "chat")
        await soon(spoke.publish("chat", 1))
        await soon(spoke.flush())
        await hub.publish({"type": "chat", "payload": 2})
        self.assertEqual((await self.next(spoke)).payload, 2)

    async def test_endpoint_of_the_application(self) -> None:
        hub = await self.hub()
        endpoint = await iroh.Endpoint.bind(iroh.EndpointOptions(preset=iroh.preset_minimal()))
        for _ in range(2):  # one after the other
            async with await soon(irohub.connect(hub.peer, endpoint=endpoint)) as spoke:
                self.assertEqual(spoke.node, str(endpoint.id()))
                await soon(spoke.publish("chat"))
                await soon(spoke.flush())
        self.assertFalse(endpoint.is_closed())
        await endpoint.close()

    async def test_closing_delivers_all(self) -> None:
        hub = await self.hub()
        async with await soon(irohub.connect(hub.peer)) as spoke:
            for n in range(2000):
                await soon(spoke.publish("n", n))
        for n in range(2000):
            self.assertEqual((await hub.event())["payload"], n)
        await soon(spoke.close())  # again is no error
        with self.assertRaises(irohub.ClosedError):
            await spoke.publish("n")
        with self.assertRaises(irohub.ClosedError):
            await spoke.subscribe("n")

    async def test_what_came_before_closing_is_left_to_the_iteration(self) -> None:
        hub = await self.hub()
        spoke = await self.spoke(hub.peer, irohub.Options(), "n")
        await hub.publish(*({"type": "n", "payload": n} for n in range(100)))
        self.assertEqual((await self.next(spoke)).payload, 0)
        await soon(spoke.close())
        left = [event.payload async for event in self.events[spoke]]
        self.assertEqual(left, list(range(1, len(left) + 1)))

    async def test_cancelling_loses_nothing(self) -> None:
        hub = await self.hub(*BIG_QUEUE)
        spoke = await self.spoke(hub.peer, irohub.Options(), "n")
        got: list[int] = []
        await hub.publish(*({"type": "n", "payload": n} for n in range(1000)))
        rand = random.Random(3)
        while len(got) < 1000:
            take = asyncio.ensure_future(anext(self.events[spoke]))
            for _ in range(rand.randrange(4)):
                await asyncio.sleep(0)
            take.cancel()
            try:
                got.append((await take).payload)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
        self.assertEqual(got, list(range(1000)))

    async def test_cancelled_subscribe_leaves_nothing(self) -> None:
        hub = await self.hub()
        spoke = await self.spoke(hub.peer, irohub.Options(), "kept")
        for steps in range(6):
            request = asyncio.create_task(spoke.subscribe("kept", "left"))
            for _ in range(steps):
                await asyncio.sleep(0)
            request.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await request
        await soon(spoke.flush())
        await hub.publish({"type": "left"}, {"type": "kept"})
        self.assertEqual((await self.next(spoke)).topic, "kept")


class Ends(Case):
    async def test_not_admitted(self) -> None:
        secret, node = a_key()
        hub = await self.hub("-allow", node)
        with self.assertRaises(irohub.ForbiddenError) as raised:
            await soon(irohub.connect(hub.peer))
        self.assertEqual(raised.exception.code, 3)
        self.assertIn("hub's lists do not admit", raised.exception.reason)
        spoke = await self.spoke(hub.peer, irohub.Options(secret_key=secret))
        await soon(spoke.flush())

    async def test_nobody_there(self) -> None:
        hub = await self.hub()
        with self.assertRaises(irohub.LostError):  # another protocol
            await soon(irohub.connect(hub.peer, irohub.Options(alpn=b"other/1")))
        await hub.stop()
        with self.assertRaises(irohub.LostError):
            await soon(irohub.connect(hub.peer, irohub.Options(handshake_timeout=0.5)))
        for peer in ("", "x", hub.node, hub.ticket + "x", f"{hub.node}@", f"{hub.node}@host:1", f"x@{hub.addr}"):
            with self.subTest(peer), self.assertRaises(ValueError):
                await soon(irohub.connect(peer))

    async def test_wrong_frames(self) -> None:
        """Each vector that is invalid gets code 2, and the spoke that sent it does not come back."""
        hub = await self.hub()
        endpoint = await iroh.Endpoint.bind(iroh.EndpointOptions(preset=iroh.preset_minimal()))
        for v in VECTORS["invalid"]:
            with self.subTest(v["name"]):
                spoke = await soon(irohub.connect(hub.peer, endpoint=endpoint))
                await self.listen(spoke, "n")
                link = await spoke._session.connected()
                await link.write(bytes.fromhex(v["frame"]))
                if v["reason"] == "truncated":
                    await link.finish()
                with self.assertRaises(irohub.ProtocolError) as raised:
                    await self.next(spoke)
                self.assertEqual(raised.exception.code, 2)
                self.assertTrue(raised.exception.reason)
                with self.assertRaises(irohub.ProtocolError):
                    await soon(spoke.publish("chat"))
                with self.assertRaises(irohub.ProtocolError):
                    await soon(spoke.close())
        await endpoint.close()

    async def test_frame_over_a_smaller_limit(self) -> None:
        hub = await self.hub("-max-frame", "2048")
        happenings = Happenings()
        spoke = await self.spoke(hub.peer, happenings.options())
        await soon(spoke.publish("chat", "x" * 2048))
        self.assertIsInstance(await happenings.next(), irohub.ProtocolError)
        with self.assertRaises(irohub.ProtocolError):
            await soon(spoke.flush())

    async def test_a_slow_subscription_ends_alone(self) -> None:
        hub = await self.hub(*BIG_QUEUE)
        spoke = await self.spoke(hub.peer, irohub.Options(max_queue=100_000), "n")
        other = await soon(spoke.subscribe("n:last"))
        for n in range(300):
            await hub.publish({"type": "n", "payload": [n, "x" * 10_000]})
        await hub.publish({"type": "n", "id": "last"})
        self.assertEqual((await soon(anext(other))).topic, "n:last")
        got: list[int] = []
        with self.assertRaises(irohub.SlowError):
            while True:
                got.append((await self.next(spoke)).payload[0])
        self.assertEqual(got, list(range(9)))  # what had room
        self.assertEqual(spoke.topics, {"n:last"})
        await soon(spoke.flush())

    async def test_requests_while_nobody_iterates(self) -> None:
        hub = await self.hub(*BIG_QUEUE)
        spoke = await self.spoke(hub.peer, irohub.Options(max_queue=4 << 20), "n")
        for n in range(300):
            await hub.publish({"type": "n", "payload": [n, "x" * 10_000]})
        await soon(spoke.subscribe("other"))
        await soon(spoke.flush())
        for n in range(300):
            self.assertEqual((await self.next(spoke)).payload[0], n)

    async def test_replaced_by_newer_ones(self) -> None:
        """Of spokes with one NodeID, eight at most are connected; the oldest goes for good."""
        hub = await self.hub()
        secret, _ = a_key()
        spokes = [await self.spoke(hub.peer, irohub.Options(secret_key=secret), "n") for _ in range(9)]
        with self.assertRaises(irohub.TooManyError):
            await self.next(spokes[0])
        for spoke in spokes[1:]:
            await soon(spoke.flush())

    async def test_loop_that_ends_without_close(self) -> None:
        hub = await self.hub()
        program = (
            "import asyncio, sys, irohub\n"
            "async def main():\n"
            "    spoke = await irohub.connect(sys.argv[1])\n"
            "    await spoke.subscribe('n')\n"
            "    await spoke.publish('n')\n"
            "asyncio.run(main())\n"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, hub.peer, cwd=HERE.parent, stderr=asyncio.subprocess.PIPE
        )
        _, words = await soon(process.communicate())
        hub.process.kill()  # it would wait for a spoke that may have gone without a word
        await hub.process.wait()
        self.assertEqual((process.returncode, words), (0, b""))


class Restarts(Case):
    async def test_shutdown_and_restart(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            hub = await self.hub("-key", str(Path(folder) / "key"))
            happenings = Happenings()
            spoke = await self.spoke(hub.peer, happenings.options(), "n:*")
            (await soon(spoke.subscribe("left"))).close()
            quiet = await self.spoke(hub.peer, irohub.Options(reconnect=False), "n")
            for n in range(3):
                await hub.publish({"type": "n", "payload": n})
                self.assertEqual((await self.next(spoke)).payload, n)
                self.assertTrue(spoke.connected)
                node, addr = hub.node, hub.addr
                await hub.stop()
                error = await happenings.next()
                self.assertIsInstance(error, irohub.ShutdownError)
                self.assertFalse(spoke.connected)
                await soon(spoke.publish("waits", n))  # until there is a connection
                await soon(hub.start(addr))
                self.assertEqual((hub.node, hub.addr), (node, addr))
                self.assertEqual(await happenings.next(), "reconnected")
                more = await soon(spoke.subscribe(f"more:{n}"))
                self.assertEqual((await hub.event())["payload"], n)
                await hub.publish({"type": "more", "id": str(n), "payload": n})
                self.assertEqual((await soon(anext(more))).topic, f"more:{n}")
            with self.assertRaises(irohub.ShutdownError):
                while (await self.next(quiet)).payload == 0:
                    pass

    async def test_events_before_the_shutdown_come(self) -> None:
        hub = await self.hub(*BIG_QUEUE)
        happenings = Happenings()
        spoke = await self.spoke(hub.peer, happenings.options(reconnect=False), "n")
        await hub.publish(*({"type": "n", "payload": n} for n in range(2000)), {"type": "n", "payload": -1})
        # Once one has come, and the hub still prints, all were read; nothing tells more.
        self.assertEqual((await self.next(spoke)).payload, 0)
        await hub.stop()
        got: list[int] = []
        with self.assertRaises(irohub.ShutdownError):
            while True:
                got.append((await self.next(spoke)).payload)
        self.assertEqual([n for n in got if n >= 0], list(range(1, len([n for n in got if n >= 0]) + 1)))

    @unittest.skipUnless(os.environ.get("IROHUB_SLOW"), "takes 30 s, in which iroh gives a peer up; set IROHUB_SLOW")
    async def test_killed_and_restarted(self) -> None:
        """A hub that dies without a word is noticed after iroh's 30 s."""
        with tempfile.TemporaryDirectory() as folder:
            hub = await self.hub("-key", str(Path(folder) / "key"))
            happenings = Happenings()
            spoke = await self.spoke(hub.peer, happenings.options(), "n")
            await soon(spoke.flush())
            addr = hub.addr
            hub.process.kill()
            await hub.process.wait()
            await soon(spoke.publish("lost"))
            await soon(hub.start(addr))
            self.assertIsInstance(await happenings.next(), irohub.SpokeError)
            self.assertEqual(await happenings.next(), "reconnected")
            with self.assertRaises(irohub.SpokeError):
                await soon(spoke.flush())  # "lost" may not have come
            await soon(spoke.flush())
            await hub.publish({"type": "n", "payload": 1})
            self.assertEqual((await self.next(spoke)).payload, 1)

    async def test_closing_while_disconnected(self) -> None:
        hub = await self.hub()
        happenings = Happenings()
        spoke = await self.spoke(hub.peer, happenings.options(max_backoff=30.0, min_backoff=30.0))
        waiting = asyncio.create_task(spoke.flush())
        await soon(waiting)
        await hub.stop()
        await happenings.next()
        waiting = asyncio.create_task(spoke.flush())
        await asyncio.sleep(0)
        self.assertEqual(spoke.state.name, "reconnecting")
        await soon(spoke.close())  # nothing waits to be written
        with self.assertRaises(irohub.ClosedError):
            await soon(waiting)
        self.assertEqual(spoke.state, irohub.State("closed"))


def mixed_sizes(count: int, largest: int) -> list[int]:
    """Bytes of envelopes: most are small, and twelve as large as they may be."""
    rand = random.Random(4)
    sizes = []
    for n in range(count):
        if n % (count // 12) == 7:
            sizes.append(largest)
        else:
            sizes.append(rand.choice([60, 200, 200, 200, rand.randrange(60, 4000), rand.randrange(60, 4000)]))
        if n % 100 == 50:
            sizes[-1] = rand.randrange(60, 65536)
    return sizes


def padding(n: int, size: int) -> str:
    """The second member of the payload [n, padding] that makes an envelope of that size."""
    return "x" * (size - len(f'{{"type":"n","payload":[{n},""]}}'))


class TenThousand(Case):
    COUNT = 10_000

    async def test_from_the_hub(self) -> None:
        hub = await self.hub(*BIG_QUEUE)
        spoke = await self.spoke(hub.peer, irohub.Options(max_queue=64 << 20), "n")
        sizes = mixed_sizes(self.COUNT, _events.MAX_FRAME)

        async def publish() -> None:
            for n, size in enumerate(sizes):
                await hub.publish({"type": "n", "payload": [n, padding(n, size)]})

        publishing = asyncio.create_task(publish())
        for n, size in enumerate(sizes):
            number, pad = (await self.next(spoke)).payload
            self.assertEqual((number, len(pad)), (n, len(padding(n, size))))
        await publishing
        await hub.publish({"type": "n", "payload": "the end"})
        self.assertEqual((await self.next(spoke)).payload, "the end")

    async def test_to_the_hub(self) -> None:
        hub = await self.hub(*BIG_QUEUE)
        spoke = await self.spoke(hub.peer)
        sizes = mixed_sizes(self.COUNT, _events.MAX_FRAME - _events.FROM_SIZE)

        async def publish() -> None:
            for n, size in enumerate(sizes):
                await soon(spoke.publish("n", [n, padding(n, size)]))
            await soon(spoke.publish("n", "the end"))
            await soon(spoke.flush())

        publishing = asyncio.create_task(publish())
        for n, size in enumerate(sizes):
            number, pad = (await hub.event())["payload"]
            self.assertEqual((number, len(pad)), (n, len(padding(n, size))))
        self.assertEqual((await hub.event())["payload"], "the end")
        await soon(publishing)


if __name__ == "__main__":
    unittest.main()
