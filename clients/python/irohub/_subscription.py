"""A subscription: events of some topics, as an asynchronous iterator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from ._errors import ClosedError, SlowError, SpokeError
from ._events import Event, parse_envelope
from ._forks import check_fork

# What an event that waits takes besides its bytes: Python's head of a bytes object, what
# malloc rounds up, and its place in the queue.
_EVENT_COST: Final = 64


class Subscription:
    """The events of some topics, in the order in which they come. Spoke.subscribe makes it.

        async with spoke.subscribe("chat:*", "news") as events:
            async for event in events:
                print(event.topic, event.payload)

    Each subscription has a queue of its own, and each gets every event of its topics, an
    event of several of them once. It goes on over lost connections. The iteration ends
    after Spoke.close, behind what had come until then, and after close. It raises what
    else ended it, behind what had come: what ended the spoke; a RefusedError where the hub
    refuses a topic as the spoke comes back; and a SlowError where over Options.max_queue
    bytes were waiting. The spoke and its other subscriptions go on then.

    One task at a time iterates.
    """

    def __init__(self, topics: tuple[str, ...], limit: int, leave: Callable[[Subscription], None]) -> None:
        self._topics = topics
        self._limit = limit
        self._leave = leave
        # Frames of sound events, which are decoded anew when they are taken: what waits takes
        # as little memory as it can.
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes of memory
        self._arrived = asyncio.Event()  # something in the queue, or the end
        self._ended: SpokeError | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        return self._topics

    def close(self) -> None:
        """Ends the subscription at once, and drops what is waiting. The hub is told of topics
        that no other subscription has."""
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

    # ---- what the spoke does

    def _push(self, body: bytes) -> None:
        size = len(body) + _EVENT_COST
        if self._queue and self._queued + size > self._limit:
            self._end(SlowError(4, f"{self._queued} bytes are waiting, and {self._limit} may"))
            return
        self._queue.append(body)
        self._queued += size
        self._arrived.set()

    def _end(self, error: SpokeError) -> None:
        if self._ended is None:
            self._ended = error
            self._arrived.set()
            self._leave(self)
