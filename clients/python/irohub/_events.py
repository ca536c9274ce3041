"""Events, topics, and the frames that carry them."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from ._errors import InvalidPayloadError, InvalidTopicError, ProtocolError

MAX_FRAME: Final = 1 << 20  # bytes of an envelope, by default
MAX_DEPTH: Final = 128  # levels of objects and arrays, including the envelope
MAX_TOPIC: Final = 1024  # bytes
MAX_ANSWER: Final = 4096 + 64  # the most bytes in a hub's answer; 64 are for the id
FROM_SIZE: Final = 74  # bytes that a hub adds to an event that it forwards


class Json(str):
    """JSON text that is published unchanged: Json("1.10")."""


@dataclass(frozen=True)
class Event:
    """An event, or any other envelope."""

    type: str
    id: str = ""
    # Decoded like json.loads. A number too large for a float (1e400), or with more digits than
    # Python converts to an int, is a Decimal. None if there is no payload.
    payload: Any = None
    sender: str | None = None  # "from": the NodeID of the publisher; None: the hub itself
    json: Json | None = None  # the payload's text as received; None if there is none

    @property
    def topic(self) -> str:
        """What subscriptions are compared with: type, or type:id if id is not empty."""
        return f"{self.type}:{self.id}" if self.id else self.type


def kind(value: object) -> str:
    return type(value).__name__


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")
NODE_ID = re.compile("[0-9a-f]{64}")


def check_topic(topic: str) -> None:
    """Raises InvalidTopicError unless topic is valid: 1 to 1,024 bytes of UTF-8, without control
    characters, and not starting with two underscores. Raises TypeError if it is not a str."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic must be a str, not {kind(topic)}")
    if not topic:
        message = "empty"
    elif SURROGATE.search(topic):
        message = "an unpaired surrogate"
    elif len(topic.encode()) > MAX_TOPIC:
        message = f"over {MAX_TOPIC} bytes"
    elif _CONTROL.search(topic):
        message = "a control character"
    elif topic.startswith("__"):
        message = "names that begin with __ are reserved"
    else:
        return
    raise InvalidTopicError("invalid_topic", topic, message)


def matches(subscription: str, topic: str) -> bool:
    """Reports whether a subscription receives the events of a topic. A topic matches itself. The
    pattern T:* matches all topics of type T, where T contains no colon."""
    kind, colon, rest = subscription.partition(":")
    return subscription == topic or (bool(colon) and rest == "*" and topic.partition(":")[0] == kind)


# ------------------------------------------------------------------------------ frames


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:  # Python does not convert more than 4,300 digits to an int
        return Decimal(digits)


def _number(text: str) -> float | Decimal:
    value = float(text)
    if math.isinf(value):
        try:
            return Decimal(text)
        except InvalidOperation:  # an exponent of 19 digits
            pass
    return value


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_int=_integer, parse_float=_number)
# The start of an envelope as hubs write it, up to the payload.
_USUAL = re.compile(
    r'\{"type":"([^"\\\x00-\x1f]+)"(?:,"id":"([^"\\\x00-\x1f]*)")?(?:,"from":"([0-9a-f]{64})")?(?:,("payload"):|\}\Z)'
)
_SPACE = re.compile(r"[ \t\n\r]*")
# A JSON string, to its end or the end of the text, or a bracket. The pattern does not backtrack.
_NESTING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


def _depth(text: str) -> int:
    """Returns the nesting depth of text, or an upper bound if that is within the limit."""
    if (bound := text.count("[") + text.count("{")) <= MAX_DEPTH - 1:
        return bound
    depth = deepest = 0
    for token in _NESTING.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            deepest = max(depth, deepest)
        elif token[0] in ("]", "}"):
            depth -= 1
    return deepest


def members_of(text: str) -> Iterator[tuple[str, Any, str]]:
    """Yields the name, the value and the value's text for each member of the object in text.

    This function walks the members itself, because json gives neither the payload's text nor
    repeated names. json decodes each value. Raises ValueError if text is not JSON.
    """

    def skip(at: int) -> int:
        found = _SPACE.match(text, at)
        assert found is not None
        return found.end()

    def expect(mark: str, at: int) -> int:
        if not text.startswith(mark, at):
            raise ValueError(f"no {mark} at character {at}")
        return skip(at + 1)

    at = expect("{", skip(0))
    more = not text.startswith("}", at)
    while more:
        if not text.startswith('"', at):
            raise ValueError(f"no name at character {at}")
        name, at = _DECODER.raw_decode(text, at)
        start = expect(":", skip(at))
        value, end = _DECODER.raw_decode(text, start)
        yield name, value, text[start:end]
        at = skip(end)
        if more := text.startswith(",", at):
            at = skip(at + 1)
    if expect("}", at) != len(text):
        raise ValueError("trailing text after the object")


