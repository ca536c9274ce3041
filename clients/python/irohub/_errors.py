"""Errors: an exception for each close code and for each refusal."""

from __future__ import annotations

from typing import Final


class SpokeError(Exception):
    """The base class of this package's errors."""


class CloseError(SpokeError):
    """The connection was closed with a code. An unknown code raises this class itself."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        words = _CLOSE_WORDS.get(self.code, f"code {self.code}")
        return f"closed: {words}: {self.reason}" if self.reason else f"closed: {words}"


class EndedError(CloseError):
    """Code 0: the hub ended the connection normally."""


class ShutdownError(CloseError):
    """Code 1: the hub is shutting down."""


class ProtocolError(CloseError):
    """Code 2: one side broke the protocol. The spoke does not reconnect."""


class ForbiddenError(CloseError):
    """Code 3: the hub does not admit this NodeID. The spoke does not reconnect."""


class SlowError(CloseError):
    """Code 4: too many bytes were queued for this spoke. It has missed events."""


class TooManyError(CloseError):
    """Code 5: the hub is full, or a newer spoke with this NodeID has taken this one's place.

    A spoke that was connected does not reconnect: the two would replace each other for ever.
    """


class TimeoutClosedError(CloseError):
    """Code 6: one side made no progress in time."""


_CLOSE_TYPES: Final[tuple[type[CloseError], ...]] = (
    EndedError, ShutdownError, ProtocolError, ForbiddenError, SlowError, TooManyError, TimeoutClosedError,
)  # fmt: skip
_CLOSE_WORDS: Final = dict(enumerate(
    ("normal end", "shutting down", "protocol error", "not admitted", "too slow", "over a limit", "timeout")
))  # fmt: skip


def close_error(code: int, reason: str = "") -> CloseError:
    """Returns the error of a close code."""
    return _CLOSE_TYPES[code](code, reason) if code < len(_CLOSE_TYPES) else CloseError(code, reason)


class LostError(SpokeError):
    """The connection was lost without a close code: it timed out, or nobody answered."""


class ClosedError(SpokeError):
    """The spoke was closed by close()."""


class ForkedError(SpokeError):
    """This process is a fork of one that had used iroh. The fork did not copy iroh's threads, so iroh
    does not work here. Connect after the fork, or start the process in another way
    (multiprocessing's "spawn" or "forkserver")."""


class RefusedError(SpokeError):
    """A topic or an event was refused, by the hub or by a check before sending.

    code is the protocol's code. topic is the topic concerned, or "" if unknown. An unknown code
    raises this class itself.
    """

    def __init__(self, code: str, topic: str, message: str) -> None:
        super().__init__(code, topic, message)
        self.code = code
        self.topic = topic
        self.message = message

    def __str__(self) -> str:
        return f"refused: {self.code}: {self.topic!r}: {self.message}"


class TopicForbiddenError(RefusedError):
    """The hub's policy forbids the topic, or it is the mailbox of another node."""


class InvalidTopicError(RefusedError, ValueError):
    """Not a valid topic; see check_topic."""


class TooManySubscriptionsError(RefusedError):
    """The spoke exceeds the hub's limit of topics, 1,024 by default."""


class InvalidPayloadError(RefusedError, ValueError):
    """The payload is not JSON or is nested too deeply, or the event is too large."""


_REFUSALS: Final[dict[str, type[RefusedError]]] = {
    "forbidden": TopicForbiddenError,
    "invalid_topic": InvalidTopicError,
    "too_many_subscriptions": TooManySubscriptionsError,
    "invalid_payload": InvalidPayloadError,
}


def refusal(payload: object) -> RefusedError:
    """Reads the payload of an __error. A later protocol may add members, which are ignored."""
    members = payload if isinstance(payload, dict) else {}
    code, topic, message = (
        value if isinstance(value := members.get(name), str) else "" for name in ("code", "topic", "message")
    )
    return _REFUSALS.get(code, RefusedError)(code, topic, message)
