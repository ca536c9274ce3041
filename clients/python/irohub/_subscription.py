"""A subscription: the events of some topics as an asynchronous iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from ._errors import ClosedError, SlowError, SpokeError
from ._events import Event, parse_envelope
from ._forks import check_fork

# The memory of a queued event besides its text, in bytes: Python's header of a bytes object,
# malloc's rounding, and the entry in the queue.
_EVENT_COST: Final = 64


class Subscription:
    """The events of some topics, in order of arrival. Spoke.subscribe makes it.

        async with spoke.subscribe("chat:*", "news") as events:
            async for event in events:
                print(event.topic, event.payload)

    Each subscription has its own queue and receives every event of its topics. An event that
    matches several of them arrives once. A subscription continues across reconnections.

    The iteration ends after close, and, once its queue is empty, after Spoke.close. Any other
    end raises an error once the queue is empty: the error that ended the spoke; RefusedError if
    the hub refuses a topic after a reconnection; or SlowError if more than Options.max_queue
    bytes were queued. After a RefusedError or SlowError, the spoke and its other subscriptions
    continue.

    Only one task at a time may iterate.
    """

    def __init__(self, topics: tuple[str, ...], limit: int, leave: Callable[[Subscription], None]) -> None:
        self._topics = topics
        self._limit = limit
        self._leave = leave
        # Frames of valid events. They are decoded again when they are taken, because the encoded
        # form needs less memory.
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes of memory, with _EVENT_COST for each event
        self._arrived = asyncio.Event()  # set if the queue has an event, or at the end
        self._ended: SpokeError | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        return self._topics

    def close(self) -> None:
        """Ends the subscription at once and discards its queue. The spoke unsubscribes from topics
        that no other subscription uses."""
        self._end(ClosedError("the subscription is closed"))
        self._queue.clear()
        self._queued = 0

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        check_fork()
        while not self._queue:
            if isinstance(self._ended, ClosedError):
                raise StopAsyncIteration
            if self._ended is not None:
                raise self._ended.with_traceback(None)
            self._arrived.clear()
            await self._arrived.wait()
        body = self._queue.popleft()
        self._queued -= len(body) + _EVENT_COST
        return parse_envelope(body)

    # ---- called by the spoke

    def _push(self, body: bytes) -> None:
        size = len(body) + _EVENT_COST
        if self._queue and self._queued + size > self._limit:
            words = f"the next event of {size} bytes does not fit beside {self._queued} bytes that wait"
            self._end(SlowError(4, f"{words}; the limit is {self._limit}"))
            return
        self._queue.append(body)
        self._queued += size
        self._arrived.set()

    def _end(self, error: SpokeError) -> None:
        if self._ended is None:
            self._ended = error
            self._arrived.set()
            self._leave(self)
