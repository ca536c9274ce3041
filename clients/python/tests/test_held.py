"""What a hostile hub makes a spoke hold: memory of a process, measured, against a figure.

    python -m tests.test_held          prints a table

The hub is another process. It floods, in each state of a spoke, with events, streams or datagrams.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import unittest
from pathlib import Path
from typing import Any

import iroh

import irohub
from irohub import _link
from tests.hubs import HERE, PlayedHub, PlayedLink

MIB = 1 << 20
QUEUE, FRAME = 8 * MIB, 1 * MIB
WINDOW = 1_250_000  # bytes that iroh takes in for a stream that nobody reads
# Until a test is ready, what iroh and Python need for themselves: threads, code, free lists.
OWN = 3 * MIB

# What a state may hold, in bytes. Events: the queue, a frame that is not whole, and the stream's window.
EVENTS = QUEUE + FRAME + _link.READ_SIZE + WINDOW
FIGURES = {
    "connecting": 0,  # no stream is there yet
    "greeting": EVENTS - QUEUE,
    "answer": EVENTS,
    "unread": EVENTS,
    "cuts": EVENTS,
    "closing": EVENTS,
    "streams": WINDOW,  # one of 100: what comes until it is stopped
    "datagrams": WINDOW,  # iroh keeps as much, and drops the oldest
}


async def hub() -> None:
    """Plays a hub that does what its input says: one state a line."""
    played = PlayedHub()
    await played.start()
    print(played.peer, flush=True)
    state = await asyncio.to_thread(sys.stdin.readline)
    work = play(played, state.strip())
    ended = asyncio.to_thread(sys.stdin.readline)
    await asyncio.wait([asyncio.ensure_future(work), asyncio.ensure_future(ended)])


async def play(played: PlayedHub, state: str) -> None:
    try:
        if state == "connecting":
            incoming = await played._endpoint.accept_next()
            assert incoming
            conn = await (await incoming.accept()).connect()
            await streams(conn)
        else:
            link = await played.accept()
            if state != "greeting":
                await link.greet()
                await link.greet()
            if state == "answer":
                await link.next()
            while state == "cuts":
                await flood(link, 2 * MIB)
                await link.end(4)
                link = await played.accept()
                await link.greet()
            if state == "streams":
                await streams(link.conn)
            elif state == "datagrams":
                for _ in range(20_000):
                    await link.conn.send_datagram_wait(b"x" * 1100)
            else:
                await flood(link, 24 * MIB)
    except (iroh.IrohError, EOFError):
        pass  # the spoke has ended the connection
    print("done", flush=True)


async def flood(link: PlayedLink, size: int) -> None:
    event = irohub.encode("n", "", "x" * 3000)
    for _ in range(size // len(event)):
        await link._sending.write_all(event)


async def streams(conn: iroh.Connection) -> None:
    """Writes 200 KB to each of as many streams as iroh lets be open."""

    async def fill(sending: Any) -> None:
        try:
            for _ in range(4):
                await sending.write_all(b"x" * 50_000)
        except iroh.IrohError:
            pass

    for _ in range(50):
        for opening in (conn.open_uni, conn.open_bi):
            try:
                stream = await asyncio.wait_for(opening(), 2)
            except (asyncio.TimeoutError, iroh.IrohError):
                return  # no more may be open
            await fill(stream.send() if isinstance(stream, iroh.BiStream) else stream)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def spoke(peer: str, state: str) -> None:
    """Is a spoke of that hub, and prints how much more it held at most."""
    endpoint = await iroh.Endpoint.bind(iroh.EndpointOptions(preset=iroh.preset_minimal()))
    for _ in range(3):  # what the first use costs, decoding of a large frame included
        irohub.parse_envelope(irohub.encode("n", "", "x" * (FRAME - 1000))[4:])
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or what is free already would hide what is held
    before = most = resident()
    times = {"connecting": 6.0, "greeting": 10.0}
    options = irohub.Options(
        max_queue=QUEUE, max_frame=FRAME, handshake_timeout=times.get(state, 30.0), write_timeout=30.0, max_backoff=0.25
    )
    ended = asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, resident())
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    done = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    kept: list[object] = []
    try:
        made = await irohub.connect(peer, options, endpoint=endpoint)
        kept += [made, await made.subscribe("n")]
        if state == "answer":
            kept.append(asyncio.create_task(made.subscribe("a")))
        elif state == "closing":
            kept.append(asyncio.create_task(made.close()))
        await asyncio.wait([done], timeout=12)
    except irohub.SpokeError:
        pass  # the hub does not answer
    ended.set()
    await watching
    print(most - before, flush=True)
    os._exit(0)


async def measure(state: str) -> int:
    """Returns the bytes that a spoke held more in that state than before it."""
    pipe = asyncio.subprocess.PIPE
    me = (sys.executable, "-m", "tests.test_held")
    hostile = await asyncio.create_subprocess_exec(*me, "hub", stdin=pipe, stdout=pipe, cwd=HERE.parent)
    try:
        assert hostile.stdin and hostile.stdout
        peer = (await hostile.stdout.readline()).decode().strip()
        hostile.stdin.write(f"{state}\n".encode())
        victim = await asyncio.create_subprocess_exec(
            *me, "spoke", peer, state, stdin=pipe, stdout=pipe, cwd=HERE.parent
        )
        assert victim.stdin and victim.stdout
        if state in ("streams", "datagrams", "connecting"):
            await asyncio.wait_for(hostile.stdout.readline(), 60)
            victim.stdin.write(b"\n")
        held = int(await asyncio.wait_for(victim.stdout.readline(), 60))
        await victim.wait()
        return held
    finally:
        hostile.kill()
        await hostile.communicate()


@unittest.skipUnless(Path("/proc/self/statm").exists(), "needs /proc, to measure a process's memory")
class Held(unittest.IsolatedAsyncioTestCase):
    async def test_what_a_hub_makes_a_spoke_hold(self) -> None:
        room = asyncio.Semaphore(4)  # a state takes seconds, of which it works in few

        async def measured(state: str) -> int:
            async with room:
                return await measure(state)

        figures = zip(FIGURES.items(), await asyncio.gather(*map(measured, FIGURES)), strict=True)
        for (state, figure), held in figures:
            with self.subTest(state):
                self.assertLessEqual(held, 1.2 * (figure + OWN))


async def table() -> None:
    for state, figure in FIGURES.items():
        held = await measure(state)
        ratio = held / (figure + OWN)
        print(f"{state:12} held {held / MIB:6.2f} MiB, figure {(figure + OWN) / MIB:6.2f} MiB, ratio {ratio:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["hub"]:
        asyncio.run(hub())
    elif sys.argv[1:2] == ["spoke"]:
        asyncio.run(spoke(sys.argv[2], sys.argv[3]))
    else:
        asyncio.run(table())
