"""One connection to a hub."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import iroh

from ._errors import CloseError, LostError, SpokeError, TimeoutClosedError, close_error
from ._requests import Requests
from ._tasks import within

# The most bytes in one read and in one write. Writes are smaller because the binding copies the
# bytes one by one in Python. This blocks the event loop for about 4 ms per 16 KiB.
READ_SIZE: Final = 64 << 10
WRITE_SIZE: Final = 16 << 10

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
