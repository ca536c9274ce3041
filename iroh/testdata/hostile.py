"""A peer that begins all that QUIC lets it begin, with the library's own functions.

    hostile.py dial NODEID HOST:PORT ALPN      dials
    hostile.py answer ALPN                     prints NODEID HOST:PORT, and accepts

Then it does what each line of its input says, and prints a line that says how that ended:

    streams N M   opens N bidirectional and M unidirectional streams, fills the window of each,
                  and waits until all but those that are taken have been stopped: it prints how
                  often with which code, as "bi 5:99 uni 2:100", of which taken ones are no part
    datagrams N   sends N datagrams, and waits until the connection is closed: it prints the reason
"""

import asyncio
import collections
import sys

import iroh

WINDOW = 1_250_000
CHUNK = 12_500


async def fill(stream):
    try:
        for _ in range(WINDOW // CHUNK):
            await stream.write_all(bytes(CHUNK))
    except iroh.IrohError:
        pass  # it has been stopped already


async def open_all(conn, count, taken, open_one):
    streams = [await open_one() for _ in range(count)]
    await asyncio.gather(*map(fill, streams))
    waiting = {asyncio.create_task(stream.stopped()) for stream in streams}
    stopped = set()
    while len(stopped) < count - taken:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        stopped |= more
    codes = collections.Counter(task.result() for task in stopped)
    return streams, waiting, " ".join(f"{code}:{n}" for code, n in sorted(codes.items(), key=str))


async def main():
    mode, *args = sys.argv[1:]
    alpn = args[-1].encode()
    options = iroh.EndpointOptions(preset=iroh.preset_minimal(), alpns=[alpn], bind_addr="127.0.0.1:0")
    endpoint = await iroh.Endpoint.bind(options)
    if mode == "dial":
        address = iroh.EndpointAddr(iroh.EndpointId.from_string(args[0]), None, [args[1]])
        conn = await endpoint.connect(address, alpn)
    else:
        host = next(s for s in endpoint.bound_sockets() if s.startswith("127."))
        print(endpoint.id(), host, flush=True)
        conn = await (await (await endpoint.accept_next()).accept()).connect()
    kept = []  # a stream that is forgotten is finished
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        if line[0] == "streams":
            taken = 1 if mode == "dial" else 0

            async def open_bi():
                both = await conn.open_bi()
                kept.append(both)
                return both.send()

            *bi, text = await open_all(conn, int(line[1]), min(taken, int(line[1])), open_bi)
            *uni, text2 = await open_all(conn, int(line[2]), 0, conn.open_uni)
            kept += [bi, uni]
            print("bi", text, "uni", text2, flush=True)
        elif line[0] == "datagrams":
            try:
                for _ in range(int(line[1])):
                    await conn.send_datagram_wait(bytes(1000))
            except iroh.IrohError:
                pass
            print(await conn.closed(), flush=True)


asyncio.run(main())
