"""Wrong arguments are refused before anything goes out."""

from __future__ import annotations

import asyncio
import json
import math
import unittest
from decimal import Decimal
from enum import Enum
from typing import Any

import iroh

import irohub
from irohub import _events
from tests.hubs import Case, PlayedCase, soon

TOPIC, PAYLOAD = irohub.InvalidTopicError, irohub.InvalidPayloadError
NODE = "ab" * 32


def words(args: tuple[Any, ...]) -> str:
    try:
        return repr(args)[:80]
    except ValueError:  # an int of too many digits
        return "too long"


class Text(str, Enum):
    CHAT = "chat"


cycle: list[Any] = []
cycle.append(cycle)

PUBLISH: tuple[tuple[type[Exception], tuple[Any, ...], dict[str, Any]], ...] = (
    (TypeError, ("t",), {"id": 5}),
    (TypeError, ("t",), {"id": None}),
    (TypeError, ("t",), {"id": b"x"}),
    (TypeError, (5,), {}),
    (TypeError, (None,), {}),
    (TypeError, (b"t",), {}),
    (TypeError, (["t"],), {}),
    (TypeError, ("t", 1, "id"), {}),
    (TypeError, ("t",), {"ID": "x"}),
    (TOPIC, ("",), {}),
    (TOPIC, ("",), {"id": "x"}),
    (TOPIC, ("__ack",), {}),
    (TOPIC, ("a\n",), {}),
    (TOPIC, ("t",), {"id": "\x7f"}),
    (TOPIC, ("\ud800",), {}),
    (TOPIC, ("t",), {"id": "\udfff"}),
    (TOPIC, ("é" * 513,), {}),
    (TOPIC, ("t",), {"id": "x" * 1023}),
    (PAYLOAD, ("t", math.nan), {}),
    (PAYLOAD, ("t", [math.inf]), {}),
    (PAYLOAD, ("t", {"a": -math.inf}), {}),
    (PAYLOAD, ("t", {math.nan: 1}), {}),
    (PAYLOAD, ("t", Decimal("NaN")), {}),
    (PAYLOAD, ("t", b"x"), {}),
    (PAYLOAD, ("t", {1, 2}), {}),
    (PAYLOAD, ("t", {(1, 2): 3}), {}),
    (PAYLOAD, ("t", object()), {}),
    (PAYLOAD, ("t", cycle), {}),
    (PAYLOAD, ("t", 10**5000), {}),
    (PAYLOAD, ("t", json.loads("[" * 128 + "]" * 128)), {}),
    (PAYLOAD, ("t", irohub.Json("")), {}),
    (PAYLOAD, ("t", irohub.Json("1 2")), {}),
    (PAYLOAD, ("t", irohub.Json("NaN")), {}),
    (PAYLOAD, ("t", irohub.Json("[" * 128 + "]" * 128)), {}),
    (PAYLOAD, ("t", irohub.Json("[" * 100_000)), {}),
    (PAYLOAD, ("t", "x" * _events.MAX_FRAME), {}),
)

TOPICS: tuple[tuple[type[Exception], Any], ...] = (
    (TypeError, 5),
    (TypeError, None),
    (TypeError, b"a"),
    (TypeError, ["a", "b"]),
    (TOPIC, ""),
    (TOPIC, "__a"),
    (TOPIC, "a\x00"),
    (TOPIC, "\ud800"),
    (TOPIC, "x" * 1025),
)

OPTIONS: tuple[tuple[type[Exception], dict[str, Any]], ...] = (
    (TypeError, {"unknown": 1}),
    (TypeError, {"maxqueue": 1}),
    (TypeError, {"secret_key": "ab" * 32}),
    (TypeError, {"secret_key": 5}),
    (ValueError, {"secret_key": b"x" * 31}),
    (TypeError, {"alpn": "alkpubsub/1"}),
    (ValueError, {"alpn": b""}),
    (ValueError, {"alpn": b"x" * 256}),
    (TypeError, {"max_frame": 1e6}),
    (TypeError, {"max_frame": True}),
    (ValueError, {"max_frame": 4095}),
    (ValueError, {"max_frame": (1 << 30) + 1}),
    (TypeError, {"max_queue": None}),
    (ValueError, {"max_queue": 0}),
    (ValueError, {"max_queue": -1}),
    (TypeError, {"handshake_timeout": None}),
    (TypeError, {"handshake_timeout": "1"}),
    (ValueError, {"handshake_timeout": 0}),
    (ValueError, {"write_timeout": -1}),
    (ValueError, {"write_timeout": math.nan}),
    (ValueError, {"min_backoff": -0.1}),
    (TypeError, {"reconnect": 1}),
    (TypeError, {"relays": "n0"}),
    (TypeError, {"on_disconnect": 1}),
    (TypeError, {"on_state": "print"}),
)

