"""A spoke of an irohub hub, for asyncio.

    async with irohub.connect(PEER) as spoke, spoke.subscribe("message.sent:*") as events:
        await spoke.publish("message.sent", {"text": "hello"}, id="conv-123")
        async for event in events:
            print(event.topic, event.payload)

The protocol is alkpubsub/1. Delivery is at most once. The events of one publisher arrive
whole, once, in the order published, and without gaps while the spoke is connected. Events in
flight when a connection is lost are lost. The spoke reconnects by itself. It subscribes to
all topics again before it reports that it is connected.

A Spoke belongs to the event loop in which it was made. Any number of tasks of that loop may
call its methods concurrently. Other threads must not. Processes must not share a spoke
either: connect after os.fork, because a fork does not copy iroh's threads.
"""

from ._connect import connect
from ._errors import (
    CloseError,
    ClosedError,
    EndedError,
    ForbiddenError,
    ForkedError,
    InvalidPayloadError,
    InvalidTopicError,
    LostError,
    ProtocolError,
    RefusedError,
    ShutdownError,
    SlowError,
    SpokeError,
    TimeoutClosedError,
    TooManyError,
    TooManySubscriptionsError,
    TopicForbiddenError,
)
from ._events import Event, FrameReader, Json, check_topic, encode, matches, parse_envelope
from ._options import Options, State, parse_peer
from ._spoke import Spoke
from ._subscription import Subscription

__version__ = "0.1.0"

__all__ = [
    "CloseError",
    "ClosedError",
    "EndedError",
    "Event",
    "ForbiddenError",
    "ForkedError",
    "FrameReader",
    "InvalidPayloadError",
    "InvalidTopicError",
    "Json",
    "LostError",
    "Options",
    "ProtocolError",
    "RefusedError",
    "ShutdownError",
    "SlowError",
    "Spoke",
    "SpokeError",
    "State",
    "Subscription",
    "TimeoutClosedError",
    "TooManyError",
    "TooManySubscriptionsError",
    "TopicForbiddenError",
    "check_topic",
    "connect",
    "encode",
    "matches",
    "parse_envelope",
    "parse_peer",
]
