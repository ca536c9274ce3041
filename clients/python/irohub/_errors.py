"""What can go wrong: an exception for each close code, and for each refusal."""

from __future__ import annotations

from typing import Final


class SpokeError(Exception):
    """What all errors of this module have in common."""


class CloseError(SpokeError):
    """The connection was closed with a code. A code that is not known has this very class."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        words = _CLOSE_WORDS.get(self.code, f"code {self.code}")
        return f"closed: {words}: {self.reason}" if self.reason else f"closed: {words}"


class EndedError(CloseError):
    """Code 0: the hub ended the connection as one does."""


class ShutdownError(CloseError):
    """Code 1: the hub is shutting down."""


class ProtocolError(CloseError):
    """Code 2: one side broke the protocol. The spoke does not come back."""


class ForbiddenError(CloseError):
    """Code 3: the hub does not admit this NodeID. The spoke does not come back."""


class SlowError(CloseError):
    """Code 4: too much was waiting for this spoke. It has missed events."""


class TooManyError(CloseError):
    """Code 5: the hub is full, or a newer spoke with this NodeID has taken the place.

    A spoke that was connected does not come back: two would drive each other out for ever.
    """


class TimeoutClosedError(CloseError):
    """Code 6: one side made no progress in time."""


_CLOSE_TYPES: Final[tuple[type[CloseError], ...]] = (
    EndedError, ShutdownError, ProtocolError, ForbiddenError, SlowError, TooManyError, TimeoutClosedError,
)  # fmt: skip
_CLOSE_WORDS: Final = dict(enumerate(
    ("normal end", "shutting down", "protocol error", "not admitted", "too slow", "too many", "timeout")
))  # fmt: skip


def close_error(code: int, reason: str = "") -> CloseError:
    """Returns the error of a close code."""
    return _CLOSE_TYPES[code](code, reason) if code < len(_CLOSE_TYPES) else CloseError(code, reason)


class LostError(SpokeError):
    """There is no connection, and no code says why: it timed out, or nobody answers."""


class ClosedError(SpokeError):
    """The spoke was closed by close()."""


class ForkedError(SpokeError):
    """This process came from os.fork after iroh had worked in its parent. iroh's threads did
    not come along, so it works no more here. Connect after the fork, or start the process in
    another way (multiprocessing's "spawn" or "forkserver")."""


class RefusedError(SpokeError):
    """A topic or an event was refused, by the hub or by a check before anything was sent.

    code is the protocol's, topic the topic that it is about, if it is known. A code that
    is not known has this very class.
    """

    def __init__(self, code: str, topic: str, message: str) -> None:
        super().__init__(code, topic, message)
        self.code = code
        self.topic = topic
        self.message = message

    def __str__(self) -> str:
        return f"refused: {self.code}: {self.topic!r}: {self.message}"


class TopicForbiddenError(RefusedError):
    """The hub's policy, or the mailbox of another node."""


class InvalidTopicError(RefusedError, ValueError):
    """Not a topic; see check_topic."""


class TooManySubscriptionsError(RefusedError):
    """Over the hub's limit of topics for one spoke, 1,024 unless it is set to another."""


class InvalidPayloadError(RefusedError, ValueError):
    """A payload that is not JSON, or is nested too deep, or an event that is too large."""


_REFUSALS: Final[dict[str, type[RefusedError]]] = {
    "forbidden": TopicForbiddenError,
    "invalid_topic": InvalidTopicError,
    "too_many_subscriptions": TooManySubscriptionsError,
    "invalid_payload": InvalidPayloadError,
}


def refusal(payload: object) -> RefusedError:
    """Reads the payload of an __error, in which a later protocol may have more."""
    members = payload if isinstance(payload, dict) else {}
    code, topic, message = (
        value if isinstance(value := members.get(name), str) else "" for name in ("code", "topic", "message")
    )
    return _REFUSALS.get(code, RefusedError)(code, topic, message)