def parse_envelope(body: bytes) -> Event:
    """Decodes a frame without its length. Raises ProtocolError unless it is one JSON object in UTF-8,
    nested at most 128 levels deep, with a type, and with each known member once."""
    try:
        text = body.decode()
        if _depth(text) > MAX_DEPTH:
            raise ProtocolError(2, f"a frame is nested more than {MAX_DEPTH} levels deep")
        if (usual := _parse_usual(text)) is not None:
            return usual
        known: dict[str, tuple[Any, str]] = {}
        for name, value, raw in members_of(text):
            if name in ("type", "id", "payload", "from"):
                if name in known:
                    raise ProtocolError(2, f"a frame repeats the member {name}")
                known[name] = value, raw
    except ValueError as error:  # includes UnicodeDecodeError and JSONDecodeError
        raise ProtocolError(2, "a frame is not one JSON object in UTF-8") from error
    kind, _ = known.get("type", (None, ""))
    identity, _ = known.get("id", ("", ""))
    if not isinstance(kind, str) or not kind:
        raise ProtocolError(2, "an envelope's type is not a string, or is empty")
    if not isinstance(identity, str):
        raise ProtocolError(2, "an envelope's id is not a string")
    if SURROGATE.search(kind) or SURROGATE.search(identity):
        raise ProtocolError(2, "an envelope's type or id has an unpaired surrogate")
    sender, _ = known.get("from", (None, ""))
    if kind.startswith("__"):
        sender = None  # it has no meaning there
    elif "from" in known and not (isinstance(sender, str) and NODE_ID.fullmatch(sender)):
        raise ProtocolError(2, "an envelope's from is not a NodeID")
    payload, raw = known.get("payload", (None, ""))
    return Event(kind, identity, payload, sender, Json(raw) if "payload" in known else None)


def _parse_usual(text: str) -> Event | None:
    """Decodes an envelope in the form that hubs write, three times as fast as the general way."""
    if not (found := _USUAL.match(text)):
        return None
    kind, identity, sender, has_payload = found.groups()
    if not has_payload:
        return Event(kind, identity or "", None, sender)
    try:
        payload, end = _DECODER.raw_decode(text, found.end())
    except ValueError:
        return None
    if end != len(text) - 1 or text[end] != "}":
        return None
    return Event(kind, identity or "", payload, sender, Json(text[found.end() : end]))


_DECIMAL = os.urandom(16).hex()  # placeholder for a Decimal in the output of json.dumps; cannot be guessed


def _dumps(payload: object, ensure_ascii: bool) -> str:
    """Does the same as json.dumps, and also accepts Decimal."""
    decimals: list[str] = []

    def other(value: object) -> str:
        if not isinstance(value, Decimal) or not value.is_finite():
            raise TypeError(f"{value!r} of type {kind(value)}")
        decimals.append(str(value))
        return _DECIMAL

    text = json.dumps(
        payload, ensure_ascii=ensure_ascii, allow_nan=False, separators=(",", ":"), default=other
    )
    if decimals:
        parts = text.split(f'"{_DECIMAL}"')
        text = parts[0] + "".join(number + part for number, part in zip(decimals, parts[1:], strict=True))
    return text


def _payload_text(payload: object, topic: str) -> bytes:
    """Returns a payload as JSON. Raises InvalidPayloadError if that is impossible."""
    try:
        if isinstance(payload, Json):
            text = payload.strip(" \t\n\r")
            _, end = _DECODER.raw_decode(text)
            if end != len(text):
                raise ValueError("trailing text after the value")
            data = text.encode()
        else:
            text = _dumps(payload, ensure_ascii=False)
            if SURROGATE.search(text):  # in a payload, an unpaired surrogate may be sent as an escape
                text = _dumps(payload, ensure_ascii=True)
            data = text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidPayloadError("invalid_payload", topic, f"not JSON: {error}") from error
    if _depth(text) > MAX_DEPTH - 1:
        raise InvalidPayloadError("invalid_payload", topic, f"nested more than {MAX_DEPTH - 1} levels deep")
    return data


def topic_of(type: str, id: str) -> str:
    """Returns the topic of a type and an id from the application. Checks that both are str."""
    for name, value in (("type", type), ("id", id)):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, not {kind(value)}")
    return type + ":" + id if id else type


def encode(type: str, id: str = "", payload: object = None) -> bytes:
    """Returns a frame that begins with its length. Raises InvalidPayloadError, TypeError, or, for an
    unpaired surrogate, InvalidTopicError. It checks nothing else about the topic, and not the size."""
    topic = topic_of(type, id)
    if SURROGATE.search(topic):
        raise InvalidTopicError("invalid_topic", topic, "an unpaired surrogate")
    body = b'{"type":' + json.dumps(type, ensure_ascii=False).encode()
    if id:
        body += b',"id":' + json.dumps(id, ensure_ascii=False).encode()
    if payload is not None:
        body += b',"payload":' + _payload_text(payload, topic)
    body += b"}"
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Splits a stream of bytes into frames. It buffers at most one incomplete frame."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields each frame that data completes, without its length. The caller must exhaust the
        iterator. Raises ProtocolError for a length over the limit, before buffering that frame."""
        self._held += data
        start = 0
        while len(self._held) - start >= 4:
            size = int.from_bytes(self._held[start : start + 4], "big")
            if not 1 <= size <= self._max_frame:
                raise ProtocolError(2, f"a frame of {size} bytes; 1 to {self._max_frame} are allowed")
            if len(self._held) - start - 4 < size:
                break
            yield bytes(self._held[start + 4 : start + 4 + size])
            start += 4 + size
        del self._held[:start]

    def end(self) -> None:
        """Raises ProtocolError if the stream ends inside a frame here."""
        if self._held:
            raise ProtocolError(2, "the stream ended inside a frame")