PEERS: tuple[tuple[type[Exception], Any, str], ...] = (
    (TypeError, None, "a str"),
    (TypeError, b"x", "a str"),
    (ValueError, "", "a ticket"),
    (ValueError, str(iroh.SecretKey.generate().public()), "Options.relays"),
    (ValueError, NODE[1:], "a ticket"),
    (ValueError, f"{NODE}@", "IP:PORT"),
    (ValueError, f"{NODE}@127.0.0.1:4433\n", "IP:PORT"),
    (ValueError, f"\n{NODE}@127.0.0.1:4433", "64 hex"),
    (ValueError, f"{NODE} @127.0.0.1:4433", "64 hex"),
    (ValueError, f"{NODE[1:]}@127.0.0.1:4433", "64 hex"),
    (ValueError, f"{NODE}@127.0.0.1:99999", "port 99999"),
    (ValueError, f"{NODE}@127.0.0.1:0", "port 0"),
    (ValueError, f"{NODE}@127.0.0.1:+44", "IP:PORT"),
    (ValueError, f"{NODE}@127.0.0.1: 44", "IP:PORT"),
    (ValueError, f"{NODE}@127.0.0.1:4_4", "IP:PORT"),
    (ValueError, f"{NODE}@127.0.0.1", "IP:PORT"),
    (ValueError, f"{NODE}@localhost:44", "IP:PORT"),
    (ValueError, f"{NODE}@127.0.0.256:44", "127.0.0.256"),
    (ValueError, f"{NODE}@::1:44", "IP:PORT"),
    (ValueError, f"{NODE}@[127.0.0.1]:44", "127.0.0.1"),
    (ValueError, f"{NODE}@[fe80::1%eth0]:44", "IP:PORT"),
    (ValueError, f"{NODE}@127.0.0.1:44,", "IP:PORT"),
    (ValueError, f"{NODE}@127.0.0.1:44, 127.0.0.1:45", "IP:PORT"),
)


class Arguments(PlayedCase):
    async def test_publish(self) -> None:
        spoke, link = await self.meet()
        for kind, args, more in PUBLISH:
            with self.subTest(kind=kind.__name__, args=words(args), more=more), self.assertRaises(kind):
                await spoke.publish(*args, **more)
        await soon(spoke.publish("t", "\ud800", id="last"))
        event = await link.next()  # nothing has come before
        self.assertEqual((event.topic, event.payload), ("t:last", "\ud800"))
        await soon(spoke.publish(Text.CHAT, irohub.Json("[" * 127 + "]" * 127), id=Text.CHAT))
        self.assertEqual((await link.next()).topic, "chat:chat")
        self.assertTrue(spoke.connected)

    async def test_topics(self) -> None:
        spoke, link = await self.meet()
        for kind, topic in TOPICS:
            with self.subTest(kind=kind.__name__, topic=repr(topic)[:40]), self.assertRaises(kind):
                await spoke.subscribe("good", topic)
        with self.assertRaises(ValueError):
            await spoke.subscribe()
        with self.assertRaises(TypeError):
            await spoke.subscribe(topics="a")  # type: ignore[call-arg]
        subscribing = asyncio.create_task(spoke.subscribe("last"))
        self.assertEqual((await link.greet()).payload, {"topics": ["last"]})
        await soon(subscribing)


class Connecting(Case):
    async def test_options(self) -> None:
        for kind, options in OPTIONS:
            with self.subTest(options), self.assertRaises(kind) as raised:
                irohub.Options(**options)
            self.assertIn(next(iter(options)), str(raised.exception))

    async def test_peers(self) -> None:
        for kind, peer, words in PEERS:
            with self.subTest(peer), self.assertRaises(kind) as raised:
                await irohub.connect(peer)
            self.assertIn(words, str(raised.exception))
        valid = str(iroh.SecretKey.generate().public())
        for host in ("127.0.0.1:1", "[::1]:65535", "[fe80::1%2]:44", "127.0.0.1:1,[::1]:2", "[::ffff:1.2.3.4]:4"):
            irohub.parse_peer(f"{valid}@{host}")
        self.assertEqual(str(irohub.parse_peer(valid.upper()).id()), valid)

    async def test_what_else_connect_takes(self) -> None:
        peer = f"{iroh.SecretKey.generate().public()}@127.0.0.1:1"
        wrong: tuple[tuple[Any, dict[str, Any]], ...] = (
            (({"max_frame": 5000},), {}),
            ((None,), {}),
            ((), {"endpoint": 5}),
            ((), {"timeout": 4}),
            ((), {"max_queue": 4}),
        )
        for args, more in wrong:
            with self.subTest(args=args, more=more), self.assertRaises(TypeError):
                await irohub.connect(peer, *args, **more)


if __name__ == "__main__":
    unittest.main()
