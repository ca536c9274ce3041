"""The topics of a spoke: calls of subscribe become requests, and requests subscriptions; see Requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from ._errors import RefusedError, SpokeError
from ._events import Event, check_topic
from ._link import Link
from ._requests import Call
from ._subscription import Subscription

if TYPE_CHECKING:
    from ._session import Session


class Topics:
    """The subscriptions of a spoke, and the calls that wait for one. A call lives until subscribe
    returns."""

    def __init__(self, session: Session, max_queue: int) -> None:
        self._session = session
        self._max_queue = max_queue
        self._subs: dict[str, dict[Subscription, None]] = {}  # subscriptions by acknowledged topic
        self._calls: dict[Call, None] = {}  # in order
        self._wanted: Counter[str] = Counter()  # number of living calls for each topic
        self._asking = False  # a call of ask is scheduled

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._subs)

    async def subscribe(self, topics: tuple[str, ...]) -> Subscription:
        if not topics:
            raise ValueError("a subscription needs at least one topic")
        for topic in topics:
            check_topic(topic)
        self._session.check_open()
        sub = Subscription(tuple(dict.fromkeys(topics)), self._max_queue, self._leave)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call = Call(sub.topics, partial(self._settle, sub, done))
        self._calls[call] = None
        self._wanted.update(call.topics)
        if (link := self._session.link) is not None:
            self._request(link, call)
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
        link = self._session.link
        if link is not None and not self._session.closing:
            unwanted = [topic for topic in topics if topic not in self._subs and topic not in self._wanted]
            for frame in link.requests.undo(unwanted):
                self._session.outbox.send(link, frame)

    def _request(self, link: Link, call: Call) -> None:
        """Requests the topics of a call that are not subscribed yet."""
        if missing := [topic for topic in call.topics if topic not in self._subs]:
            link.requests.add(call, missing)
            if not self._asking:  # later, so that concurrent calls share a request
                self._asking = True
                asyncio.get_running_loop().call_soon(self.ask)
        else:
            call.end(None)

    def ask(self) -> None:
        """Sends the requests that may be sent now."""
        self._asking = False
        link = self._session.link
        while link is not None and not self._session.closing and (request := link.requests.next()):
            self._session.outbox.send(link, request[0])

    # ---- called by the session

    def greet(self, link: Link) -> None:
        """Queues requests for all topics of subscriptions on a new link."""
        link.greeted = dict.fromkeys(sorted(self._subs))
        for topic in link.greeted:
            link.requests.add(Call((topic,), partial(self._greeted, link)), [topic])

    def _greeted(self, link: Link, call: Call, error: SpokeError | None) -> None:
        if isinstance(error, RefusedError):
            del link.greeted[call.topics[0]]
            for sub in [*self._subs.get(call.topics[0], ())]:
                sub._end(error)

    def begin(self, link: Link) -> None:
        """A link is up: unsubscribes from the topics that nobody wants any more, and requests those of calls."""
        self._release(link.greeted)
        for call in [*self._calls]:
            self._request(link, call)

    def pass_on(self, event: Event, body: bytes) -> None:
        """Delivers an event once to each subscription to its topic."""
        subs = [*self._subs.get(event.topic, ())]
        pattern = event.topic.partition(":")[0] + ":*"
        subs += [sub for sub in self._subs.get(pattern, ()) if sub not in subs]
        for sub in subs:
            sub._push(body)

    def end(self, error: SpokeError) -> None:
        """Ends all calls and subscriptions."""
        for call in [*self._calls]:
            call.end(error)
        for sub in [*{sub: None for subs in self._subs.values() for sub in subs}]:
            sub._end(error)
