"""A spoke of an irohub hub, for asyncio: copy this file into your application.

    async with await connect(PEER) as spoke:
        await spoke.subscribe("message.sent:*")
        await spoke.publish("message.sent", {"text": "hello"}, id="conv-123")
        async for event in spoke:
            print(event.topic, event.payload)

It needs Python 3.10 or later, and the package iroh 1.2.0. The protocol is alkpubsub/1.

Delivery is at most once: from one publisher in the order published, whole, once, and with
no gap while the spoke is connected. What was on its way when a connection was lost is lost.
The spoke comes back by itself, and subscribes anew before it says that it is back.

All of a Spoke belongs to the event loop that it was made in. Any number of its tasks may
call its methods at once; another thread may not, and neither may another process: connect
after os.fork, since iroh's threads do not come along.

From the top: errors, events and topics, frames, the spoke.
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import json
import math
import os
import random
import re
import weakref
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final, TypeVar

import iroh

ALPN: Final = b"alkpubsub/1"
MAX_FRAME: Final = 1 << 20  # bytes of an envelope, unless the hub is set to another limit
MAX_DEPTH: Final = 128  # nested objects and arrays, the envelope being the first
MAX_TOPIC: Final = 1024  # bytes
MAX_ANSWER: Final = 4096  # bytes of an envelope in which a hub answers, at most
FROM_SIZE: Final = 74  # what a hub adds to an event that it passes on

# One read takes as much. One write takes less, because the binding copies what is written
# byte by byte in Python, and the event loop stands still meanwhile: about 4 ms for 16 KiB.
_READ_SIZE: Final = 64 << 10
_WRITE_SIZE: Final = 16 << 10

# Bytes that publish may be ahead of the network.
_OUTBOX_SIZE: Final = 256 << 10

# What an event that waits takes besides its bytes: Python's head of a bytes object, what
# malloc rounds up, and its place in the queue.
_EVENT_COST: Final = 64

# A request names so many topics at most, in so many bytes, and so many requests are without
# an answer at once: a hub is to say something now and then, and its answers are to need
# little room in its queue for this spoke.
_REQUEST_TOPICS: Final = 64
_REQUEST_SIZE: Final = 16 << 10
_REQUESTS: Final = 4

_T = TypeVar("_T")


# ------------------------------------------------------------------------------ errors


class SpokeError(Exception):
    """What all errors of this module have in common."""


class CloseError(SpokeError):
    """The connection was closed with a code. A code that is not known has this very class."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        words = _CLOSE_WORDS.get(self.code, f"code {self.code}")
        return f"closed: {words}: {self.reason}" if self.reason else f"closed: {words}"


class EndedError(CloseError):
    """Code 0: the hub ended the connection as one does."""


class ShutdownError(CloseError):
    """Code 1: the hub is shutting down."""


class ProtocolError(CloseError):
    """Code 2: one side broke the protocol. The spoke does not come back."""


class ForbiddenError(CloseError):
    """Code 3: the hub does not admit this NodeID. The spoke does not come back."""


class SlowError(CloseError):
    """Code 4: too much was waiting for this spoke. It has missed events."""


class TooManyError(CloseError):
    """Code 5: the hub is full, or a newer spoke with this NodeID has taken the place.

    A spoke that was connected does not come back: two would drive each other out for ever.
    """


class TimeoutClosedError(CloseError):
    """Code 6: one side made no progress in time."""


_CLOSE_TYPES: Final[tuple[type[CloseError], ...]] = (
    EndedError, ShutdownError, ProtocolError, ForbiddenError, SlowError, TooManyError, TimeoutClosedError,
)  # fmt: skip
_CLOSE_WORDS: Final = dict(enumerate(
    ("normal end", "shutting down", "protocol error", "not admitted", "too slow", "too many", "timeout")
))  # fmt: skip


def close_error(code: int, reason: str = "") -> CloseError:
    """Returns the error of a close code."""
    return _CLOSE_TYPES[code](code, reason) if code < len(_CLOSE_TYPES) else CloseError(code, reason)


class LostError(SpokeError):
    """There is no connection, and no code says why: it timed out, or nobody answers."""


class ClosedError(SpokeError):
    """The spoke was closed by close()."""


class ForkedError(SpokeError):
    """This process came from os.fork after iroh had worked in its parent. iroh's threads did
    not come along, so it works no more here. Connect after the fork, or start the process in
    another way (multiprocessing's "spawn" or "forkserver")."""


class RefusedError(SpokeError):
    """A topic or an event was refused, by the hub or by a check before anything was sent.

    code is the protocol's, topic the topic that it is about, if it is known. A code that
    is not known has this very class.
    """

    def __init__(self, code: str, topic: str, message: str) -> None:
        super().__init__(code, topic, message)
        self.code = code
        self.topic = topic
        self.message = message

    def __str__(self) -> str:
        return f"refused: {self.code}: {self.topic!r}: {self.message}"


class TopicForbiddenError(RefusedError):
    """The hub's policy, or the mailbox of another node."""


class InvalidTopicError(RefusedError, ValueError):
    """Not a topic; see check_topic."""


class TooManySubscriptionsError(RefusedError):
    """Over the hub's limit of topics for one spoke, 1,024 unless it is set to another."""


class InvalidPayloadError(RefusedError, ValueError):
    """A payload that is not JSON, or is nested too deep, or an event that is too large."""


_REFUSALS: Final[dict[str, type[RefusedError]]] = {
    "forbidden": TopicForbiddenError,
    "invalid_topic": InvalidTopicError,
    "too_many_subscriptions": TooManySubscriptionsError,
    "invalid_payload": InvalidPayloadError,
}


def _refusal(payload: object) -> RefusedError:
    """Reads the payload of an __error, in which a later protocol may have more."""
    members = payload if isinstance(payload, dict) else {}
    code, topic, message = (
        value if isinstance(value := members.get(name), str) else "" for name in ("code", "topic", "message")
    )
    return _REFUSALS.get(code, RefusedError)(code, topic, message)


# ------------------------------------------------------------------- events and topics


class Json(str):
    """JSON text, to be published as it is: Json("1.10")."""


@dataclass(frozen=True)
class Event:
    """An event, or any other envelope."""

    type: str
    id: str = ""
    # Decoded as json.loads does it, but for numbers that are too large for a float (1e400), or
    # have more digits than Python makes an int of: Decimal. None where there is none.
    payload: Any = None
    sender: str | None = None  # "from": the NodeID of the spoke that published; None: the hub
    json: Json | None = None  # the payload's text as it came; None where there is none

    @property
    def topic(self) -> str:
        """What subscriptions are compared with: type, or type:id where id is not empty."""
        return f"{self.type}:{self.id}" if self.id else self.type


