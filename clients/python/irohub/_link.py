"""One connection to a hub, and the requests on it."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import iroh

from ._errors import CloseError, LostError, RefusedError, SpokeError, TimeoutClosedError, close_error
from ._events import encode
from ._tasks import within

# The most bytes in one read and in one write. Writes are smaller because the binding copies the
# bytes one by one in Python. This blocks the event loop for about 4 ms per 16 KiB.
READ_SIZE: Final = 64 << 10
WRITE_SIZE: Final = 16 << 10

# Limits of requests: topics in one, bytes in one, and requests without an answer. They make the
# hub answer regularly, and keep small the queue that its answers need.
REQUEST_TOPICS: Final = 64
_REQUEST_SIZE: Final = 16 << 10
_REQUESTS: Final = 4


class Call:
    """A call of subscribe. It outlives links."""

    def __init__(self, topics: tuple[str, ...], settle: Callable[[Call, SpokeError | None], None]) -> None:
        self.topics = topics
        self.over = False  # settled, or its caller has given up
        # State on the current link.
        self.left = 0  # topics without an answer
        self.alone = False  # must not share a request: a shared one was refused, and it is unclear for which call
        self.sent = False  # part of it was sent in a request
        self._settle = settle

    def end(self, error: SpokeError | None) -> None:
        if not self.over:
            self.over = True
            self._settle(self, error)


_Part = tuple[Call, str | None]  # a call and one of its topics; None: no topic


def cost(topic: str) -> int:
    """Returns the number of bytes that a topic takes in a request."""
    return 1 + len(json.dumps(topic, ensure_ascii=False).encode())


class Requests:
    """The requests for topics on one link. One request may serve several calls."""

    def __init__(self, next_id: Callable[[], str], max_frame: int, topics: int) -> None:
        self._next_id = next_id
        self._size = min(_REQUEST_SIZE, max_frame - 100)
        self._topics = topics
        self._waiting: deque[_Part] = deque()
        self._asked: dict[str, list[_Part]] = {}  # by the request's id

    def add(self, call: Call, topics: Iterable[str]) -> None:
        """Queues a call's topics for a request. Without topics, the request is empty."""
        parts: list[_Part] = [(call, topic) for topic in topics] or [(call, None)]
        call.left, call.alone, call.sent = len(parts), False, False
        self._waiting.extend(parts)

    def next(self) -> tuple[bytes, list[str]] | None:
        """Returns the next request and its topics, if one may be sent now."""
        parts: list[_Part] = []
        names: dict[str, None] = {}
        size = 0
        while self._waiting and len(self._asked) < _REQUESTS:
            call, topic = self._waiting[0]
            if not call.over:
                if parts and parts[-1][0] is not call and (call.alone or parts[-1][0].alone):
                    break
                if topic is not None and topic not in names:
                    if names and (len(names) >= self._topics or size + cost(topic) > self._size):
                        break
                    names[topic] = None
                    size += cost(topic)
                parts.append((call, topic))
                call.sent = True
            self._waiting.popleft()
        if not parts:
            return None
        id = self._next_id()
        self._asked[id] = parts
        return encode("__subscribe", id, {"topics": list(names)}), list(names)

    def undo(self, topics: Iterable[str]) -> Iterator[bytes]:
        """Yields requests that unsubscribe from topics. They get no answers."""
        names: list[str] = []
        size = 0
        for topic in topics:
            if names and (len(names) >= REQUEST_TOPICS or size + cost(topic) > self._size):
                yield encode("__unsubscribe", "", {"topics": names})
                names, size = [], 0
            names.append(topic)
            size += cost(topic)
        if names:
            yield encode("__unsubscribe", "", {"topics": names})

    def __bool__(self) -> bool:
        """Reports whether a request is still to be sent or answered."""
        return bool(self._asked) or bool(self._waiting)

    def answer(self, id: str, refused: RefusedError | None) -> bool:
        """Handles an answer. Returns False if id is not a request of this link. Topics that a refusal
        does not concern are requested again."""
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
            if call in guilty:
                call.end(refused)
            elif not guilty:
                call.alone = True
        self._waiting.extendleft(part for part in reversed(parts) if part[0] not in guilty)
        return True


_Answer = tuple["asyncio.Future[None]", int]  # a caller that waits, and the number of events published before


