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
call its methods at once; another thread may not.

From the top: errors, events and topics, frames, the spoke.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import iroh

ALPN: Final = b"alkpubsub/1"
MAX_FRAME: Final = 1 << 20  # bytes of an envelope, unless the hub is set to another limit
MAX_DEPTH: Final = 128  # nested objects and arrays, the envelope being the first
MAX_TOPIC: Final = 1024  # bytes
FROM_SIZE: Final = 74  # what a hub adds to an event that it passes on

# One read takes as much. One write takes less, because the binding copies what is written
# byte by byte in Python, and the event loop stands still meanwhile: about 4 ms for 16 KiB.
_READ_SIZE: Final = 64 << 10
_WRITE_SIZE: Final = 16 << 10

# Bytes that publish may be ahead of the network.
_OUTBOX_SIZE: Final = 256 << 10

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


class InvalidTopicError(RefusedError):
    """Not a topic; see check_topic."""


class TooManySubscriptionsError(RefusedError):
    """Over the hub's limit of topics for one spoke, 1,024 unless it is set to another."""


class InvalidPayloadError(RefusedError):
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
    payload: Any = None  # decoded as json.loads does it; None where there is none
    sender: str | None = None  # "from": the NodeID of the spoke that published; None: the hub
    json: Json | None = None  # the payload's text as it came; None where there is none

    @property
    def topic(self) -> str:
        """What subscriptions are compared with: type, or type:id where id is not empty."""
        return f"{self.type}:{self.id}" if self.id else self.type


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NODE_ID = re.compile("[0-9a-f]{64}")


def check_topic(topic: str) -> None:
    """Raises InvalidTopicError unless topic is 1 to 1,024 bytes of UTF-8 without control
    characters that do not begin with two underscores."""
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


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Python does not make an int of more than 4,300 digits
        return float(digits)


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_int=_integer)
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
            text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            if _SURROGATE.search(text):  # in a payload, an escaped half of a pair may pass
                text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
            data = text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidPayloadError("invalid_payload", topic, f"not JSON: {error}") from error
    if _depth(text) > MAX_DEPTH - 1:
        raise InvalidPayloadError("invalid_payload", topic, f"nested more than {MAX_DEPTH - 1} deep")
    return data


def encode(type: str, id: str = "", payload: object = None) -> bytes:
    """Returns a frame, its length first. Raises InvalidPayloadError; checks no topic and no size."""
    body = b'{"type":' + json.dumps(type, ensure_ascii=False).encode()
    if id:
        body += b',"id":' + json.dumps(id, ensure_ascii=False).encode()
    if payload is not None:
        body += b',"payload":' + _payload_text(payload, f"{type}:{id}" if id else type)
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
    """What connect may be told. Times are in seconds."""

    alpn: bytes = ALPN
    max_frame: int = MAX_FRAME  # bytes, of which 74 of what is published are left for "from"; not over the hub's
    max_queue: int = 1 << 20  # bytes of events that may wait for the iteration; see Spoke

    # An endpoint of the spoke's own has these; one that is given has its own.
    secret_key: bytes | None = None  # 32 bytes; None: a new key, and so a new NodeID
    relays: bool = False  # the relays and the discovery of iroh's authors

    handshake_timeout: float = 10.0  # for each attempt to connect
    write_timeout: float = 10.0  # without progress in writing, and for the hub's last word

    # When a connection is lost, the spoke dials again after a pause, which doubles from
    # min_backoff to max_backoff, each time shortened by chance by up to a half. ProtocolError and
    # ForbiddenError end the spoke instead, and so does TooManyError once connected, as
    # it means that a newer spoke has taken the place; before, the pause is max_backoff.
    reconnect: bool = True  # False: a lost connection ends the spoke
    min_backoff: float = 0.25
    max_backoff: float = 30.0

    # The event loop calls them, so they must not block.

    # A connection was lost, the last one too, but not by close(). All that came on it is
    # waiting for the iteration by then, or was taken already.
    on_disconnect: Callable[[SpokeError], None] | None = None
    # There is a new one, and the hub has acknowledged all topics.
    on_reconnect: Callable[[], None] | None = None
    # The hub refused an event that was published, or refuses a topic anew after a reconnect,
    # which is then no longer subscribed.
    on_refused: Callable[[RefusedError], None] | None = None