def _kind(value: object) -> str:
    return type(value).__name__


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NODE_ID = re.compile("[0-9a-f]{64}")


def check_topic(topic: str) -> None:
    """Raises InvalidTopicError unless topic is 1 to 1,024 bytes of UTF-8 without control
    characters that do not begin with two underscores; TypeError if it is not a str."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic is a str, not {_kind(topic)}")
    if not topic:
        message = "empty"
    elif _SURROGATE.search(topic):
        message = "half a surrogate pair"
    elif len(topic.encode()) > MAX_TOPIC:
        message = f"over {MAX_TOPIC} bytes"
    elif _CONTROL.search(topic):
        message = "a control character"
    elif topic.startswith("__"):
        message = "names that begin with __ are the protocol's"
    else:
        return
    raise InvalidTopicError("invalid_topic", topic, message)


def matches(subscription: str, topic: str) -> bool:
    """Says whether a subscription gets the events of a topic: its own, and with T:* where T
    has no colon all those of the type T."""
    kind, colon, rest = subscription.partition(":")
    return subscription == topic or (bool(colon) and rest == "*" and topic.partition(":")[0] == kind)


# ------------------------------------------------------------------------------ frames


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:  # Python does not make an int of more than 4,300 digits
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
# How hubs write an envelope, as far as the payload.
_USUAL = re.compile(
    r'\{"type":"([^"\\\x00-\x1f]+)"(?:,"id":"([^"\\\x00-\x1f]*)")?(?:,"from":"([0-9a-f]{64})")?(?:,("payload"):|\}\Z)'
)
_SPACE = re.compile(r"[ \t\n\r]*")
# A string in JSON, to its end or the text's, or a bracket. It never tries twice.
_NESTING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


def _depth(text: str) -> int:
    """How deep text is nested; of little nested text, an upper bound."""
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


def _members(text: str) -> Iterator[tuple[str, Any, str]]:
    """Yields name, value and the value's text of each member of the object that text is.

    The members are walked here, for the payload's text and for names that are repeated;
    each value is Python's json module's to read. Raises ValueError if text is not JSON.
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
        raise ValueError("more behind the object")


def parse_envelope(body: bytes) -> Event:
    """Reads a frame without its length. Raises ProtocolError if that is not one JSON object
    in UTF-8, nested at most 128 deep, with a type, and each known member once."""
    try:
        text = body.decode()
        if _depth(text) > MAX_DEPTH:
            raise ProtocolError(2, f"a frame is nested more than {MAX_DEPTH} deep")
        if (usual := _parse_usual(text)) is not None:
            return usual
        known: dict[str, tuple[Any, str]] = {}
        for name, value, raw in _members(text):
            if name in ("type", "id", "payload", "from"):
                if name in known:
                    raise ProtocolError(2, f"a frame repeats the member {name}")
                known[name] = value, raw
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are of its kind
        raise ProtocolError(2, "a frame is not one JSON object in UTF-8") from error
    kind, _ = known.get("type", (None, ""))
    identity, _ = known.get("id", ("", ""))
    if not isinstance(kind, str) or not kind:
        raise ProtocolError(2, "an envelope's type is not a string, or empty")
    if not isinstance(identity, str):
        raise ProtocolError(2, "an envelope's id is not a string")
    if _SURROGATE.search(kind) or _SURROGATE.search(identity):
        raise ProtocolError(2, "an envelope's type or id has half a surrogate pair")
    sender, _ = known.get("from", (None, ""))
    if "from" in known and not (isinstance(sender, str) and _NODE_ID.fullmatch(sender)):
        raise ProtocolError(2, "an envelope's from is not a NodeID")
    payload, raw = known.get("payload", (None, ""))
    return Event(kind, identity, payload, sender, Json(raw) if "payload" in known else None)


def _parse_usual(text: str) -> Event | None:
    """Reads an envelope of the form in which hubs write, in a third of the time that any takes."""
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


_DECIMAL = os.urandom(16).hex()  # stands for a Decimal in what json.dumps makes; nobody can guess it


def _dumps(payload: object, ensure_ascii: bool) -> str:
    """Does as json.dumps, and takes Decimal too."""
    decimals: list[str] = []

    def other(value: object) -> str:
        if not isinstance(value, Decimal) or not value.is_finite():
            raise TypeError(f"{value!r} of type {_kind(value)}")
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
    """Returns a payload as JSON; raises InvalidPayloadError if it cannot be."""
    try:
        if isinstance(payload, Json):
            text = payload.strip(" \t\n\r")
            _, end = _DECODER.raw_decode(text)
            if end != len(text):
                raise ValueError("more behind the value")
            data = text.encode()
        else:
            text = _dumps(payload, ensure_ascii=False)
            if _SURROGATE.search(text):  # in a payload, an escaped half of a pair may pass
                text = _dumps(payload, ensure_ascii=True)
            data = text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidPayloadError("invalid_payload", topic, f"not JSON: {error}") from error
    if _depth(text) > MAX_DEPTH - 1:
        raise InvalidPayloadError("invalid_payload", topic, f"nested more than {MAX_DEPTH - 1} deep")
    return data


def _topic(type: str, id: str) -> str:
    """The topic of a type and an id, which come from an application."""
    for name, value in (("type", type), ("id", id)):
        if not isinstance(value, str):
            raise TypeError(f"{name} is a str, not {_kind(value)}")
    return type + ":" + id if id else type


def encode(type: str, id: str = "", payload: object = None) -> bytes:
    """Returns a frame, its length first. Raises InvalidPayloadError, InvalidTopicError for half a
    surrogate pair, and TypeError; checks neither else of the topic nor the size."""
    topic = _topic(type, id)
    if _SURROGATE.search(topic):
        raise InvalidTopicError("invalid_topic", topic, "half a surrogate pair")
    body = b'{"type":' + json.dumps(type, ensure_ascii=False).encode()
    if id:
        body += b',"id":' + json.dumps(id, ensure_ascii=False).encode()
    if payload is not None:
        body += b',"payload":' + _payload_text(payload, topic)
    body += b"}"
    return len(body).to_bytes(4, "big") + body


class FrameReader:
    """Cuts a stream's bytes into frames. It holds one frame at most that is not whole."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields each frame, without its length, that data completes. To be exhausted. Raises
        ProtocolError for a length over the limit, before more of that frame is taken."""
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
        """Raises ProtocolError if the stream has ended inside a frame."""
        if self._held:
            raise ProtocolError(2, "the stream has ended inside a frame")


