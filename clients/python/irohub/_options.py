"""What connect is told, and the states in which a spoke is."""

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
_SMALLEST: Final = 4 << 10  # bytes that max_frame may be
_LARGEST: Final = 1 << 30


@dataclass(frozen=True)
class State:
    """How a spoke stands. "connecting" is until connect returns, "reconnecting" from the loss of
    a connection until the hub has acknowledged all topics over another, "closed" the end for good."""

    name: Literal["connecting", "connected", "reconnecting", "closed"]
    attempt: int = 0  # of reconnecting: 1 for the first
    # reconnecting: why the connection was lost, or the attempt before this one failed.
    # closed: what ended the spoke; None after close().
    error: SpokeError | None = None


@dataclass(frozen=True)
class Options:
    """What connect may be told. Times are in seconds. Raises TypeError or ValueError for what
    cannot be."""

    alpn: bytes = ALPN
    # Bytes of an envelope, of which 74 of what is published are left for "from". At least
    # 4 KiB, and at most 1 GiB.
    max_frame: int = MAX_FRAME
    max_queue: int = 1 << 20  # bytes of memory waiting for one subscription; over it, that ends with a SlowError

    # An endpoint of the spoke's own has these; one that is given has its own.
    secret_key: bytes | None = None  # 32 bytes; None: a new key, and so a new NodeID
    relays: bool = False  # the relays and the discovery of iroh's authors

    # For each attempt to connect, up to the hub's first answer. Where topics are subscribed
    # anew, it begins anew with each answer.
    handshake_timeout: float = 10.0
    # Without progress in writing, and for the hub's last word.
    write_timeout: float = 10.0

    # When a connection is lost, the spoke dials again after a pause, which doubles from
    # min_backoff to max_backoff, each time shortened by chance by up to a half. ProtocolError and
    # ForbiddenError end the spoke instead, and so does TooManyError once connected, as
    # it means that a newer spoke has taken the place; before, the pause is max_backoff.
    reconnect: bool = True  # False: a lost connection ends the spoke
    min_backoff: float = 0.25
    max_backoff: float = 30.0

    # The event loop calls them, so they must not block.

    # Spoke.state has changed.
    on_state: Callable[[State], None] | None = None
    # A connection was lost, the last one too, but not by close(). All that came on it is
    # waiting for the iterations by then, or was taken already.
    on_disconnect: Callable[[SpokeError], None] | None = None
    # There is a new one, and the hub has acknowledged all topics.
    on_reconnect: Callable[[], None] | None = None
    # The hub refused an event that was published.
    on_refused: Callable[[RefusedError], None] | None = None

    def __post_init__(self) -> None:
        def need(name: str, right: bool, words: str) -> None:
            if not right:
                raise TypeError(f"{name} is {words}, not {kind(getattr(self, name))}")

        need("alpn", isinstance(self.alpn, bytes), "bytes")
        need("secret_key", self.secret_key is None or isinstance(self.secret_key, bytes), "bytes or None")
        for name in ("relays", "reconnect"):
            need(name, isinstance(getattr(self, name), bool), "a bool")
        for name, least, most in (("max_frame", _SMALLEST, _LARGEST), ("max_queue", 1, (1 << 32) - 1)):
            value = getattr(self, name)
            need(name, isinstance(value, int) and not isinstance(value, bool), "an int")
            if not least <= value <= most:
                raise ValueError(f"{name} is {value}; {least} to {most} are allowed")
        for name in ("handshake_timeout", "write_timeout", "min_backoff", "max_backoff"):
            value = getattr(self, name)
            need(name, isinstance(value, (int, float)) and not isinstance(value, bool), "a number")
            if not (value >= 0 if name.endswith("backoff") else value > 0):
                raise ValueError(f"{name} is {value} s")
        for name in ("on_state", "on_disconnect", "on_reconnect", "on_refused"):
            need(name, getattr(self, name) is None or callable(getattr(self, name)), "callable or None")
        if not 1 <= len(self.alpn) <= 255:
            raise ValueError(f"alpn has {len(self.alpn)} bytes; 1 to 255 are allowed")
        if self.secret_key is not None and len(self.secret_key) != 32:
            raise ValueError(f"secret_key has {len(self.secret_key)} bytes, not 32")


_HOST = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[0-9a-fA-F:.]+(?:%[0-9]+)?)\]):(?P<port>[0-9]{1,5})")


def parse_peer(peer: str) -> iroh.EndpointAddr:
    """Reads a ticket, NODEID@HOST:PORT[,HOST:PORT]... or NODEID; raises ValueError. A NodeID alone
    is found by the discovery of Options.relays, or of an endpoint that is given."""
    if not isinstance(peer, str):
        raise TypeError(f"peer is a str, not {kind(peer)}")
    words = f"{peer!r} is neither NODEID@HOST:PORT, by numbers, nor a ticket"
    node, at, hosts = peer.partition("@")
    found_at: list[str] = []
    try:
        if not at and not NODE_ID.fullmatch(node.lower()):
            return iroh.EndpointTicket.from_string(peer).endpoint_addr()
        if not NODE_ID.fullmatch(node.lower()):
            raise ValueError(f"{node!r} is not 64 hex digits")
        for host in hosts.split(",") if at else ():  # the binding would find it wrong only when it dials
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