class Link:
    """One connection and its stream. It converts the binding's errors to those of this package.

    It depends on three facts about the binding. A cancelled read loses the bytes it has read, so
    reads are cancelled only at the end of a link. Closing the connection ends all calls that wait
    on it. The connection closes when its last object is freed, so the link keeps the object.

    The protocol has one stream, which the spoke opens. The link accepts and stops every other
    stream that a hub opens, because iroh buffers streams that are not accepted. iroh's handshake
    allows 100 streams of each kind with 1.25 MB each, and cannot revoke that.
    """

    reader: asyncio.Task[SpokeError]

    def __init__(self, conn: iroh.Connection, timeout: float, requests: Requests) -> None:
        self.requests = requests
        self.greeted: dict[str, None] = {}  # topics of the first requests that the hub has not refused
        # Acknowledgements to request; and by request id, those requested, with the number of
        # events published before.
        self.unasked: list[_Answer] = []
        self.asked: dict[str, tuple[list[_Answer], int]] = {}
        self.told = 0  # up to this event number, a caller has learned that events may be lost
        self.up = False  # the hub has answered the requests for all topics
        self.whole = False  # the hub ended its half of the stream after a complete frame
        self.over: SpokeError | None = None  # why the link ended
        self.failure: SpokeError | None = None  # why this side has closed the connection
        self.progressed = 0.0  # time of the hub's last answer
        self.news = asyncio.Event()  # set by an answer, or at the end
        self._conn = conn
        self._timeout = timeout
        self._deadline: asyncio.TimerHandle | None = None
        conn.set_max_concurrent_uni_streams(0)
        conn.set_max_concurrent_bi_streams(0)
        self._helpers = [asyncio.create_task(work) for work in (self._refuse_uni(), self._refuse_bi())]

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
        """Returns at least one byte, or b"" at the end of the stream."""
        try:
            return await self._receiving.read(READ_SIZE)
        except iroh.IrohError as error:
            raise self._error(error) from error

    async def write(self, data: bytes) -> bool:
        """Writes data. Returns False if that failed; the reader gets the reason."""
        try:
            for start in range(0, len(data), WRITE_SIZE):
                part = data[start : start + WRITE_SIZE]
                await within(self._timeout, self._sending.write_all(part), "no progress in writing")
        except LostError:
            self.fail(TimeoutClosedError(6, "no progress in writing"))
            return False
        except iroh.IrohError as error:
            if self._conn.close_reason() is None:  # only the stream failed
                self.fail(self._error(error))
            return False
        return True

    async def finish(self) -> None:
        """Ends the sending half. The hub responds by closing the connection."""
        try:
            await self._sending.finish()
        except iroh.IrohError:
            return
        late = TimeoutClosedError(6, "the hub did not end the connection in time")
        self._deadline = asyncio.get_running_loop().call_later(self._timeout, self.fail, late)

    async def why_closed(self) -> SpokeError:
        """Waits for the close code, which follows the end of the stream."""
        words = "the hub ended its stream but did not close the connection"
        return closed_error(await within(self._timeout, self._conn.closed(), words))

    def fail(self, error: SpokeError) -> None:
        """Closes the connection because of error."""
        self.failure = self.failure or error
        code, reason = (error.code, error.reason) if isinstance(error, CloseError) else (0, str(error))
        self._conn.close(code, reason.encode())

    def progress(self) -> None:
        self.progressed = asyncio.get_running_loop().time()

    def end_answers(self, error: SpokeError) -> None:
        self.over = self.over or error
        self.news.set()
        for answer, published in [*self.unasked, *(one for answers, _ in self.asked.values() for one in answers)]:
            if not answer.done():
                answer.set_exception(error.with_traceback(None))
                self.told = max(self.told, published)

    async def leave(self, *tasks: asyncio.Task[None]) -> None:
        """Closes the connection if it is open, and waits for all its tasks."""
        self._conn.close(0, b"")
        if self._deadline is not None:
            self._deadline.cancel()
        waiting: list[asyncio.Task[Any]] = [*self._helpers, *tasks]
        if hasattr(self, "reader"):
            waiting.append(self.reader)
        self.end_answers(LostError("the connection was abandoned"))  # usually the reader has done this already
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def _error(self, error: iroh.IrohError) -> SpokeError:
        if (closed := self._conn.close_reason()) is not None:
            return closed_error(closed)
        if found := re.match(r"(?:Reset|Stopped)\((\d+)\)", error.message()):
            return close_error(int(found[1]))
        return LostError(error.message())


_CLOSED = re.compile(r"closed by peer: (?:(?P<reason>.*) \(code (?P<code>\d+)\)|(?P<bare>\d+))", re.DOTALL)


def closed_error(words: str) -> SpokeError:
    """Parses the binding's text about why a connection was closed."""
    if found := _CLOSED.fullmatch(words):
        return close_error(int(found["code"] or found["bare"]), found["reason"] or "")
    return LostError(words)


def connect_error(words: str) -> SpokeError:
    """Parses the binding's text about why connecting failed: a chain of causes, the last one at the end."""
    _, _, cause = words.partition("ConnectingError::ConnectionError")
    _, _, cause = cause.partition("\n")
    error = closed_error(cause.strip())
    return error if isinstance(error, CloseError) else LostError(words)