# --------------------------------------------------------------------------- the spoke


@dataclass(frozen=True)
class Options:
    """What connect may be told. Times are in seconds. Raises TypeError or ValueError for what
    cannot be."""

    alpn: bytes = ALPN
    # Bytes of an envelope, of which 74 of what is published are left for "from". Not over the
    # hub's, and at least 4,096, which the hub's answers may have.
    max_frame: int = MAX_FRAME
    max_queue: int = 1 << 20  # bytes of memory for events that wait for the iteration; see Spoke

    # An endpoint of the spoke's own has these; one that is given has its own.
    secret_key: bytes | None = None  # 32 bytes; None: a new key, and so a new NodeID
    relays: bool = False  # the relays and the discovery of iroh's authors

    # For each attempt to connect, up to the hub's first answer. Where topics are subscribed
    # anew, it begins anew with each answer and each event.
    handshake_timeout: float = 10.0
    # Without progress in writing; for the hub's last word; and for a full queue of which
    # nothing is taken while something behind it is awaited.
    write_timeout: float = 10.0

    # When a connection is lost, the spoke dials again after a pause, which doubles from
    # min_backoff to max_backoff, each time shortened by chance by up to a half. ProtocolError and
    # ForbiddenError end the spoke instead, and so does TooManyError once connected, as
    # it means that a newer spoke has taken the place; before, the pause is max_backoff.
    reconnect: bool = True  # False: a lost connection ends the spoke
    min_backoff: float = 0.25
    max_backoff: float = 30.0

    # The event loop calls them, so they must not block.

    # A connection was lost, the last one too, but not by close(). All that came on it and had
    # room is waiting for the iteration by then, or was taken already.
    on_disconnect: Callable[[SpokeError], None] | None = None
    # There is a new one, and the hub has acknowledged all topics.
    on_reconnect: Callable[[], None] | None = None
    # The hub refused an event that was published, or refuses a topic anew after a reconnect,
    # which is then no longer subscribed.
    on_refused: Callable[[RefusedError], None] | None = None

    def __post_init__(self) -> None:
        def need(name: str, right: bool, words: str) -> None:
            if not right:
                raise TypeError(f"{name} is {words}, not {_kind(getattr(self, name))}")

        need("alpn", isinstance(self.alpn, bytes), "bytes")
        need("secret_key", self.secret_key is None or isinstance(self.secret_key, bytes), "bytes or None")
        for name in ("relays", "reconnect"):
            need(name, isinstance(getattr(self, name), bool), "a bool")
        for name, least in (("max_frame", MAX_ANSWER), ("max_queue", 1)):
            value = getattr(self, name)
            need(name, isinstance(value, int) and not isinstance(value, bool), "an int")
            if not least <= value < 1 << 32:
                raise ValueError(f"{name} is {value}; {least} to {(1 << 32) - 1} are allowed")
        for name in ("handshake_timeout", "write_timeout", "min_backoff", "max_backoff"):
            value = getattr(self, name)
            need(name, isinstance(value, (int, float)) and not isinstance(value, bool), "a number")
            if not (value >= 0 if name.endswith("backoff") else value > 0):
                raise ValueError(f"{name} is {value} s")
        for name in ("on_disconnect", "on_reconnect", "on_refused"):
            need(name, getattr(self, name) is None or callable(getattr(self, name)), "callable or None")
        if not 1 <= len(self.alpn) <= 255:
            raise ValueError(f"alpn has {len(self.alpn)} bytes; 1 to 255 are allowed")
        if self.secret_key is not None and len(self.secret_key) != 32:
            raise ValueError(f"secret_key has {len(self.secret_key)} bytes, not 32")


async def connect(peer: str, options: Options = Options(), *, endpoint: iroh.Endpoint | None = None) -> Spoke:
    """Connects to a hub and returns once the hub has taken the spoke in.

    peer is the ticket that the hub prints, or NODEID@HOST:PORT[,HOST:PORT]... by numbers. With
    endpoint, the spoke uses one that is there, which stays yours to close, after the spoke.
    Else it binds one of its own.

    Raises ValueError for a peer of another form, CloseError (ForbiddenError, TooManyError) if
    the hub turns the spoke away, LostError if it does not answer, and ForkedError in a fork of
    a process in which iroh has worked.

    Cancelled, or out of time, it returns at once; an endpoint of its own is closed in the
    background then, which iroh takes 3 s for.
    """
    address = parse_peer(peer)
    if not isinstance(options, Options):
        raise TypeError(f"options are Options, not {_kind(options)}")
    if endpoint is not None and not isinstance(endpoint, iroh.Endpoint):
        raise TypeError(f"endpoint is an iroh.Endpoint, not {_kind(endpoint)}")
    _check_fork()
    own = endpoint is None
    if endpoint is None:
        endpoint = await _bind(options)
    try:
        spoke = Spoke(endpoint, own, address, options)
        await spoke._start()
    except BaseException:
        if own:
            _in_background(endpoint.close())
        raise
    return spoke


async def _bind(options: Options) -> iroh.Endpoint:
    preset = iroh.preset_n0() if options.relays else iroh.preset_minimal()
    work = iroh.Endpoint.bind(iroh.EndpointOptions(preset=preset, secret_key=options.secret_key))
    binding = _Steady(work, loop=asyncio.get_running_loop())
    try:
        return await asyncio.shield(binding)
    except iroh.IrohError as error:
        raise LostError(f"no endpoint: {error.message()}") from error
    except asyncio.CancelledError:
        binding.add_done_callback(lambda done: done.exception() or _in_background(done.result().close()))
        raise


class _Steady(asyncio.Task[_T]):
    """A task that goes on when it is cancelled: iroh's bind, which takes some ms, leaks what
    it has opened by then."""

    def cancel(self, msg: object = None) -> bool:
        return False


_background: Final[set[asyncio.Future[Any]]] = set()


def _in_background(work: Coroutine[Any, Any, None]) -> asyncio.Future[Any]:
    """Does what nobody has to wait for. If the event loop ends first, no harm is done, and
    nothing is said: a task of gather's is not missed."""
    _background.difference_update([done for done in _background if done.get_loop().is_closed()])
    done = asyncio.gather(work, return_exceptions=True)
    _background.add(done)
    done.add_done_callback(_background.discard)
    return done


_HOST = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[0-9a-fA-F:.]+(?:%[0-9]+)?)\]):(?P<port>[0-9]{1,5})")