async def connect(peer: str, options: Options = Options(), *, endpoint: iroh.Endpoint | None = None) -> Spoke:
    """Connects to a hub and returns once the hub has taken the spoke in.

    peer is the ticket that the hub prints, or NODEID@HOST:PORT[,HOST:PORT]... by numbers. With
    endpoint, the spoke uses one that is there, which stays yours to close, after the spoke.
    Else it binds one of its own.

    Raises ValueError for a peer of another form, CloseError (ForbiddenError, TooManyError) if
    the hub turns the spoke away, and LostError if it does not answer.
    """
    address = parse_peer(peer)
    own = endpoint is None
    if endpoint is None:
        preset = iroh.preset_n0() if options.relays else iroh.preset_minimal()
        try:
            endpoint = await iroh.Endpoint.bind(iroh.EndpointOptions(preset=preset, secret_key=options.secret_key))
        except iroh.IrohError as error:
            raise LostError(f"no endpoint: {error.message()}") from error
    spoke = Spoke(endpoint, own, address, options)
    try:
        await spoke._start()
    except BaseException:
        if own:
            await endpoint.close()
        raise
    return spoke


def parse_peer(peer: str) -> iroh.EndpointAddr:
    """Reads a ticket or NODEID@HOST:PORT[,HOST:PORT]...; raises ValueError."""
    node, at, hosts = peer.partition("@")
    words = f"{peer!r} is neither NODEID@HOST:PORT, by numbers, nor a ticket"
    try:
        if not at:
            return iroh.EndpointTicket.from_string(peer).endpoint_addr()
        for host in hosts.split(","):  # the binding would find it wrong only when it dials
            ip, _, port = host.rpartition(":")
            ipaddress.ip_address(ip.removeprefix("[").removesuffix("]"))
            if not 0 < int(port) < 65536:
                raise ValueError("no port")
        if _NODE_ID.fullmatch(node):
            return iroh.EndpointAddr(iroh.EndpointId.from_string(node), None, hosts.split(","))
    except (iroh.IrohError, ValueError) as error:
        raise ValueError(words) from error
    raise ValueError(words)


