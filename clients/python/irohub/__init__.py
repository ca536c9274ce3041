"""A spoke of an irohub hub, for asyncio.

    async with irohub.connect(PEER) as spoke, spoke.subscribe("message.sent:*") as events:
        await spoke.publish("message.sent", {"text": "hello"}, id="conv-123")
        async for event in events:
            print(event.topic, event.payload)

The protocol is alkpubsub/1. Delivery is at most once: from one publisher in the order
published, whole, once, and with no gap while the spoke is connected. What was on its way
when a connection was lost is lost. The spoke comes back by itself, and subscribes anew
before it says that it is back.

All of a Spoke belongs to the event loop that it was made in. Any number of its tasks may
call its methods at once; another thread may not, and neither may another process: connect
after os.fork, since iroh's threads do not come along.
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
