"""The spoke, as an application sees it."""

from __future__ import annotations

import asyncio

import iroh

from ._errors import CloseError, InvalidPayloadError, InvalidTopicError, LostError, SpokeError
from ._events import FROM_SIZE, check_topic, encode, topic_of
from ._forks import check_fork, forked, spokes
from ._options import Options, State
from ._session import Session
from ._subscription import Subscription
from ._tasks import Opening


class Spoke:
    """A connection to a hub that reconnects by itself. Use connect to make one."""

    def __init__(
        self, endpoint: iroh.Endpoint, owns_endpoint: bool, address: iroh.EndpointAddr, options: Options
    ) -> None:
        self._endpoint = endpoint
        self._options = options
        self._session = Session(endpoint, owns_endpoint, address, options)
        spokes.add(self)

    @property
    def node(self) -> str:
        """The spoke's own NodeID. Its mailbox is the topic direct:NODEID."""
        check_fork()
        return str(self._endpoint.id())

    @property
    def state(self) -> State:
        """The state of the spoke. Options.on_state is called for each change."""
        return self._session.state

    @property
    def connected(self) -> bool:
        """Whether the spoke is connected now."""
        return self._session.link is not None and not forked()

    @property
    def topics(self) -> frozenset[str]:
        """The topics of all subscriptions that the hub has acknowledged."""
        return self._session.topics.names

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
        return Opening(self._session.topics.subscribe(topics))

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
        outbox = self._session.outbox
        self._session.check_open()
        while outbox.full:
            outbox.unfull.clear()
            await outbox.unfull.wait()
            self._session.check_open()
        outbox.publish(frame)

    async def flush(self) -> None:
        """Returns once the hub has processed every event published before. It waits while the spoke is
        disconnected.

        Raises the first problem with an event since the last flush: RefusedError if the hub refused
        one; CloseError or LostError if a connection was lost, so that events may be lost; or the
        error that ended the spoke.
        """
        answer = self._session.acknowledgement(await self._session.connected())
        try:
            await answer
        except asyncio.CancelledError:
            # If this call was cancelled as it learned of a loss, the next one reports the loss.
            failure = answer.exception() if answer.done() and not answer.cancelled() else None
            if isinstance(failure, (CloseError, LostError)):
                self._session.outbox.note_loss(failure)
            raise
        if (trouble := self._session.outbox.settle()) is not None:
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
        await self._session.close()

    async def __aenter__(self) -> Spoke:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await self.close()
        except SpokeError:
            if error is None:
                raise
