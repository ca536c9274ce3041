"""The requests for topics on one link."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ._errors import RefusedError, SpokeError
from ._events import encode

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
