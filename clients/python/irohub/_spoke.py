"""The spoke: a connection to a hub that reconnects by itself."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import iroh

from ._errors import (
    ClosedError,
    CloseError,
    EndedError,
    ForbiddenError,
    InvalidPayloadError,
    InvalidTopicError,
    LostError,
    ProtocolError,
    RefusedError,
    SpokeError,
    TooManyError,
    refusal,
)
from ._events import FROM_SIZE, MAX_ANSWER, Event, FrameReader, check_topic, encode, parse_envelope, topic_of
from ._forks import check_fork, forked, spokes
from ._link import REQUEST_TOPICS, WRITE_SIZE, Call, Link, Requests, connect_error
from ._options import Options, State
from ._subscription import Subscription
from ._tasks import Opening, event_within, in_background, within

# The most unwritten bytes before publish waits.
_OUTBOX_SIZE: Final = 256 << 10


class Spoke:
    """A connection to a hub that reconnects by itself. Use connect to make one."""

    def __init__(
        self, endpoint: iroh.Endpoint, owns_endpoint: bool, address: iroh.EndpointAddr, options: Options
    ) -> None:
        self._endpoint = endpoint
        self._owns_endpoint = owns_endpoint
        self._address = address
        self._options = options
        self._state = State("connecting")
        spokes.add(self)

        # Frames for the hub. A request is for one link; an event (None) is for any link.
        self._outbox: deque[tuple[Link | None, bytes]] = deque()
        self._unsent = 0  # bytes
        self._work = asyncio.Event()  # set if the outbox has frames, or while closing
        self._unfull = asyncio.Event()  # set if publish may continue, or at the end

        # The connection.
        self._keeper: asyncio.Task[None] | None = None
        self._link: Link | None = None  # the link that is up; None while disconnected
        self._changed = asyncio.Event()  # set if there is a link, or at the end
        self._closing: asyncio.Future[None] | None = None
        self._ended: SpokeError | None = None

        # Topics. A call lives until subscribe returns.
        self._subs: dict[str, dict[Subscription, None]] = {}  # subscriptions by acknowledged topic
        self._calls: dict[Call, None] = {}  # in order
        self._wanted: Counter[str] = Counter()  # number of living calls for each topic
        self._asking = False  # a call of _ask is scheduled
        self._per_request = REQUEST_TOPICS  # reduced when a hub does not answer in time
        self._requests = 0  # number of requests so far; each uses its number as its id

        # Numbers of events: published, passed to a link, and settled (taken by the hub, or
        # reported as possibly lost). Then, since the last flush: the first problem with an event,
        # and the first loss.
        self._published = self._written = self._taken = 0
        self._trouble: SpokeError | None = None
        self._loss: SpokeError | None = None

    # ---- what an application does

    @property
    def node(self) -> str:
        """The spoke's own NodeID. Its mailbox is the topic direct:NODEID."""
        check_fork()
        return str(self._endpoint.id())

    @property
    def state(self) -> State:
        """The state of the spoke. Options.on_state is called for each change."""
        return self._state

    @property
    def connected(self) -> bool:
        """Whether the spoke is connected now."""
        return self._link is not None and not forked()

    @property
    def topics(self) -> frozenset[str]:
        """The topics of all subscriptions that the hub has acknowledged."""
        return frozenset(self._subs)

    def subscribe(self, *topics: str) -> Opening[Subscription]:
        """Subscribes to topics or patterns T:*. `events = await spoke.subscribe("a", "b:*")` returns
        once the hub has acknowledged all of them. The subscription receives every event that the
        hub routes after that. `async with spoke.subscribe("a") as events` also closes it at the
        end.

        It waits while the spoke is disconnected. Concurrent calls share requests, but each gets its
        own result. Raises RefusedError (TopicForbiddenError, InvalidTopicError,
        TooManySubscriptionsError), or the error that ended the spoke. If it fails or is cancelled,
        it leaves no subscription.
        """
        return Opening(self._subscribe(topics))

    async def publish(self, type: str, payload: object = None, *, id: str = "") -> None:
        """Publishes an event. The hub delivers it to its own listeners and, if its policy allows, to
        other spokes, but never back to this one.

        payload is anything that json.dumps accepts, a Decimal, or Json text, which is sent
        unchanged. None means no payload. publish returns once the event is queued. It waits while
        more than 256 KiB are queued, for example while the spoke is disconnected. Use flush and
        Options.on_refused to learn whether the hub accepted the event.

        Raises TypeError, InvalidTopicError or InvalidPayloadError for an invalid event, or the
        error that ended the spoke.
        """
        topic = topic_of(type, id)
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
        """Returns once the hub has processed every event published before. It waits while the spoke is
        disconnected.

        Raises the first problem with an event since the last flush: RefusedError if the hub refused
        one; CloseError or LostError if a connection was lost, so that events may be lost; or the
        error that ended the spoke.
        """
        answer = self._acknowledgement(await self._connected())
        try:
            await answer
        except asyncio.CancelledError:
            # If this call was cancelled as it learned of a loss, the next one reports the loss.
            failure = answer.exception() if answer.done() and not answer.cancelled() else None
            if isinstance(failure, (CloseError, LostError)):
                self._note_loss(failure)
            raise
        trouble, self._trouble, self._loss = self._trouble, None, None
        if trouble is not None:
            raise trouble.with_traceback(None)

    async def close(self) -> None:
        """Closes the spoke. It writes the queued events and waits until the hub has processed all of
        them. Events that arrive until then are still delivered to the iterations.

        Raises CloseError or LostError in these cases: closing failed; events were queued while
        there was no connection; an earlier connection was lost with events that may not have
        arrived, and no flush has reported it; or another error had ended the spoke. The spoke's own
        endpoint is closed in any case, in the background. Later calls have the same result as the
        first.
        """
        check_fork()
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

    # ---- subscriptions: calls become requests; see Requests

    async def _subscribe(self, topics: tuple[str, ...]) -> Subscription:
        if not topics:
            raise ValueError("a subscription needs at least one topic")
        for topic in topics:
            check_topic(topic)
        self._check_open()
        sub = Subscription(tuple(dict.fromkeys(topics)), self._options.max_queue, self._leave)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call = Call(sub.topics, partial(self._settle, sub, done))
        self._calls[call] = None
        self._wanted.update(call.topics)
        if self._link is not None:
            self._request(self._link, call)
        try:
            await done
        except BaseException:
            self._forget(call)
            sub.close()
            if call.sent:
                self._release(call.topics)
            raise
        self._forget(call)
        return sub

    def _forget(self, call: Call) -> None:
        call.over = True
        del self._calls[call]
        self._wanted.subtract(call.topics)
        for topic in call.topics:
            if not self._wanted[topic]:
                del self._wanted[topic]

    def _settle(self, sub: Subscription, done: asyncio.Future[None], call: Call, error: SpokeError | None) -> None:
        """Ends a call. The subscription receives events from here on, so there is no gap after the
        acknowledgement."""
        if error is None:
            for topic in sub.topics:
                self._subs.setdefault(topic, {})[sub] = None
            if not done.done():
                done.set_result(None)
        elif not done.done():
            done.set_exception(error.with_traceback(None))

    def _leave(self, sub: Subscription) -> None:
        """Ends a subscription."""
        left = [topic for topic in sub.topics if sub in self._subs.get(topic, ())]
        for topic in left:
            del self._subs[topic][sub]
            if not self._subs[topic]:
                del self._subs[topic]
        self._release(left)

    def _release(self, topics: Iterable[str]) -> None:
        """Unsubscribes from the topics that nobody wants any more."""
        if self._link is not None and self._closing is None:
            unwanted = [topic for topic in topics if topic not in self._subs and topic not in self._wanted]
            for frame in self._link.requests.undo(unwanted):
                self._send(self._link, frame)

    def _request(self, link: Link, call: Call) -> None:
        """Requests the topics of a call that are not subscribed yet."""
        if missing := [topic for topic in call.topics if topic not in self._subs]:
            link.requests.add(call, missing)
            if not self._asking:  # later, so that concurrent calls share a request
                self._asking = True
                asyncio.get_running_loop().call_soon(self._ask)
        else:
            call.end(None)

    def _ask(self) -> None:
        self._asking = False
        link = self._link
        while link is not None and self._closing is None and (request := link.requests.next()):
            self._send(link, request[0])

    def _next_id(self) -> str:
        self._requests += 1
        return str(self._requests)

    # ---- acknowledgements for flush: one at a time, for all callers that wait

    def _acknowledgement(self, link: Link) -> asyncio.Future[None]:
        """Requests an acknowledgement after everything queued. The future raises RefusedError, or why
        the link was lost."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        link.unasked.append((answer, self._published))
        if not link.asked:
            self._ask_for_acknowledgement(link)
        return answer

    def _ask_for_acknowledgement(self, link: Link) -> None:
        if link.unasked:
            id = self._next_id()
            link.asked[id] = link.unasked, self._published
            link.unasked = []
            self._send(link, encode("__subscribe", id, {"topics": []}))

    # ---- writing

    def _check_open(self) -> None:
        check_fork()
        if self._ended is not None:
            raise self._ended.with_traceback(None)
        if self._closing is not None:
            raise ClosedError("the spoke is closed")

    async def _connected(self) -> Link:
        while True:
            self._check_open()
            if self._link is not None:
                return self._link
            self._changed.clear()
            await self._changed.wait()

    def _send(self, link: Link | None, frame: bytes) -> None:
        self._outbox.append((link, frame))
        self._unsent += len(frame)
        self._work.set()

    async def _write(self, link: Link) -> None:
        """Runs in the writer's task, one per link. It ends with the link, or when the spoke closes."""
        while True:
            batch = bytearray()
            while self._outbox and len(batch) < WRITE_SIZE:
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

    # ---- reading

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
                        self._pass_on(event, body)
            frames.end()
            link.whole = True
            error = await link.why_closed()
        except ProtocolError as wrong:
            link.fail(wrong)
            error = wrong
        except SpokeError as lost:
            error = lost
        error = link.failure or error
        if self._link is link:
            self._link = None
        link.end_answers(error)
        return error

    def _pass_on(self, event: Event, body: bytes) -> None:
        """Delivers an event once to each subscription to its topic."""
        subs = [*self._subs.get(event.topic, ())]
        pattern = event.topic.partition(":")[0] + ":*"
        subs += [sub for sub in self._subs.get(pattern, ()) if sub not in subs]
        for sub in subs:
            sub._push(body)

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
                self._taken = max(self._taken, published)
            self._ask_for_acknowledgement(link)
        elif link.requests.answer(event.id, refused):
            link.progress()
            link.news.set()
            if link.up:
                self._ask()
            elif not link.requests and link.failure is None and self._closing is None:
                self._bring_up(link)
        elif refused is not None and not event.id:
            self._trouble = self._trouble or refused
            self._call(self._options.on_refused, refused)

    # ---- the keeper, which reconnects

    async def _start(self) -> None:
        self._call(self._options.on_state, self._state)
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
            unsent = self._published - self._written
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
                self._change(State("reconnecting", self._state.attempt + 1, error))

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
        link.greeted = dict.fromkeys(sorted(self._subs))
        for topic in link.greeted:
            link.requests.add(Call((topic,), partial(self._greeted, link)), [topic])
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

    def _greeted(self, link: Link, call: Call, error: SpokeError | None) -> None:
        if isinstance(error, RefusedError):
            del link.greeted[call.topics[0]]
            for sub in [*self._subs.get(call.topics[0], ())]:
                sub._end(error)

    def _taken_in(self, link: Link, call: Call, error: SpokeError | None) -> None:
        if isinstance(error, RefusedError):
            link.fail(LostError(f"the hub refuses an empty request: {error}"))

    def _bring_up(self, link: Link) -> None:
        back = self._state.name == "reconnecting"
        link.up = True
        self._link = link
        self._release(link.greeted)  # topics that were unsubscribed meanwhile
        for call in [*self._calls]:
            self._request(link, call)
        self._changed.set()
        self._change(State("connected"))
        if back:
            self._call(self._options.on_reconnect)

    async def _serve(self, link: Link) -> SpokeError:
        """Runs a link until it ends, and returns why it ended."""
        writer = asyncio.create_task(self._write(link))
        try:
            error = await asyncio.shield(link.reader)
        finally:
            self._link = None
            writer.cancel()
            await link.leave(writer)
        if self._closing is not None and link.whole and isinstance(error, EndedError):
            error = ClosedError("the spoke is closed")  # the hub has processed everything
        elif self._written > max(self._taken, link.told):  # the hub may have missed events
            self._note_loss(error)
        self._taken = self._written
        return error

    def _note_loss(self, error: SpokeError) -> None:
        """Leaves a loss for the next flush, or for close."""
        self._trouble = self._trouble or error
        self._loss = self._loss or error

    async def _close(self) -> None:
        assert self._keeper is not None
        if self._link is None:
            self._keeper.cancel()
        else:
            self._ask_for_acknowledgement(self._link)
        for waiting in (self._work, self._unfull, self._changed):
            waiting.set()
        await asyncio.wait([self._keeper])
        clean = isinstance(self._ended, ClosedError)
        if self._owns_endpoint:
            ending = in_background(self._endpoint.close())
            if clean:  # closing is quick then
                await asyncio.shield(ending)
        error = self._loss if clean else self._ended
        if error is not None:
            raise error.with_traceback(None)

    def _end(self, error: SpokeError) -> None:
        if self._ended is not None:
            return
        self._ended = error
        for call in [*self._calls]:
            call.end(error)
        for sub in [*{sub: None for subs in self._subs.values() for sub in subs}]:
            sub._end(error)
        for waiting in (self._changed, self._unfull):
            waiting.set()
        self._change(State("closed", error=None if isinstance(error, ClosedError) else error))

    def _change(self, state: State) -> None:
        self._state = state
        self._call(self._options.on_state, state)

    def _call(self, callback: Callable[..., None] | None, *args: object) -> None:
        try:
            if callback is not None:
                callback(*args)
        except Exception as error:
            context = {"message": "a callback of a spoke raised an exception", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