def parse_peer(peer: str) -> iroh.EndpointAddr:
    """Reads a ticket or NODEID@HOST:PORT[,HOST:PORT]...; raises ValueError."""
    if not isinstance(peer, str):
        raise TypeError(f"peer is a str, not {_kind(peer)}")
    words = f"{peer!r} is neither NODEID@HOST:PORT, by numbers, nor a ticket"
    node, at, hosts = peer.partition("@")
    try:
        if not at:
            return iroh.EndpointTicket.from_string(peer).endpoint_addr()
        if not _NODE_ID.fullmatch(node):
            raise ValueError(f"{node!r} is not 64 lower-case hex digits")
        for host in hosts.split(","):  # the binding would find it wrong only when it dials
            if not (found := _HOST.fullmatch(host)):
                raise ValueError(f"{host!r} is not IP:PORT, or [IP]:PORT for an IP with colons")
            ipaddress.IPv4Address(found["v4"]) if found["v4"] else ipaddress.IPv6Address(found["v6"])
            if not 1 <= int(found["port"]) <= 65535:
                raise ValueError(f"port {found['port']} is not 1 to 65535")
        return iroh.EndpointAddr(iroh.EndpointId.from_string(node), None, hosts.split(","))
    except iroh.IrohError as error:
        raise ValueError(f"{words}: {error.message()}") from error
    except ValueError as error:
        raise ValueError(f"{words}: {error}") from error


