#!/usr/bin/env python3
"""A spoke on the command line, like irohub sub and irohub pub in one.

    example.py PEER 'message.sent:*'             print each event as a line of JSON
    example.py -n 10 PEER chat                   end after 10 events
    example.py --pub PEER < events.jsonl         publish each line, then end
    example.py --pub -n 10 PEER chat             both at once

Once all topics are acknowledged, it prints {"ready":true,"node":NODEID} on standard output;
behind that come the events, each {"type":…,"id":…,"from":…,"payload":…}, of which only type is
always there. What happens otherwise is said on standard error, a line each: "disconnected: …",
"reconnected", "refused: …".
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading

import irohub

DESCRIPTION = "Subscribes to topics of the hub at PEER, prints what comes, and with --pub publishes what it reads."
EPILOG = """Exit status: 0 if all went well: -n was reached, or all of standard input was taken by the
hub, or, where neither was asked for, a signal came; 1 if the hub refused something or the
connection was lost for good; 2 for wrong usage, and for a line that is not an event (those
before it are published)."""


class BadLine(Exception):
    """A line of standard input is not an event."""


def log(words: object) -> None:
    print(words, file=sys.stderr, flush=True)


def line_of(event: irohub.Event) -> str:
    members = {"type": event.type, "id": event.id, "from": event.sender}
    parts = [f'"{name}":{json.dumps(value, ensure_ascii=False)}' for name, value in members.items() if value]
    if event.json is not None:  # in JSON, a line's end can only be white space
        parts.append(f'"payload":{event.json.translate({10: " ", 13: " "})}')
    return "{" + ",".join(parts) + "}"


async def print_events(events: irohub.Subscription, count: int) -> None:
    """Prints count events, or all if count is 0."""
    printed = 0
    async for event in events:
        print(line_of(event), flush=True)
        printed += 1
        if printed == count:
            return


async def publish_lines(spoke: irohub.Spoke) -> None:
    """Publishes standard input, and waits until the hub has taken it."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes] = asyncio.Queue(64)

    def read() -> None:  # a thread, because the event loop cannot wait for a file
        while True:
            line = sys.stdin.buffer.readline()
            asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
            if not line:
                return

    threading.Thread(target=read, daemon=True).start()
    number = 0
    while line := await lines.get():
        number += 1
        try:
            event = irohub.parse_envelope(line)
            await spoke.publish(event.type, event.json, id=event.id)
        except (irohub.ProtocolError, irohub.InvalidTopicError, irohub.InvalidPayloadError) as error:
            await spoke.flush()
            raise BadLine(f"line {number}: {error}") from error
    await spoke.flush()


def read_key(path: str) -> bytes:
    """Reads a secret key, 64 hex digits as irohub has it, or makes one if there is no file."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(os.urandom(32).hex() + "\n")
    except FileExistsError:
        pass
    with open(path) as file:
        return bytes.fromhex(file.read().strip())


async def run(args: argparse.Namespace) -> None:
    options = irohub.Options(
        secret_key=read_key(args.key) if args.key else None,
        max_frame=args.max_frame,
        max_queue=args.max_queue,
        on_disconnect=lambda error: log(f"disconnected: {error}"),
        on_reconnect=lambda: log("reconnected"),
        on_refused=log,
    )
    async with irohub.connect(args.peer, options) as spoke:
        events = await spoke.subscribe(*args.topics) if args.topics else None
        print(json.dumps({"ready": True, "node": spoke.node}, separators=(",", ":")), flush=True)
        tasks = []
        if events is not None:
            tasks.append(asyncio.create_task(print_events(events, args.n)))
        if args.pub:
            tasks.append(asyncio.create_task(publish_lines(spoke)))
        # With --pub alone, the end of the lines is the end.
        until = asyncio.FIRST_EXCEPTION if args.n or not args.pub else asyncio.FIRST_COMPLETED
        done, _ = await asyncio.wait(tasks, return_when=until)
        for task in done:
            task.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("peer", metavar="PEER", help="NODEID@HOST:PORT, or the ticket that the hub prints")
    parser.add_argument("topics", metavar="TOPIC", nargs="*", help="a topic, or T:* for all of the type T")
    parser.add_argument("-n", metavar="COUNT", type=int, default=0, help="end after COUNT events; 0: never")
    parser.add_argument("--pub", action="store_true", help="publish each line of standard input, an event as JSON")
    parser.add_argument("--key", metavar="FILE", help="the secret key, made if it is missing; none: a new one")
    parser.add_argument("--max-frame", metavar="BYTES", type=int, default=1 << 20, help="the largest event (1 MiB)")
    parser.add_argument("--max-queue", metavar="BYTES", type=int, default=1 << 20, help="how much may wait (1 MiB)")
    args = parser.parse_args()
    if not args.topics and not args.pub:
        parser.error("no TOPIC, and not --pub either")
    if args.n and not args.topics:
        parser.error("-n counts what comes, so it needs a TOPIC")

    async def until_signal() -> int:
        work = asyncio.create_task(run(args))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            return 1 if args.n or args.pub else 0
        except irohub.SpokeError as error:
            log(error)
            return 1
        except (BadLine, ValueError) as error:
            log(error)
            return 2
        return 0

    return asyncio.run(until_signal())


if __name__ == "__main__":
    sys.exit(main())
