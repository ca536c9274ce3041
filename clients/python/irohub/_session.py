"""A session with a hub: link after link, until the spoke ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

import iroh

from ._errors import (
    ClosedError,
    CloseError,
    EndedError,
    ForbiddenError,
    LostError,
    ProtocolError,
    RefusedError,
    SpokeError,
    TooManyError,
    refusal,
)
from ._events import MAX_ANSWER, Event, FrameReader, encode, parse_envelope
from ._forks import check_fork
from ._link import Link, connect_error
from ._options import Options, State
from ._outbox import Outbox
from ._requests import REQUEST_TOPICS, Call, Requests
from ._tasks import event_within, in_background, within
from ._topics import Topics


class Session:
    """Connects, reconnects whenever a link ends, and closes."""

    def __init__(
        self, endpoint: iroh.Endpoint, owns_endpoint: bool, address: iroh.EndpointAddr, options: Options
    ) -> None:
        self._endpoint = endpoint
        self._owns_endpoint = owns_endpoint
        self._address = address
        self._options = options
        self.state = State("connecting")
        self.outbox = Outbox()
        self.topics = Topics(self, options.max_queue)
        self.link: Link | None = None  # the link that is up; None while disconnected
        self._keeper: asyncio.Task[None] | None = None
        self._serving = False  # the keeper runs a link, or is ending it
        self._changed = asyncio.Event()  # set if there is a link, or at the end
        self._closing: asyncio.Future[None] | None = None
        self._ended: SpokeError | None = None
        self._per_request = REQUEST_TOPICS  # reduced when a hub does not answer in time
        self._requests = 0  # number of requests so far; each uses its number as its id

    # ---- what the spoke and its topics use

    @property
    def closing(self) -> bool:
        return self._closing is not None

    def check_open(self) -> None:
        check_fork()
        if self._ended is not None:
            raise self._ended.with_traceback(None)
        if self._closing is not None:
            raise ClosedError("the spoke is closed")

    async def connected(self) -> Link:
        while True:
            self.check_open()
            if self.link is not None:
                return self.link
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
            self._closing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._closing)

    def _next_id(self) -> str:
        self._requests += 1
        return str(self._requests)

    # ---- acknowledgements for flush: one at a time, for all callers that wait

    def acknowledgement(self, link: Link) -> asyncio.Future[None]:
        """Requests an acknowledgement after everything queued. The future raises RefusedError, or why
        the link was lost."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        link.unasked.append((answer, self.outbox.published))
        if not link.asked:
            self._ask_for_acknowledgement(link)
        return answer

    def _ask_for_acknowledgement(self, link: Link) -> None:
        if link.unasked:
            id = self._next_id()
            link.asked[id] = link.unasked, self.outbox.published
            link.unasked = []
            self.outbox.send(link, encode("__subscribe", id, {"topics": []}))

    # ---- writing and reading

    async def _write(self, link: Link) -> None:
        """Runs in the writer's task, one per link. It ends with the link, or when the spoke closes."""
        while True:
            if batch := self.outbox.take(link):
                if not await link.write(batch):
                    return
            elif self._closing is not None:
                return await link.finish()
            else:
                self.outbox.work.clear()
                await self.outbox.work.wait()

    async def _read(self, link: Link) -> SpokeError:
        """Runs in the reader's task, one per link. Returns why the link ended. It waits only for the
        hub; the limit of each subscription bounds what is buffered."""
        frames = FrameReader(max(self._options.max_frame, MAX_ANSWER))
        try:
            while data := await link.read():
                for body in frames.feed(data):
                    event = parse_envelope(body)
                    if event.type.startswith("__"):
                        self._answer(link, event)
                    elif link.up:  # before that, the application does not know of this link
                        self.topics.pass_on(event, body)
            frames.end()
            link.whole = True
            error = await link.why_closed()
        except ProtocolError as wrong:
            link.fail(wrong)
            error = wrong
        except SpokeError as lost:
            error = lost
        error = link.failure or error
        if self.link is link:
            self.link = None
        link.end_answers(error)
        return error

    def _answer(self, link: Link, event: Event) -> None:
        """Handles a control event. Events that do not answer a request of this link are ignored."""
        if event.type not in ("__ack", "__error"):
            return
        refused = refusal(event.payload) if event.type == "__error" else None
        if event.id in link.asked:
            answers, published = link.asked.pop(event.id)
            for answer, _ in answers:
                if answer.done():
                    pass
                elif refused is not None:
                    answer.set_exception(refused)
                else:
                    answer.set_result(None)
            if refused is None:
                self.outbox.taken(published)
            self._ask_for_acknowledgement(link)
        elif link.requests.answer(event.id, refused):
            link.progress()
            link.news.set()
            if link.up:
                self.topics.ask()
            elif not link.requests and link.failure is None and self._closing is None:
                self._bring_up(link)
        elif refused is not None and not event.id:
            self.outbox.refused(refused)
            self._call(self._options.on_refused, refused)

    # ---- the keeper, which reconnects

    async def start(self) -> None:
        self._call(self._options.on_state, self.state)
        try:
            link = await self._dial()
        except SpokeError as error:
            self._change(State("closed", error=error))
            raise
        self._keeper = asyncio.create_task(self._keep(link))

    async def _keep(self, link: Link) -> None:
        """Runs in the keeper's task until the spoke ends."""
        options, loop = self._options, asyncio.get_running_loop()
        pause = options.min_backoff
        try:
            while True:
                since = loop.time()
                error = await self._serve(link)
                if self._closing is not None:
                    return self._end(error)
                final = not options.reconnect or isinstance(error, (ProtocolError, ForbiddenError, TooManyError))
                if final:
                    self._end(error)
                else:
                    self._change(State("reconnecting", 1, error))
                self._call(options.on_disconnect, error)
                if final:
                    return
                if loop.time() - since >= options.max_backoff:
                    pause = options.min_backoff  # the link lasted; if links never last, the pause keeps growing
                link, pause = await self._redial(pause)
        except SpokeError as error:
            self._end(error)
        except BaseException as error:  # cancelled by _close or with the event loop, or a bug of this package
            unsent = self.outbox.published - self.outbox.written
            if self._closing is None:
                self._end(LostError("the event loop has ended"))
            elif unsent:
                self._end(LostError(f"closed without a connection; events not written: {unsent}"))
            else:
                self._end(ClosedError("the spoke is closed"))
            if not isinstance(error, asyncio.CancelledError):
                raise

    async def _redial(self, pause: float) -> tuple[Link, float]:
        """Dials until there is a link. Returns the link, and the first pause after its loss. Raises
        errors after which dialling again is useless."""
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, max(self._options.min_backoff, self._options.max_backoff))
            try:
                return await self._dial(), pause
            except (ProtocolError, ForbiddenError):
                raise
            except SpokeError as error:
                if isinstance(error, TooManyError):
                    pause = max(pause, self._options.max_backoff)
                self._change(State("reconnecting", self.state.attempt + 1, error))

    async def _dial(self) -> Link:
        """Returns a new link after the hub has acknowledged all topics."""
        loop, timeout, words = asyncio.get_running_loop(), self._options.handshake_timeout, "the hub does not answer"
        started = loop.time()
        try:
            conn = await within(timeout, self._endpoint.connect(self._address, self._options.alpn), words)
        except iroh.IrohError as error:
            raise connect_error(error.message()) from error
        requests = Requests(self._next_id, self._options.max_frame, self._per_request)
        link = Link(conn, self._options.write_timeout, requests)
        link.progressed = started
        try:
            await within(started + timeout - loop.time(), link.open(), words)
            await self._greet(link)
        except BaseException:
            await link.leave()
            raise
        return link

    async def _greet(self, link: Link) -> None:
        """Subscribes to all topics again. The hub waits for a first request, which may be empty. With
        the last answer, the reader brings the link up."""
        loop, timeout = asyncio.get_running_loop(), self._options.handshake_timeout
        self.topics.greet(link)
        if not link.greeted:
            link.requests.add(Call((), partial(self._taken_in, link)), [])
        link.reader = asyncio.create_task(self._read(link))
        while True:
            link.news.clear()
            while not link.up and (request := link.requests.next()):
                await link.write(request[0])
            if link.up:  # even if it has ended since, which the keeper then reports
                return
            if link.over is not None:
                raise link.over.with_traceback(None)
            rest = link.progressed + timeout - loop.time()
            if rest <= 0:
                if link.greeted:
                    self._per_request = max(1, self._per_request // 4)
                raise LostError(f"the hub does not answer within {timeout:g} s")
            await event_within(link.news, rest)

    def _taken_in(self, link: Link, call: Call, error: SpokeError | None) -> None:
        if isinstance(error, RefusedError):
            link.fail(LostError(f"the hub refuses an empty request: {error}"))

    def _bring_up(self, link: Link) -> None:
        back = self.state.name == "reconnecting"
        link.up = True
        self.link = link
        self.topics.begin(link)
        self._changed.set()
        self._change(State("connected"))
        if back:
            self._call(self._options.on_reconnect)

    async def _serve(self, link: Link) -> SpokeError:
        """Runs a link until it ends, and returns why it ended."""
        self._serving = True
        writer = asyncio.create_task(self._write(link))
        try:
            error = await asyncio.shield(link.reader)
        finally:
            self.link = None
            writer.cancel()
            await link.leave(writer)
            self._serving = False
        if self._closing is not None and link.whole and isinstance(error, EndedError):
            error = ClosedError("the spoke is closed")  # the hub has processed everything
            self.outbox.taken(self.outbox.written)
        else:
            self.outbox.lost(link, error)
        return error

    async def _close(self) -> None:
        assert self._keeper is not None
        connected = self.link is not None
        if self.link is not None:
            self._ask_for_acknowledgement(self.link)
        elif not self._serving:
            self._keeper.cancel()
        for waiting in (self.outbox.work, self.outbox.unfull, self._changed):
            waiting.set()
        await asyncio.wait([self._keeper])
        clean = isinstance(self._ended, ClosedError)
        if self._owns_endpoint:
            ending = in_background(self._endpoint.close())
            # After an attempt to connect that was cancelled, iroh takes 3 s, in which it still
            # answers packets for it. Nobody has to wait for that.
            if clean and connected:
                await asyncio.shield(ending)
        error = self.outbox.loss if clean else self._ended
        if error is not None:
            raise error.with_traceback(None)

    def _end(self, error: SpokeError) -> None:
        if self._ended is not None:
            return
        self._ended = error
        self.topics.end(error)
        for waiting in (self._changed, self.outbox.unfull):
            waiting.set()
        self._change(State("closed", error=None if isinstance(error, ClosedError) else error))

    def _change(self, state: State) -> None:
        self.state = state
        self._call(self._options.on_state, state)

    def _call(self, callback: Callable[..., None] | None, *args: object) -> None:
        try:
            if callback is not None:
                callback(*args)
        except Exception as error:
            context = {"message": "a callback of a spoke raised an exception", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
