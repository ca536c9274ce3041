"""The options of connect, and the states of a spoke."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import iroh

from ._errors import RefusedError, SpokeError
from ._events import MAX_FRAME, NODE_ID, kind

ALPN: Final = b"alkpubsub/1"
_SMALLEST: Final = 4 << 10  # bytes; the limits of max_frame
_LARGEST: Final = 1 << 30


@dataclass(frozen=True)
class State:
    """The state of a spoke. "connecting": connect has not returned yet. "reconnecting": a connection
    was lost, and the hub has not yet acknowledged all topics over a new one. "closed": the final
    state."""

    name: Literal["connecting", "connected", "reconnecting", "closed"]
    attempt: int = 0  # in "reconnecting": the number of the attempt, from 1; otherwise 0
    # "reconnecting": why the connection was lost, or why the previous attempt failed. "closed":
    # what ended the spoke; None after close().
    error: SpokeError | None = None


@dataclass(frozen=True)
class Options:
    """Options of connect. Times are in seconds. Raises TypeError or ValueError for invalid values."""

    alpn: bytes = ALPN
    # The most bytes in an envelope, 4 KiB to 1 GiB. An event to publish may have 74 bytes less,
    # which the hub needs to add "from".
    max_frame: int = MAX_FRAME
    max_queue: int = 1 << 20  # the most bytes queued for one subscription; beyond it, SlowError ends the subscription

    # These apply only if the spoke binds its own endpoint.
    secret_key: bytes | None = None  # 32 bytes; None: a new random key, so a new NodeID
    relays: bool = False  # use the relays and the discovery of iroh's authors

    # Limit for each attempt to connect, until the hub's first answer. While the spoke subscribes
    # to its topics again, each answer restarts the limit.
    handshake_timeout: float = 10.0
    # Limit without progress in writing, and for the hub to close the connection in close().
    write_timeout: float = 10.0

    # After a connection is lost, the spoke pauses and dials again. The pause doubles from
    # min_backoff to max_backoff, and is shortened randomly by up to a half. ProtocolError and
    # ForbiddenError end the spoke instead. TooManyError also ends a spoke that was connected,
    # because a newer spoke has taken its place. During an attempt to connect, it makes the pause
    # max_backoff.
    reconnect: bool = True  # False: a lost connection ends the spoke
    min_backoff: float = 0.25
    max_backoff: float = 30.0

    # The event loop calls these functions, so they must not block.

    # Spoke.state has changed.
    on_state: Callable[[State], None] | None = None
    # A connection was lost, but not by close(). This includes the last one. Every event that
    # arrived on it is in the subscriptions' queues by then, or was taken already.
    on_disconnect: Callable[[SpokeError], None] | None = None
    # The spoke is connected again, and the hub has acknowledged all topics.
    on_reconnect: Callable[[], None] | None = None
    # The hub refused an event that this spoke published.
    on_refused: Callable[[RefusedError], None] | None = None

    def __post_init__(self) -> None:
        def need(name: str, right: bool, words: str) -> None:
            if not right:
                raise TypeError(f"{name} must be {words}, not {kind(getattr(self, name))}")

        need("alpn", isinstance(self.alpn, bytes), "bytes")
        need("secret_key", self.secret_key is None or isinstance(self.secret_key, bytes), "bytes or None")
        for name in ("relays", "reconnect"):
            need(name, isinstance(getattr(self, name), bool), "a bool")
        for name, least, most in (("max_frame", _SMALLEST, _LARGEST), ("max_queue", 1, (1 << 32) - 1)):
            value = getattr(self, name)
            need(name, isinstance(value, int) and not isinstance(value, bool), "an int")
            if not least <= value <= most:
                raise ValueError(f"{name} is {value}; it must be {least} to {most}")
        for name in ("handshake_timeout", "write_timeout", "min_backoff", "max_backoff"):
            value = getattr(self, name)
            need(name, isinstance(value, (int, float)) and not isinstance(value, bool), "a number")
            if not (value >= 0 if name.endswith("backoff") else value > 0):
                raise ValueError(f"{name} is {value} s, which is too small")
        for name in ("on_state", "on_disconnect", "on_reconnect", "on_refused"):
            need(name, getattr(self, name) is None or callable(getattr(self, name)), "callable or None")
        if not 1 <= len(self.alpn) <= 255:
            raise ValueError(f"alpn has {len(self.alpn)} bytes; 1 to 255 are allowed")
        if self.secret_key is not None and len(self.secret_key) != 32:
            raise ValueError(f"secret_key has {len(self.secret_key)} bytes, not 32")


_HOST = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[0-9a-fA-F:.]+(?:%[0-9]+)?)\]):(?P<port>[0-9]{1,5})")


def parse_peer(peer: str) -> iroh.EndpointAddr:
    """Parses a ticket, NODEID@HOST:PORT[,HOST:PORT]... or NODEID. Raises ValueError. A NodeID alone
    needs the discovery of Options.relays, or of a given endpoint."""
    if not isinstance(peer, str):
        raise TypeError(f"peer must be a str, not {kind(peer)}")
    words = f"{peer!r} is neither NODEID@IP:PORT nor a ticket"
    node, at, hosts = peer.partition("@")
    found_at: list[str] = []
    try:
        if not at and not NODE_ID.fullmatch(node.lower()):
            return iroh.EndpointTicket.from_string(peer).endpoint_addr()
        if not NODE_ID.fullmatch(node.lower()):
            raise ValueError(f"{node!r} is not 64 hex digits")
        for host in hosts.split(",") if at else ():  # the binding would reject it only when it dials
            if not (found := _HOST.fullmatch(host)):
                raise ValueError(f"{host!r} is not IP:PORT, or [IP]:PORT for an IP with colons")
            ipaddress.IPv4Address(found["v4"]) if found["v4"] else ipaddress.IPv6Address(found["v6"])
            if not 1 <= int(found["port"]) <= 65535:
                raise ValueError(f"port {found['port']} is not 1 to 65535")
            found_at.append(host)
        return iroh.EndpointAddr(iroh.EndpointId.from_string(node.lower()), None, found_at)
    except iroh.IrohError as error:
        raise ValueError(f"{words}: {error.message()}") from error
    except ValueError as error:
        raise ValueError(f"{words}: {error}") from error
