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

# One read takes as much. One write takes less, because the binding copies what is written
# byte by byte in Python, and the event loop stands still meanwhile: about 4 ms for 16 KiB.
READ_SIZE: Final = 64 << 10
WRITE_SIZE: Final = 16 << 10

# A request names so many topics at most, in so many bytes, and so many requests are without
# an answer at once: a hub is to say something now and then, and its answers are to need
# little room in its queue for this spoke.
REQUEST_TOPICS: Final = 64
_REQUEST_SIZE: Final = 16 << 10
_REQUESTS: Final = 4


class Call:
    """What subscribe was called for. It outlives links."""

    def __init__(self, topics: tuple[str, ...], settle: Callable[[Call, SpokeError | None], None]) -> None:
        self.topics = topics
        self.over = False  # settled, or nobody waits for it
        # Of the link that it is with.
        self.left = 0  # topics that are without an answer
        self.alone = False  # shares no request any more, since it is not clear which call was refused
        self.sent = False  # it has a part in a request
        self._settle = settle

    def end(self, error: SpokeError | None) -> None:
        if not self.over:
            self.over = True
            self._settle(self, error)


_Part = tuple[Call, str | None]  # a call, and a topic of it; None: it asks for none


def cost(topic: str) -> int:
    """Bytes that a topic takes in a request."""
    return 1 + len(json.dumps(topic, ensure_ascii=False).encode())


class Requests:
    """The requests for topics on one link. One request has parts of several calls."""

    def __init__(self, next_id: Callable[[], str], max_frame: int, topics: int) -> None:
        self._next_id = next_id
        self._size = min(_REQUEST_SIZE, max_frame - 100)
        self._topics = topics
        self._waiting: deque[_Part] = deque()
        self._asked: dict[str, list[_Part]] = {}  # by the request's id

    def add(self, call: Call, topics: Iterable[str]) -> None:
        """Asks for those of a call's topics that are to be asked for; none: for an empty answer."""
        parts: list[_Part] = [(call, topic) for topic in topics] or [(call, None)]
        call.left, call.alone, call.sent = len(parts), False, False
        self._waiting.extend(parts)

    def next(self) -> tuple[bytes, list[str]] | None:
        """The next request and its topics, if it is time for one."""
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
        """Requests that take topics back, to which there are no answers."""
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
        """Whether there is one to make, or an answer is awaited."""
        return bool(self._asked) or bool(self._waiting)

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
            if call in guilty:
                call.end(refused)
            elif not guilty:
                call.alone = True
        self._waiting.extendleft(part for part in reversed(parts) if part[0] not in guilty)
        return True


_Answer = tuple["asyncio.Future[None]", int]  # who waits for an acknowledgement, and how many events it is for


class Link:
    """One connection and its stream. It makes errors of this package of the binding's.

    What it knows of the binding. A read that is cancelled loses what it had read, so only the
    end of a link cancels one. Closing the connection ends all that is waiting on it. The
    connection closes when its last object is freed, so the link holds it.

    The protocol has one stream, which the spoke opens. What else a hub opens is accepted and
    stopped, because what is not accepted is held: iroh's handshake grants it 100 streams of each
    kind with 1.25 MB each, and takes nothing back.
    """

    reader: asyncio.Task[SpokeError]

    def __init__(self, conn: iroh.Connection, timeout: float, requests: Requests) -> None:
        self.requests = requests
        self.greeted: dict[str, None] = {}  # topics that it was asked for first, and has not refused
        # Who is to be asked for; who waits for an answer, by the request's id, with how much was
        # published before it.
        self.unasked: list[_Answer] = []
        self.asked: dict[str, tuple[list[_Answer], int]] = {}
        self.told = 0  # of how many events somebody was told that they may be lost
        self.up = False  # the hub has answered for all topics
        self.whole = False  # the hub has ended its half of the stream, behind a whole frame
        self.over: SpokeError | None = None  # the reader's last word
        self.failure: SpokeError | None = None  # why this side has closed the connection
        self.progressed = 0.0  # when the hub answered last
        self.news = asyncio.Event()  # it has answered, or the end
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
        """Returns some bytes; none at the stream's end."""
        try:
            return await self._receiving.read(READ_SIZE)
        except iroh.IrohError as error:
            raise self._error(error) from error

    async def write(self, data: bytes) -> bool:
        """Returns False if that failed. Why, the reader hears."""
        try:
            for start in range(0, len(data), WRITE_SIZE):
                part = data[start : start + WRITE_SIZE]
                await within(self._timeout, self._sending.write_all(part), "no progress in writing")
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
            return closed_error(closed)
        if found := re.match(r"(?:Reset|Stopped)\((\d+)\)", error.message()):
            return close_error(int(found[1]))
        return LostError(error.message())


_CLOSED = re.compile(r"closed by peer: (?:(?P<reason>.*) \(code (?P<code>\d+)\)|(?P<bare>\d+))", re.DOTALL)


def closed_error(words: str) -> SpokeError:
    """Reads how the binding says why a connection was closed."""
    if found := _CLOSED.fullmatch(words):
        return close_error(int(found["code"] or found["bare"]), found["reason"] or "")
    return LostError(words)


def connect_error(words: str) -> SpokeError:
    """Reads how the binding says why there was no connection: causes, the last one behind."""
    _, _, cause = words.partition("ConnectingError::ConnectionError")
    _, _, cause = cause.partition("\n")
    error = closed_error(cause.strip())
    return error if isinstance(error, CloseError) else LostError(words)
