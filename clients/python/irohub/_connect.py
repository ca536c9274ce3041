"""Connecting to a hub."""

from __future__ import annotations

import asyncio

import iroh

from ._errors import LostError
from ._events import kind
from ._forks import check_fork
from ._options import Options, parse_peer
from ._spoke import Spoke
from ._tasks import Opening, Steady, in_background


def connect(
    peer: str, options: Options = Options(), *, endpoint: iroh.Endpoint | None = None
) -> Opening[Spoke]:
    """Connects to a hub. `spoke = await connect(peer)` returns once the hub has accepted the spoke.
    `async with connect(peer) as spoke` also closes the spoke at the end.

    peer is the ticket that the hub prints, or NODEID@HOST:PORT[,HOST:PORT]... with IP addresses. A
    NodeID alone needs Options.relays, or an endpoint with discovery. If endpoint is given, the
    spoke uses it, and the caller closes it after the spoke. Otherwise the spoke binds its own.

    Raises ValueError for a malformed peer, CloseError (ForbiddenError, TooManyError) if the hub
    rejects the spoke, LostError if it does not answer, and ForkedError in a fork of a process that
    has used iroh.

    If cancelled, it returns at once. Its own endpoint is then closed in the background, which takes
    iroh 3 s.
    """
    return Opening(_connect(peer, options, endpoint))


async def _connect(peer: str, options: Options, endpoint: iroh.Endpoint | None) -> Spoke:
    address = parse_peer(peer)
    if not isinstance(options, Options):
        raise TypeError(f"options must be Options, not {kind(options)}")
    if endpoint is not None and not isinstance(endpoint, iroh.Endpoint):
        raise TypeError(f"endpoint must be an iroh.Endpoint, not {kind(endpoint)}")
    if len(peer) == 64 and not options.relays and endpoint is None:
        raise ValueError("a NodeID alone needs Options.relays, or an endpoint with discovery")
    check_fork()
    own = endpoint is None
    if endpoint is None:
        endpoint = await _bind(options)
    try:
        spoke = Spoke(endpoint, own, address, options)
        await spoke._session.start()
    except BaseException:
        if own:
            in_background(endpoint.close())
        raise
    return spoke


async def _bind(options: Options) -> iroh.Endpoint:
    preset = iroh.preset_n0() if options.relays else iroh.preset_minimal()
    work = iroh.Endpoint.bind(iroh.EndpointOptions(preset=preset, secret_key=options.secret_key))
    binding = Steady(work, loop=asyncio.get_running_loop())
    try:
        return await asyncio.shield(binding)
    except iroh.IrohError as error:
        raise LostError(f"cannot bind an endpoint: {error.message()}") from error
    except asyncio.CancelledError:
        binding.add_done_callback(lambda done: done.exception() or in_background(done.result().close()))
        raise