class Spoke:
    """A connection to a hub that comes back by itself. Use connect to make one.

    It is an asynchronous iterator over the events that come: all of them in one order, each
    to one iteration, if there are several. It ends after close() with the events that had
    come until then, and raises what ended the spoke if that was something else: CloseError
    or LostError.

    Slow iterations. Up to max_queue bytes of events wait for the iteration, and what one read
    brings more (64 KiB, or one event). While there are more, the spoke reads on only if an
    answer of the hub is awaited, since that stands behind the events, or if the connection
    is closed already. The events then wait at the hub, which cuts off whoever has more
    than its limit waiting: on_disconnect gets a SlowError, and there is a gap.
    """

    def __init__(
        self, endpoint: iroh.Endpoint, owns_endpoint: bool, address: iroh.EndpointAddr, options: Options
    ) -> None:
        self._endpoint = endpoint
        self._owns_endpoint = owns_endpoint
        self._address = address
        self._options = options

        # From the hub to the iteration.
        self._queue: deque[tuple[Event, int]] = deque()  # with their sizes
        self._queued = 0  # bytes
        self._arrived = asyncio.Event()  # something in the queue, or the end
        self._room = asyncio.Event()  # the reader may read
        self._room.set()

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
        self._topics: set[str] = set()  # acknowledged
        self._topics_lock = asyncio.Lock()  # one change after the other
        self._requests = 0  # each has its number for an id

        # For flush: how many events were published, handed to a link, and surely taken by
        # the hub; and the first thing that went wrong with one.
        self._published = self._written = self._taken = 0
        self._trouble: SpokeError | None = None

    # ---- what an application does

    @property
    def node(self) -> str:
        """The spoke's own NodeID; its mailbox is the topic direct:NODEID."""
        return str(self._endpoint.id())

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None

    @property
    def topics(self) -> frozenset[str]:
        """The topics that the hub has acknowledged, and that the spoke comes back to."""
        return frozenset(self._topics)

    async def subscribe(self, *topics: str) -> None:
        """Adds topics, or patterns T:*, and returns once the hub has acknowledged them: what
        it routes to them from then on comes. All are added or none; one that is there
        already is no error. It waits while the spoke is disconnected.

        Raises RefusedError (TopicForbiddenError, InvalidTopicError, TooManySubscriptionsError),
        or what ended the spoke. When it is cancelled, nothing new stays subscribed.
        """
        for topic in topics:
            check_topic(topic)
        async with self._topics_lock:
            try:
                await self._change("__subscribe", topics)
            except asyncio.CancelledError:
                if self._link and (new := set(topics) - self._topics):
                    self._send(self._link, encode("__unsubscribe", "", {"topics": sorted(new)}))
                raise
            self._topics.update(topics)

    async def unsubscribe(self, *topics: str) -> None:
        """Removes topics and returns once the hub has acknowledged it: none of their events
        come behind those that are waiting for the iteration then. One that is not there is
        no error. Raises what ended the spoke."""
        for topic in topics:
            check_topic(topic)
        async with self._topics_lock:
            self._topics.difference_update(topics)
            await self._change("__unsubscribe", topics)

    async def publish(self, type: str, payload: object = None, *, id: str = "") -> None:
        """Hands an event to the hub, which gives it to its own listeners and, if its policy
        is to forward it, to other spokes. It never comes back to this one.

        payload is what json.dumps takes, or Json text, which stays as it is; None: none. It
        returns once the event is queued for writing, and waits while over 256 KiB are, and
        so while the spoke is disconnected. See flush, and Options.on_refused, for what the
        hub makes of it.

        Raises InvalidTopicError or InvalidPayloadError for what is not allowed, or what ended
        the spoke.
        """
        topic = f"{type}:{id}" if id else type
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
        lost, so that it is not known what the hub got; or what ended the spoke.
        """
        link = await self._connected()
        published = self._published
        try:
            await self._request(link, "__subscribe", ())
        except SpokeError:
            self._trouble = None
            raise
        self._taken = max(self._taken, published)
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble.with_traceback(None)

    async def close(self) -> None:
        """Ends the spoke: writes what publish has queued, and waits until the hub has taken
        all of it and said so. The events that come until then are left to the iteration.

        Raises CloseError or LostError if that failed, if a connection was missing for it, or
        if something else had ended the spoke; an endpoint of its own is closed even so.
        Later calls do as the first.
        """
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
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
        while not self._queue:
            if isinstance(self._ended, ClosedError):
                raise StopAsyncIteration
            if self._ended is not None:
                raise self._ended.with_traceback(None)
            self._arrived.clear()
            await self._arrived.wait()
        event, size = self._queue.popleft()
        self._queued -= size
        self._regard_room()
        return event

    # ---- requests, and what is to be written

    def _check_open(self) -> None:
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

    async def _change(self, type: str, topics: Iterable[str]) -> None:
        """Makes a request of whichever link there is."""
        while True:
            link = await self._connected()
            try:
                return await self._request(link, type, topics)
            except RefusedError:
                raise
            except SpokeError:
                pass  # the link was lost, and the hub has forgotten what it had subscribed

    async def _request(self, link: _Link, type: str, topics: Iterable[str]) -> None:
        """Asks behind all that is to be written, and waits for the answer. Raises RefusedError,
        or why the link was lost."""
        id, answer = self._expect_answer(link)
        try:
            frame = encode(type, id, {"topics": list(topics)})
            if len(frame) - 4 > self._options.max_frame:
                raise InvalidPayloadError("invalid_payload", "", "too many topics for one request")
            self._send(link, frame)
            await answer
        finally:
            del link.answers[id]
            self._regard_room()

    def _expect_answer(self, link: _Link) -> tuple[str, asyncio.Future[None]]:
        self._requests += 1
        id = str(self._requests)
        answer = link.answers[id] = asyncio.get_running_loop().create_future()
        self._regard_room()
        return id, answer

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
                    self._take(link, parse_envelope(body), len(body) + 4)
                self._regard_room()
                await self._room.wait()
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
        link.fail_answers(error)
        return error

    def _take(self, link: _Link, event: Event, size: int) -> None:
        if not event.type.startswith("__"):
            self._queue.append((event, size))
            self._queued += size
            self._arrived.set()
        elif event.type == "__ack":
            answer = link.answers.get(event.id)
            if answer and not answer.done():
                answer.set_result(None)
        elif event.type == "__error":
            refused = _refusal(event.payload)
            answer = link.answers.get(event.id)
            if answer and not answer.done():
                answer.set_exception(refused)
            elif not event.id:
                self._trouble = self._trouble or refused
                self._call(self._options.on_refused, refused)

    def _regard_room(self) -> None:
        """Lets the reader read, or not; see Spoke."""
        link = self._link
        if self._queued <= self._options.max_queue or not link or link.answers or link.closed or self._closing:
            self._room.set()
        else:
            self._room.clear()

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
        return await _within(self._options.handshake_timeout, self._handshake(), "the hub does not answer")

    async def _handshake(self) -> _Link:
        try:
            conn = await self._endpoint.connect(self._address, self._options.alpn)
        except iroh.IrohError as error:
            raise _connect_error(error.message()) from error
        link = _Link(conn, self._options.write_timeout, self._regard_room)
        try:
            await link.open()
            link.reader = asyncio.create_task(self._read(link))
            # In parts, since together they may be too long for a frame. A first one, which may be
            # empty, is what the hub waits for in any case.
            topics = sorted(self._topics)
            for part in [topics[i : i + 64] for i in range(0, len(topics), 64)] or [[]]:
                await self._greet(link, part)
        except BaseException:
            await link.leave()
            raise
        return link

    async def _greet(self, link: _Link, topics: list[str]) -> None:
        """Subscribes to topics anew, except for those that the hub refuses by now."""
        while True:
            id, answer = self._expect_answer(link)
            try:
                await link.write(encode("__subscribe", id, {"topics": topics}))
                return await answer
            except RefusedError as error:
                if not topics:
                    raise LostError(f"the hub refuses an empty request: {error}") from error
                refused = {error.topic} if error.topic in topics else set(topics)
                topics = [topic for topic in topics if topic not in refused]
                self._topics -= refused
                self._call(self._options.on_refused, error)
            finally:
                del link.answers[id]

    def _bring_up(self, link: _Link) -> None:
        if not link.reader.done():
            self._link = link
        self._changed.set()
        self._regard_room()

    async def _serve(self, link: _Link) -> SpokeError:
        """Lets a link work until its end, and returns why it ended."""
        writer = asyncio.create_task(self._write(link))
        try:
            error = await asyncio.shield(link.reader)
        finally:
            self._link = None
            writer.cancel()
            await link.leave(writer)
            self._regard_room()
        if self._written > self._taken:  # who knows what the hub got
            self._taken = self._written
            self._trouble = self._trouble or error
        return error

    async def _close(self) -> None:
        assert self._keeper is not None
        if self._link is None:
            self._keeper.cancel()
        for waiting in (self._work, self._room, self._unfull, self._changed):
            waiting.set()
        await asyncio.wait([self._keeper])
        if self._owns_endpoint:
            await self._endpoint.close()
        if self._ended is not None and not isinstance(self._ended, ClosedError):
            raise self._ended.with_traceback(None)

    def _end(self, error: SpokeError) -> None:
        self._ended = self._ended or error
        for waiting in (self._arrived, self._changed, self._unfull):
            waiting.set()

    def _call(self, callback: Callable[..., None] | None, *args: object) -> None:
        try:
            if callback is not None:
                callback(*args)
        except Exception as error:
            context = {"message": "a callback of a spoke raised an exception", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


class _Link:
    """One connection and its stream. It makes errors of this module of the binding's.

    What it knows of the binding. A read that is cancelled loses what it had read, so only the
    end of a link cancels one. Closing the connection ends all that is waiting on it. The
    connection closes when its last object is freed, so the link holds it.
    """

    reader: asyncio.Task[SpokeError]

    def __init__(self, conn: iroh.Connection, timeout: float, on_closed: Callable[[], None]) -> None:
        self.answers: dict[str, asyncio.Future[None]] = {}  # by the request's id
        self.failure: SpokeError | None = None  # why this side has closed the connection
        self.closed = False  # by either side; there may be something left to read
        self._conn = conn
        self._timeout = timeout
        self._deadline: asyncio.TimerHandle | None = None
        self._watcher = asyncio.create_task(self._watch(on_closed))

    async def _watch(self, on_closed: Callable[[], None]) -> None:
        await self._conn.closed()
        self.closed = True
        on_closed()

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

    def fail_answers(self, error: SpokeError) -> None:
        for answer in self.answers.values():
            if not answer.done():
                answer.set_exception(error)

    async def leave(self, *tasks: asyncio.Task[None]) -> None:
        """Closes the connection, if it is not, and waits for all that works on it."""
        self._conn.close(0, b"")
        if self._deadline is not None:
            self._deadline.cancel()
        waiting: list[asyncio.Task[Any]] = [self._watcher, *tasks]
        if hasattr(self, "reader"):
            waiting.append(self.reader)
        self.fail_answers(LostError("the connection was given up"))  # in general, the reader has done so
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


async def _within(seconds: float, work: Awaitable[_T], words: str) -> _T:
    """Awaits work; raises LostError if that takes longer."""
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise LostError(f"{words} within {seconds:g} s") from None