class Spoke:
    """A connection to a hub that comes back by itself. Use connect to make one.

    It is an asynchronous iterator over the events that come: all of them in one order, each
    to one iteration, if there are several. It ends after close() with the events that had
    come until then, and raises what ended the spoke if that was something else: CloseError
    or LostError.

    Slow iterations. At most max_queue bytes of memory are held by events that wait for the
    iteration, over all connections together; one event more, if it alone is larger. Events
    wait as they came, and are decoded when they are taken. When half of that is full, the
    spoke reads no more. Further events wait at the hub, which cuts off whoever has more than
    its limit waiting: on_disconnect gets a SlowError, and there is a gap.

    The other half is for what stands before an answer of the hub, as subscribe, unsubscribe
    and flush await one. If that is full too, and nothing is taken for write_timeout, the
    spoke gives the connection up, and what awaited an answer raises SlowError.

    What had come on a connection that is closed is waited with in the same way. What has no
    room is dropped if the hub has cut the spoke off as too slow, while the spoke closes, and
    while it comes back: between on_disconnect and on_reconnect there is a gap in any case.
    """

    def __init__(
        self, endpoint: iroh.Endpoint, owns_endpoint: bool, address: iroh.EndpointAddr, options: Options
    ) -> None:
        self._endpoint = endpoint
        self._owns_endpoint = owns_endpoint
        self._address = address
        self._options = options
        _spokes.add(self)

        # From the hub to the iteration.
        self._queue: deque[bytes] = deque()  # frames of sound events, decoded anew when they are taken
        self._queued = 0  # bytes of memory
        self._took_at = 0.0  # when something was taken last
        self._arrived = asyncio.Event()  # something in the queue, or the end
        self._moved = asyncio.Event()  # the reader is to see anew whether there is room

        # To the hub. A request is for one link, an event for whichever there is (None).
        self._outbox: deque[tuple[_Link | None, bytes]] = deque()
        self._unsent = 0  # bytes
        self._work = asyncio.Event()  # something in the outbox, or closing
        self._unfull = asyncio.Event()  # publish may go on, or the end

        # The connection.
        self._keeper: asyncio.Task[None] | None = None
        self._link: _Link | None = None  # acknowledged, and not at its end
        self._changed = asyncio.Event()  # there is a link, or the end
        self._closing: asyncio.Future[None] | None = None
        self._ended: SpokeError | None = None

        # Topics. A call lives until subscribe or unsubscribe goes on.
        self._topics: set[str] = set()  # acknowledged
        self._calls: dict[_Call, None] = {}  # in order
        self._wanted: Counter[str] = Counter()  # how many living calls subscribe to it
        self._fresh: dict[str, _Call] = {}  # acknowledged, for a call that does not know yet
        self._asking = False  # _ask is about to be called
        self._per_request = _REQUEST_TOPICS  # fewer, once a hub had no answer in time
        self._requests = 0  # each has its number for an id

        # For flush: how many events were published, handed to a link, and surely taken by
        # the hub; and the first thing that went wrong with one.
        self._published = self._written = self._taken = 0
        self._trouble: SpokeError | None = None

    # ---- what an application does

    @property
    def node(self) -> str:
        """The spoke's own NodeID; its mailbox is the topic direct:NODEID."""
        _check_fork()
        return str(self._endpoint.id())

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None and not _forks

    @property
    def topics(self) -> frozenset[str]:
        """The topics that the hub has acknowledged, and that the spoke comes back to."""
        return frozenset(self._topics)

    async def subscribe(self, *topics: str) -> None:
        """Adds topics, or patterns T:*, and returns once the hub has acknowledged them: what
        it routes to them from then on comes. All are added or none; one that is there
        already is no error. It waits while the spoke is disconnected. Calls at once, and
        calls with more than 64 topics, cost no more round trips than they must.

        Raises RefusedError (TopicForbiddenError, InvalidTopicError, TooManySubscriptionsError),
        SlowError if the iteration stands in the way of the answer, or what ended the spoke.
        When it is cancelled, nothing new stays subscribed.
        """
        await self._change("__subscribe", topics)

    async def unsubscribe(self, *topics: str) -> None:
        """Removes topics and returns once the hub has acknowledged it: none of their events
        come behind those that are waiting for the iteration then. One that is not there is
        no error. Raises SlowError, as subscribe does, or what ended the spoke."""
        await self._change("__unsubscribe", topics)

    async def publish(self, type: str, payload: object = None, *, id: str = "") -> None:
        """Hands an event to the hub, which gives it to its own listeners and, if its policy
        is to forward it, to other spokes. It never comes back to this one.

        payload is what json.dumps takes, with Decimal, or Json text, which stays as it is;
        None: none. It returns once the event is queued for writing, and waits while over 256
        KiB are, and so while the spoke is disconnected. See flush, and Options.on_refused,
        for what the hub makes of it.

        Raises TypeError, InvalidTopicError or InvalidPayloadError for what is not allowed, or
        what ended the spoke.
        """
        topic = _topic(type, id)
        if not type:
            raise InvalidTopicError("invalid_topic", topic, "no type")
        check_topic(topic)
        frame = encode(type, id, payload)
        if (size := len(frame) - 4) > (limit := self._options.max_frame - FROM_SIZE):
            raise InvalidPayloadError("invalid_payload", topic, f"an event of {size} bytes, over {limit}")
        self._check_open()
        while self._unsent >= _OUTBOX_SIZE:
            self._unfull.clear()
            await self._unfull.wait()
            self._check_open()
        self._send(None, frame)
        self._published += 1

    async def flush(self) -> None:
        """Returns once the hub has taken all that was published before. It waits while the
        spoke is disconnected.

        Raises the first thing that went wrong with an event since the last flush:
        RefusedError if the hub refused one, CloseError or LostError if a connection was
        lost, so that it is not known what the hub got; SlowError as subscribe does; or what
        ended the spoke.
        """
        link = await self._connected()
        try:
            await self._acknowledgement(link)
        except SpokeError:
            self._trouble = None
            raise
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble.with_traceback(None)

    async def close(self) -> None:
        """Ends the spoke: writes what publish has queued, and waits until the hub has taken
        all of it and said so. The events that come until then, and have room, are left to
        the iteration.

        Raises CloseError or LostError if that failed, if a connection was missing for it, or
        if something else had ended the spoke, and so does the iteration then; an endpoint of
        its own is closed even so, in the background. Later calls do as the first.
        """
        _check_fork()
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
            self._closing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> Spoke:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await self.close()
        except SpokeError:
            if error is None:
                raise

    def __aiter__(self) -> Spoke:
        return self

    async def __anext__(self) -> Event:
        _check_fork()
        while not self._queue:
            if isinstance(self._ended, ClosedError):
                raise StopAsyncIteration
            if self._ended is not None:
                raise self._ended.with_traceback(None)
            self._arrived.clear()
            await self._arrived.wait()
        body = self._queue.popleft()
        self._queued -= len(body) + _EVENT_COST
        self._took_at = asyncio.get_running_loop().time()
        self._moved.set()
        return parse_envelope(body)

    # ---- changes of topics: calls, of which requests are made; see _Requests

    async def _change(self, type: str, topics: tuple[str, ...]) -> None:
        for topic in topics:
            check_topic(topic)
        self._check_open()
        adds = type == "__subscribe"
        call = _Call(type, topics, self._settle)
        self._calls[call] = None
        if adds:
            self._wanted.update(topics)
        if self._link is not None:
            self._link.requests.add(call)
            self._ask_soon()
        link: _Link | None = None
        try:
            await call.done
        except BaseException as error:
            self._forget(call)
            link = self._undo(call) if adds else None
            if link is not None and isinstance(error, RefusedError):
                try:
                    await self._acknowledgement(link)
                except SpokeError:
                    pass  # with the link, the hub has forgotten it
            raise
        self._forget(call)
        for topic in topics:
            self._fresh.pop(topic, None)  # it is promised from here on

    def _forget(self, call: _Call) -> None:
        call.over = True
        del self._calls[call]
        if call.type == "__subscribe":
            self._wanted.subtract(call.topics)
            for topic in call.topics:
                if not self._wanted[topic]:
                    del self._wanted[topic]

    def _undo(self, call: _Call) -> _Link | None:
        """Takes back what a call has subscribed that failed, or was cancelled, unless it is some
        other call's too. Returns the link over which the hub is asked to, if it has to be."""
        mine = {topic for topic in call.topics if self._fresh.get(topic) is call}
        for topic in mine:
            del self._fresh[topic]
        undo = [t for t in call.topics if t not in self._wanted and (t in mine or t not in self._topics)]
        self._topics.difference_update(undo)
        if self._link is None or not call.requests or not undo:
            return None
        undoing = _Requests(self._next_id, self._options.max_frame, _REQUEST_TOPICS)
        undoing.add(_Call("__unsubscribe", tuple(undo), lambda call, error: None))
        while request := undoing.next(len(undo)):
            self._send(self._link, encode("__unsubscribe", "", {"topics": request[2]}))
        return self._link

    def _settle(self, call: _Call, error: SpokeError | None) -> None:
        """The end of a call of the application."""
        if error is not None:
            if not call.done.done():
                call.done.set_exception(error.with_traceback(None))
            return
        if call.type == "__subscribe":
            self._fresh.update((t, call) for t in call.topics if t not in self._topics or t in self._fresh)
            self._topics.update(call.topics)
        if not call.done.done():
            call.done.set_result(None)

    def _ask_soon(self) -> None:
        """Makes requests, but not before all that is about to call subscribe has done so."""
        if not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        self._asking = False
        link = self._link
        while link is not None and self._closing is None and (request := link.requests.next()):
            frame, calls, names = request
            if calls[0].type == "__unsubscribe":
                self._topics.difference_update(names)
                for name in names:
                    self._fresh.pop(name, None)
            self._send(link, frame)
        self._moved.set()

    def _next_id(self) -> str:
        self._requests += 1
        return str(self._requests)

    # ---- acknowledgements for flush: one at a time, for all that wait

    def _acknowledgement(self, link: _Link) -> asyncio.Future[None]:
        """Asks behind all that is to be written. Raises RefusedError, or why the link was lost."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if link.over is not None:
            answer.set_exception(link.over.with_traceback(None))
            return answer
        link.unasked.append(answer)
        if not link.asked:
            self._ask_for_acknowledgement(link)
        return answer

    def _ask_for_acknowledgement(self, link: _Link) -> None:
        if link.unasked:
            id = self._next_id()
            link.asked[id] = link.unasked, self._published
            link.unasked = []
            self._send(link, encode("__subscribe", id, {"topics": []}))
            self._moved.set()

    # ---- what is to be written

    def _check_open(self) -> None:
        _check_fork()
        if self._ended is not None:
            raise self._ended.with_traceback(None)
        if self._closing is not None:
            raise ClosedError("the spoke is closed")

    async def _connected(self) -> _Link:
        while True:
            self._check_open()
            if self._link is not None:
                return self._link
            self._changed.clear()
            await self._changed.wait()

    def _send(self, link: _Link | None, frame: bytes) -> None:
        self._outbox.append((link, frame))
        self._unsent += len(frame)
        self._work.set()

    async def _write(self, link: _Link) -> None:
        """The writer's task, one a link: ended by the link's end, or by closing."""
        while True:
            batch = bytearray()
            while self._outbox and len(batch) < _WRITE_SIZE:
                owner, frame = self._outbox.popleft()
                self._unsent -= len(frame)
                if owner is None:
                    self._written += 1
                if owner is None or owner is link:
                    batch += frame
            if self._unsent < _OUTBOX_SIZE:
                self._unfull.set()
            if batch:
                if not await link.write(bytes(batch)):
                    return
            elif self._closing is not None:
                return await link.finish()
            else:
                self._work.clear()
                await self._work.wait()

    # ---- what comes

    async def _read(self, link: _Link) -> SpokeError:
        """The reader's task, one a link: returns why that has ended."""
        frames = FrameReader(self._options.max_frame)
        try:
            while data := await link.read():
                for body in frames.feed(data):
                    event = parse_envelope(body)
                    if event.type.startswith("__"):
                        self._answer(link, event)
                        continue
                    if self._topics and not link.up:
                        link.progress()
                    size = len(body) + _EVENT_COST
                    if self._has_room(link, size) or await self._make_room(link, size):
                        self._queue.append(body)
                        self._queued += size
                        self._arrived.set()
            frames.end()
            error = await link.why_closed()
        except ProtocolError as wrong:
            link.fail(wrong)
            error = wrong
        except SpokeError as lost:
            error = lost
        error = link.failure or error
        if self._link is link:
            self._link = None
        if isinstance(link.failure, SlowError):  # these would fail again
            for call in link.requests.asked():
                call.end(error)
        link.end_answers(error)
        return error

    def _has_room(self, link: _Link, size: int) -> bool:
        limit = self._options.max_queue
        if not (link.closed or link.awaits_answers() or self._closing):
            limit //= 2
        return not self._queue or self._queued + size <= limit

    async def _make_room(self, link: _Link, size: int) -> bool:
        """Waits until there is room for an event. Returns False if it is to be dropped instead,
        and raises why nothing more is to be read; see Spoke."""
        loop = asyncio.get_running_loop()
        stalled: float | None = None  # since when something behind the event is awaited
        while not self._has_room(link, size):
            if not link.up or self._closing is not None:
                return False
            if isinstance(link.closed, SlowError):
                raise link.closed
            if not (link.closed or link.awaits_answers()):
                stalled = rest = None
            else:
                stalled = stalled or loop.time()
                rest = max(stalled, self._took_at) + self._options.write_timeout - loop.time()
                if rest <= 0:
                    slow = SlowError(4, f"{self._queued} bytes are waiting, and nobody takes them")
                    if not link.closed:
                        link.fail(slow)
                    raise link.closed or slow
            self._moved.clear()
            await _event(self._moved, rest)
        return True

    def _answer(self, link: _Link, event: Event) -> None:
        """Deals with a control event. Of what is not an answer to this link, nothing is kept."""
        if event.type not in ("__ack", "__error"):
            return
        refused = _refusal(event.payload) if event.type == "__error" else None
        if event.id in link.asked:
            answers, published = link.asked.pop(event.id)
            for answer in answers:
                if answer.done():
                    pass
                elif refused is not None:
                    answer.set_exception(refused)
                else:
                    answer.set_result(None)
            if refused is None:
                self._taken = max(self._taken, published)
            self._ask_for_acknowledgement(link)
        elif link.requests.answer(event.id, refused):
            link.progress()
            link.news.set()
            if link.up:
                self._ask()
        elif refused is not None and not event.id:
            self._trouble = self._trouble or refused
            self._call(self._options.on_refused, refused)

    # ---- the keeper, which sees to it that there is a link

    async def _start(self) -> None:
        link = await self._dial()
        self._bring_up(link)
        self._keeper = asyncio.create_task(self._keep(link))

    async def _keep(self, link: _Link) -> None:
        """The keeper's task, ended by the spoke's end."""
        options, loop = self._options, asyncio.get_running_loop()
        pause = options.min_backoff
        try:
            while True:
                since = loop.time()
                error = await self._serve(link)
                if self._closing is not None:
                    return self._end(ClosedError("the spoke is closed") if isinstance(error, EndedError) else error)
                final = not options.reconnect or isinstance(error, (ProtocolError, ForbiddenError, TooManyError))
                if final:
                    self._end(error)
                self._call(options.on_disconnect, error)
                if final:
                    return
                if loop.time() - since >= options.max_backoff:
                    pause = options.min_backoff  # it held; one that never does is not to hammer
                link, pause = await self._redial(pause)
                self._bring_up(link)
                self._call(options.on_reconnect)
        except SpokeError as error:
            self._end(error)
        except BaseException as error:  # cancelled by _close or with the event loop, or a mistake of ours
            self._end(LostError("closed without a connection"))
            if not isinstance(error, asyncio.CancelledError):
                raise

    async def _redial(self, pause: float) -> tuple[_Link, float]:
        """Dials until there is a link, and returns it with the pause that the next loss
        begins with. Raises what makes it useless to go on."""
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, max(self._options.min_backoff, self._options.max_backoff))
            try:
                return await self._dial(), pause
            except (ProtocolError, ForbiddenError):
                raise
            except TooManyError:
                pause = max(pause, self._options.max_backoff)
            except SpokeError:
                pass

    async def _dial(self) -> _Link:
        """Returns a link whose hub has acknowledged all topics."""
        loop, timeout, words = asyncio.get_running_loop(), self._options.handshake_timeout, "the hub does not answer"
        started = loop.time()
        try:
            conn = await _within(timeout, self._endpoint.connect(self._address, self._options.alpn), words)
        except iroh.IrohError as error:
            raise _connect_error(error.message()) from error
        requests = _Requests(self._next_id, self._options.max_frame, self._per_request)
        link = _Link(conn, self._options.write_timeout, requests, self._moved.set)
        link.progressed = started
        try:
            await _within(started + timeout - loop.time(), link.open(), words)
            link.reader = asyncio.create_task(self._read(link))
            await self._greet(link)
        except BaseException:
            await link.leave()
            raise
        return link

    async def _greet(self, link: _Link) -> None:
        """Subscribes to all topics anew, except for those that the hub refuses by now. A first
        request, which may be empty, is what the hub waits for in any case."""
        loop, timeout = asyncio.get_running_loop(), self._options.handshake_timeout
        parts: list[tuple[str, ...]] = [(topic,) for topic in sorted(self._topics)]
        for topics in parts or [()]:
            link.requests.add(_Call("__subscribe", topics, partial(self._greeted, link)))
        while True:
            link.news.clear()
            while request := link.requests.next():
                await link.write(request[0])
            if link.over is not None:
                raise link.over.with_traceback(None)
            if not link.requests and link.failure is None:
                return
            rest = link.progressed + timeout - loop.time()
            if rest <= 0:
                if self._topics:
                    self._per_request = max(1, self._per_request // 4)
                raise LostError(f"the hub does not answer within {timeout:g} s")
            await _event(link.news, rest)

    def _greeted(self, link: _Link, call: _Call, error: SpokeError | None) -> None:
        if not isinstance(error, RefusedError):
            return
        if call.topics:
            self._topics.difference_update(call.topics)
            self._call(self._options.on_refused, error)
        else:
            link.fail(LostError(f"the hub refuses an empty request: {error}"))

    def _bring_up(self, link: _Link) -> None:
        link.up = True
        if link.over is None:
            self._link = link
            for call in self._calls:
                if not call.over:
                    link.requests.add(call)
            self._ask()
        self._changed.set()
        self._moved.set()

    async def _serve(self, link: _Link) -> SpokeError:
        """Lets a link work until its end, and returns why it ended."""
        writer = asyncio.create_task(self._write(link))
        try:
            error = await asyncio.shield(link.reader)
        finally:
            self._link = None
            writer.cancel()
            await link.leave(writer)
        if self._written > self._taken:  # who knows what the hub got
            self._taken = self._written
            self._trouble = self._trouble or error
        return error

    async def _close(self) -> None:
        assert self._keeper is not None
        if self._link is None:
            self._keeper.cancel()
        else:
            self._ask_for_acknowledgement(self._link)
        for waiting in (self._work, self._moved, self._unfull, self._changed):
            waiting.set()
        await asyncio.wait([self._keeper])
        clean = isinstance(self._ended, ClosedError)
        if self._owns_endpoint:
            ending = _in_background(self._endpoint.close())
            if clean:  # which is quick
                await asyncio.shield(ending)
        if self._ended is not None and not clean:
            raise self._ended.with_traceback(None)

    def _end(self, error: SpokeError) -> None:
        self._ended = self._ended or error
        for call in self._calls:
            call.end(self._ended)
        for waiting in (self._arrived, self._changed, self._unfull):
            waiting.set()

    def _call(self, callback: Callable[..., None] | None, *args: object) -> None:
        try:
            if callback is not None:
                callback(*args)
        except Exception as error:
            context = {"message": "a callback of a spoke raised an exception", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


class _Call:
    """What subscribe or unsubscribe was called for. It outlives links."""

    def __init__(
        self, type: str, topics: tuple[str, ...], settle: Callable[[_Call, SpokeError | None], None]
    ) -> None:
        self.type = type
        self.topics = topics
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = False  # settled, or nobody waits for it
        # Of the link that it is with.
        self.left = 0  # topics that are without an answer
        self.requests = 0  # that it had a part in, and that were not refused
        self.alone = False  # shares no request any more, since it is not clear which call was refused
        self._settle = settle

    def end(self, error: SpokeError | None) -> None:
        if not self.over:
            self.over = True
            self._settle(self, error)


_Part = tuple[_Call, str | None]  # a call, and a topic of it; None: it has none


class _Requests:
    """The requests for topics on one link. One request has parts of several calls, if they are of
    one type. Requests of two types are never without an answer at once, so that what is
    asked again, behind a refusal, does not change places."""

    def __init__(self, next_id: Callable[[], str], max_frame: int, topics: int) -> None:
        self._next_id = next_id
        self._size = min(_REQUEST_SIZE, max_frame - 100)
        self._topics = topics
        self._waiting: deque[_Part] = deque()
        self._asked: dict[str, list[_Part]] = {}  # by the request's id

    def add(self, call: _Call) -> None:
        call.left, call.requests, call.alone = len(call.topics) or 1, 0, False
        self._waiting.extend((call, topic) for topic in call.topics or (None,))

    def next(self, most: int = _REQUESTS) -> tuple[bytes, list[_Call], list[str]] | None:
        """The next request, its calls and its topics, if it is time for one."""
        parts: list[_Part] = []
        names: dict[str, None] = {}
        size = 0
        asked = next(iter(self._asked.values()), parts)
        while self._waiting and len(self._asked) < most:
            call, topic = self._waiting[0]
            if not call.over:
                if (asked or parts) and (asked or parts)[0][0].type != call.type:
                    break
                if parts and parts[-1][0] is not call and (call.alone or parts[-1][0].alone):
                    break
                if topic is not None and topic not in names:
                    cost = 1 + len(json.dumps(topic, ensure_ascii=False).encode())
                    if names and (len(names) >= self._topics or size + cost > self._size):
                        break
                    names[topic] = None
                    size += cost
                parts.append((call, topic))
            self._waiting.popleft()
        if not parts:
            return None
        calls = list(dict.fromkeys(call for call, _ in parts))
        for call in calls:
            call.requests += 1
        id = self._next_id()
        self._asked[id] = parts
        return encode(calls[0].type, id, {"topics": list(names)}), calls, list(names)

    def asked(self) -> list[_Call]:
        """The calls that await an answer."""
        return [call for parts in self._asked.values() for call, _ in parts]

    def __bool__(self) -> bool:
        return bool(self._asked)

    def answer(self, id: str, refused: RefusedError | None) -> bool:
        """Deals with an answer; says whether it is one. What a refusal does not concern is
        asked again."""
        parts = self._asked.pop(id, None)
        if parts is None:
            return False
        if refused is None:
            for call, _ in parts:
                call.left -= 1
                if not call.left:
                    call.end(None)
            return True
        calls = dict.fromkeys(call for call, _ in parts)
        guilty = {call for call, topic in parts if topic == refused.topic}
        if not guilty and len(calls) == 1:
            guilty = set(calls)
        for call in calls:
            call.requests -= 1
            if call in guilty:
                call.end(refused)
            elif not guilty:
                call.alone = True
        self._waiting.extendleft(part for part in reversed(parts) if part[0] not in guilty)
        return True


class _Link:
    """One connection and its stream. It makes errors of this module of the binding's.

    What it knows of the binding. A read that is cancelled loses what it had read, so only the
    end of a link cancels one. Closing the connection ends all that is waiting on it. The
    connection closes when its last object is freed, so the link holds it.

    The protocol has one stream, which the spoke opens. What else a hub opens is accepted and
    stopped, because what is not accepted is held: iroh's handshake grants it 100 streams of each
    kind with 1.25 MB each, and takes nothing back.
    """

    reader: asyncio.Task[SpokeError]

    def __init__(
        self, conn: iroh.Connection, timeout: float, requests: _Requests, on_closed: Callable[[], None]
    ) -> None:
        self.requests = requests
        # Who waits for an acknowledgement, with how much was published before; who is to be asked for.
        self.asked: dict[str, tuple[list[asyncio.Future[None]], int]] = {}
        self.unasked: list[asyncio.Future[None]] = []
        self.up = False  # the hub has acknowledged all topics
        self.over: SpokeError | None = None  # the reader's last word
        self.failure: SpokeError | None = None  # why this side has closed the connection
        self.closed: SpokeError | None = None  # by either side; there may be something left to read
        self.progressed = 0.0  # when the hub answered last
        self.news = asyncio.Event()  # it has answered, or the end
        self._conn = conn
        self._timeout = timeout
        self._deadline: asyncio.TimerHandle | None = None
        conn.set_max_concurrent_uni_streams(0)
        conn.set_max_concurrent_bi_streams(0)
        works = (self._watch(on_closed), self._refuse_uni(), self._refuse_bi())
        self._helpers = [asyncio.create_task(work) for work in works]

    async def _watch(self, on_closed: Callable[[], None]) -> None:
        self.closed = _closed_error(await self._conn.closed())
        on_closed()

    async def _refuse_uni(self) -> None:
        try:
            while True:
                await (await self._conn.accept_uni()).stop(2)
        except iroh.IrohError:
            pass  # the connection has ended

    async def _refuse_bi(self) -> None:
        try:
            while True:
                stream = await self._conn.accept_bi()
                await stream.recv().stop(2)
                await stream.send().reset(2)
        except iroh.IrohError:
            pass

    async def open(self) -> None:
        try:
            stream = await self._conn.open_bi()
        except iroh.IrohError as error:
            raise self._error(error) from error
        self._sending, self._receiving = stream.send(), stream.recv()

    async def read(self) -> bytes:
        """Returns some bytes; none at the stream's end."""
        try:
            return await self._receiving.read(_READ_SIZE)
        except iroh.IrohError as error:
            raise self._error(error) from error

    async def write(self, data: bytes) -> bool:
        """Returns False if that failed. Why, the reader hears."""
        try:
            for start in range(0, len(data), _WRITE_SIZE):
                part = data[start : start + _WRITE_SIZE]
                await _within(self._timeout, self._sending.write_all(part), "no progress in writing")
        except LostError:
            self.fail(TimeoutClosedError(6, "no progress in writing"))
            return False
        except iroh.IrohError as error:
            if self._conn.close_reason() is None:  # the stream alone
                self.fail(self._error(error))
            return False
        return True

    async def finish(self) -> None:
        """Ends this half. The hub answers by closing the connection."""
        try:
            await self._sending.finish()
        except iroh.IrohError:
            return
        late = TimeoutClosedError(6, "the hub did not end the connection in time")
        self._deadline = asyncio.get_running_loop().call_later(self._timeout, self.fail, late)

    async def why_closed(self) -> SpokeError:
        """Waits for the close code, which comes behind the stream's end."""
        words = "the hub ended its stream, and then not the connection"
        return _closed_error(await _within(self._timeout, self._conn.closed(), words))

    def fail(self, error: SpokeError) -> None:
        """Closes the connection because of error."""
        self.failure = self.failure or error
        code, reason = (error.code, error.reason) if isinstance(error, CloseError) else (0, str(error))
        self._conn.close(code, reason.encode())

    def awaits_answers(self) -> bool:
        return bool(self.asked) or bool(self.requests)

    def progress(self) -> None:
        self.progressed = asyncio.get_running_loop().time()

    def end_answers(self, error: SpokeError) -> None:
        self.over = self.over or error
        self.news.set()
        for answer in [*self.unasked, *(answer for answers, _ in self.asked.values() for answer in answers)]:
            if not answer.done():
                answer.set_exception(error.with_traceback(None))

    async def leave(self, *tasks: asyncio.Task[None]) -> None:
        """Closes the connection, if it is not, and waits for all that works on it."""
        self._conn.close(0, b"")
        if self._deadline is not None:
            self._deadline.cancel()
        waiting: list[asyncio.Task[Any]] = [*self._helpers, *tasks]
        if hasattr(self, "reader"):
            waiting.append(self.reader)
        self.end_answers(LostError("the connection was given up"))  # in general, the reader has done so
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def _error(self, error: iroh.IrohError) -> SpokeError:
        if (closed := self._conn.close_reason()) is not None:
            return _closed_error(closed)
        if found := re.match(r"(?:Reset|Stopped)\((\d+)\)", error.message()):
            return close_error(int(found[1]))
        return LostError(error.message())


_CLOSED = re.compile(r"closed by peer: (?:(?P<reason>.*) \(code (?P<code>\d+)\)|(?P<bare>\d+))", re.DOTALL)


def _closed_error(words: str) -> SpokeError:
    """Reads how the binding says why a connection was closed."""
    if found := _CLOSED.fullmatch(words):
        return close_error(int(found["code"] or found["bare"]), found["reason"] or "")
    return LostError(words)


def _connect_error(words: str) -> SpokeError:
    """Reads how the binding says why there was no connection: causes, the last one behind."""
    _, _, cause = words.partition("ConnectingError::ConnectionError")
    _, _, cause = cause.partition("\n")
    error = _closed_error(cause.strip())
    return error if isinstance(error, CloseError) else LostError(words)


async def _within(seconds: float, work: Coroutine[Any, Any, _T], words: str) -> _T:
    """Awaits work; raises LostError if that takes longer. Unlike wait_for, before Python 3.12, it
    never swallows that it is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=max(0.0, seconds))
    except BaseException:
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    if not done:
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            raise LostError(f"{words} within {seconds:g} s")
    return task.result()


async def _event(event: asyncio.Event, seconds: float | None) -> None:
    """Waits for an event, and no longer than that."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set) if seconds is not None else None
    try:
        await event.wait()
    finally:
        if timer is not None:
            timer.cancel()


# -------------------------------------------------------------------------------- forks

_forks = 0  # that this process has come from, since iroh had begun to work
_spokes: Final[weakref.WeakSet[Spoke]] = weakref.WeakSet()


def _check_fork() -> None:
    if _forks:
        raise ForkedError("this process is a fork of one that has used iroh: connect after the fork, not before")


def _forked() -> None:
    """In the child: if iroh has worked in the parent, its threads are gone and its locks may be
    held for ever. So nothing of it is touched again, not even to free it: objects that wait
    for it, and spokes with all that they have, are made to stay until the process ends."""
    global _forks
    calls = getattr(iroh.iroh_ffi, "_UniffiContinuationHandleMap", None)
    if not _spokes and getattr(calls, "_counter", None) == getattr(iroh.iroh_ffi, "_UNIFFI_HANDLEMAP_INITIAL", 0):
        return  # it has not worked yet
    _forks += 1
    for kept in (calls, *_spokes):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
