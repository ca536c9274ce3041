"""The codec agrees with every test vector."""

from __future__ import annotations

import base64
import json
import unittest
from pathlib import Path
from typing import Any

import irohub
from irohub import _events

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[3] / "docs" / "vectors" / "vectors.json").read_bytes())

# Each reason, by what the codec says of it.
REASONS = {
    "length": "are allowed",
    "truncated": "inside a frame",
    "utf8": "not one JSON object in UTF-8",
    "json": "not one JSON object in UTF-8",
    "not_object": "not one JSON object in UTF-8",
    "depth": "deep",
    "type": "type is not a string, or is empty",
    "id": "id is not a string",
    "repeated": "repeats",
    "surrogate": "an unpaired surrogate",
}


def receive(stream: bytes, step: int) -> irohub.Event:
    """Reads a stream of one frame that comes in parts."""
    frames = irohub.FrameReader(VECTORS["limits"]["max_frame"])
    bodies: list[bytes] = []
    for at in range(0, len(stream), step):
        bodies += frames.feed(stream[at : at + step])
    frames.end()
    (body,) = bodies
    return irohub.parse_envelope(body)


def named_topics(event: irohub.Event) -> tuple[list[str] | None, str | None]:
    """Reads __subscribe and __unsubscribe as a hub does, which a spoke never has to: the
    topics, and the code of the refusal."""
    if event.type not in ("__subscribe", "__unsubscribe"):
        return None, None
    try:
        members = [(name, value) for name, value, _ in _events.members_of(event.json or "")]
    except ValueError:  # not an object
        members = []
    known = [value for name, value in members if name in ("topic", "topics")]
    names = [name for name, _ in members if name in ("topic", "topics")]
    topics = known if names == ["topic"] else known[0] if names == ["topics"] else None
    if not isinstance(topics, list) or not all(isinstance(topic, str) for topic in topics):
        return None, "invalid_payload"
    if any(_events.SURROGATE.search(topic) for topic in topics):
        raise irohub.ProtocolError(2, "a topic has an unpaired surrogate")
    try:
        for topic in topics:
            irohub.check_topic(topic)
    except irohub.InvalidTopicError as error:
        return topics, error.code
    return topics, None


class Vectors(unittest.TestCase):
    def test_limits(self) -> None:
        limits = {"max_frame": _events.MAX_FRAME, "max_topic": _events.MAX_TOPIC, "max_depth": _events.MAX_DEPTH}
        self.assertEqual(VECTORS["limits"], limits)

    def test_there_are_some(self) -> None:
        for kind in ("valid", "invalid", "topics", "matches"):
            self.assertGreater(len(VECTORS[kind]), 30)

    def test_valid(self) -> None:
        for v in VECTORS["valid"]:
            frame = bytes.fromhex(v["frame"])
            for step in (len(frame), 7, 1):
                with self.subTest(v["name"], step=step):
                    event = receive(frame, step)
                    self.assertEqual((event.type, event.id), (v["type"], v["id"]))
                    self.assertEqual(event.topic, v["topic"])
                    self.assertEqual(event.topic.partition(":")[0], v["type_part"])
                    payload = None if event.json is None else event.json.encode()
                    self.assertEqual(payload, None if v["payload"] is None else base64.b64decode(v["payload"]))
                    if event.json is not None:
                        self.assertEqual(event.payload, json.loads(event.json))
                    self.assertEqual(event.sender, v.get("from"))
                    self.assertEqual(event.type.startswith("__"), v["control"])
                    topics, refused = named_topics(event)
                    self.assertEqual((topics, refused), (v["topics"], v["refused"]))

    def test_invalid(self) -> None:
        for v in VECTORS["invalid"]:
            frame = bytes.fromhex(v["frame"])
            for step in (len(frame), 7, 1):
                with self.subTest(v["name"], step=step), self.assertRaises(irohub.ProtocolError) as raised:
                    named_topics(receive(frame, step))
                self.assertIn(REASONS[v["reason"]], raised.exception.reason)

    def test_invalid_from_hub(self) -> None:
        self.assertGreater(len(VECTORS["invalid_from_hub"]), 10)
        for v in VECTORS["invalid_from_hub"]:
            frame = bytes.fromhex(v["frame"])
            for step in (len(frame), 1):
                with self.subTest(v["name"], step=step), self.assertRaises(irohub.ProtocolError) as raised:
                    receive(frame, step)
                self.assertIn("from is not a NodeID", raised.exception.reason)

    def test_valid_events_are_encoded_and_read_again(self) -> None:
        for v in VECTORS["valid"]:
            with self.subTest(v["name"]):
                event = receive(bytes.fromhex(v["frame"]), 1 << 20)
                again = receive(irohub.encode(event.type, event.id, event.json), 1 << 20)
                self.assertEqual((again.type, again.id, again.payload), (event.type, event.id, event.payload))

    def test_topics(self) -> None:
        for v in VECTORS["topics"]:
            with self.subTest(v["name"]):
                try:
                    topic = bytes.fromhex(v["hex"]).decode()
                    self.assertEqual(topic, v["topic"])
                    irohub.check_topic(topic)
                    valid = True
                except (UnicodeDecodeError, irohub.InvalidTopicError):
                    valid = False
                self.assertEqual(valid, v["valid"])

    def test_matches(self) -> None:
        for v in VECTORS["matches"]:
            with self.subTest(v):
                self.assertIs(irohub.matches(v["subscription"], v["event"]), v["match"])


if __name__ == "__main__":
    unittest.main()
