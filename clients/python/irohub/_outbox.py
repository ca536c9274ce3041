"""What a spoke has to write, and what has become of the events that it published."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ._errors import SpokeError
from ._link import WRITE_SIZE, Link

# The most unwritten bytes before publish waits.
_SIZE: Final = 256 << 10


class Outbox:
    """The frames to write, over this link or the next one, and an account of the published events."""

    def __init__(self) -> None:
        # Frames for the hub. A request is for one link; an event (None) is for any link.
        self._frames: deque[tuple[Link | None, bytes]] = deque()
        self._unsent = 0  # bytes
        self.work = asyncio.Event()  # set if there are frames, or while closing
        self.unfull = asyncio.Event()  # set if publish may continue, or at the end

        # Numbers of events: published, passed to a link, and settled (taken by the hub, or
        # reported as possibly lost). Then, since the last flush: the first problem with an event,
        # and the first loss.
        self.published = self.written = self._taken = 0
        self._trouble: SpokeError | None = None
        self.loss: SpokeError | None = None

    @property
    def full(self) -> bool:
        return self._unsent >= _SIZE

    def publish(self, frame: bytes) -> None:
        self.send(None, frame)
        self.published += 1

    def send(self, link: Link | None, frame: bytes) -> None:
        self._frames.append((link, frame))
        self._unsent += len(frame)
        self.work.set()

    def take(self, link: Link) -> bytes:
        """Returns what a link writes next. Frames for a link that has ended are dropped."""
        batch = bytearray()
        while self._frames and len(batch) < WRITE_SIZE:
            owner, frame = self._frames.popleft()
            self._unsent -= len(frame)
            if owner is None:
                self.written += 1
            if owner is None or owner is link:
                batch += frame
        if not self.full:
            self.unfull.set()
        return bytes(batch)

    def taken(self, published: int) -> None:
        """Notes that the hub has taken so many of all published events."""
        self._taken = max(self._taken, published)

    def lost(self, link: Link, error: SpokeError) -> None:
        """Notes the end of a link. The hub may have missed events."""
        if self.written > max(self._taken, link.told):
            self.note_loss(error)
        self._taken = self.written

    def note_loss(self, error: SpokeError) -> None:
        """Leaves a loss for the next flush, or for close."""
        self.refused(error)
        self.loss = self.loss or error

    def refused(self, error: SpokeError) -> None:
        """Leaves a problem with an event for the next flush."""
        self._trouble = self._trouble or error

    def settle(self) -> SpokeError | None:
        """Returns and forgets the first problem with an event."""
        trouble, self._trouble, self.loss = self._trouble, None, None
        return trouble
