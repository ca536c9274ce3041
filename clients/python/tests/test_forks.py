"""Forks, and connects that are cancelled: nothing hangs, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import unittest
from typing import Any
from unittest import mock

import iroh

import irohub
from irohub import _tasks
from tests.hubs import HERE, Case, PlayedCase, soon

# What a child of os.fork finds. The parent has a spoke, or has used iroh in another way.
FORK = """
import asyncio, gc, os, signal, sys, time
import iroh, irohub
peer, how = sys.argv[1:]
spoke = endpoint = events = None

async def child():
    calls = [irohub.connect(peer), irohub.connect(peer, endpoint=endpoint)]
    if spoke:
        calls += [spoke.subscribe("a"), spoke.publish("a"), spoke.flush(), spoke.close(), anext(events)]
    for call in calls:
        try:
            await call
        except irohub.ForkedError as error:
            assert "connect after the fork" in str(error)
        else:
            raise AssertionError("no error")
    if spoke:
        assert not spoke.connected
        try:
            spoke.node
        except irohub.ForkedError:
            return
        raise AssertionError("no error")

def fork():
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # kills a child that hangs
        return True
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status
    return False

async def parent():
    global spoke, endpoint, events
    if how == "endpoint":
        endpoint = await iroh.Endpoint.bind(iroh.EndpointOptions(preset=iroh.preset_minimal()))
    elif how in ("spoke", "loop"):
        spoke = await irohub.connect(peer)
        events = await spoke.subscribe("a")
        await spoke.publish("before")
    if how == "loop" and fork():
        return True

async def after():
    again = spoke or await irohub.connect(peer)
    await again.subscribe("b")
    await again.publish("after")
    await again.flush()
    await again.close()

# A loop that is open when a process forks belongs to both, and the child's end breaks it: that is
# asyncio's. So there is one only where a spoke, which keeps it, needs it.
loop = asyncio.new_event_loop() if how in ("spoke", "loop") else None
run = loop.run_until_complete if loop else asyncio.run
in_child = run(parent())
if how == "loop":
    if in_child:
        gc.collect()
        sys.exit(0)
elif how == "before":  # the child of a process that has not used iroh
    if fork():
        asyncio.run(after())
        sys.exit(0)
elif fork():
    asyncio.run(child())
    del spoke, endpoint, events
    gc.collect()
    sys.exit(0)
run(after())
if endpoint:
    run(endpoint.close())
"""


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))


@unittest.skipUnless(hasattr(os, "fork"), "needs os.fork, which this system has not")
class Forks(Case):
    async def test_child(self) -> None:
        hub = await self.hub()
        for how in ("spoke", "endpoint", "loop", "before"):
            with self.subTest(how):
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", FORK, hub.peer, how, cwd=HERE.parent, stderr=subprocess.PIPE
                )
                _, words = await soon(process.communicate())
                self.assertEqual((process.returncode, words.decode()), (0, ""))


class Cancelling(PlayedCase):
    async def settled(self, most: int) -> int:
        """How many descriptors there are once what goes on in the background has ended."""
        loop = asyncio.get_running_loop()
        while closing := [done for done in _tasks._background if done.get_loop() is loop]:
            await soon(asyncio.wait(closing))
        ends = loop.time() + 60
        while (count := descriptors()) > most and loop.time() < ends:
            turn: asyncio.Future[None] = loop.create_future()
            loop.call_later(0.05, turn.set_result, None)
            await turn
        return count

    async def test_connect_that_is_cancelled_leaks_nothing(self) -> None:
        """After each number of steps of the event loop, and at each time while iroh binds."""
        nobody = f"{iroh.SecretKey.generate().public()}@127.0.0.1:9"
        for peer in (nobody, self.played.peer):
            accepting = asyncio.create_task(self.accept_all()) if peer is not nobody else None
            before = descriptors()
            for steps in range(60):
                connecting = asyncio.create_task(irohub.connect(peer))
                for _ in range(steps % 12):
                    await asyncio.sleep(0)
                if steps >= 12:
                    await asyncio.sleep(steps / 10_000)
                connecting.cancel()
                result = (await asyncio.gather(connecting, return_exceptions=True))[0]
                self.assertIsInstance(result, asyncio.CancelledError)
            self.assertLessEqual(await self.settled(before + 2), before + 2)
            if accepting:
                accepting.cancel()
                self.played.hang_up()

    async def accept_all(self) -> None:
        while True:
            link = await self.played.accept()
            greeting = asyncio.create_task(link.greet())
            greeting.add_done_callback(lambda done: done.cancelled() or done.exception())

    def test_loop_that_ends_while_it_binds(self) -> None:
        peer = f"{iroh.SecretKey.generate().public()}@127.0.0.1:9"

        async def begin(steps: int) -> None:
            connecting = asyncio.create_task(irohub.connect(peer))
            await asyncio.sleep(steps / 2000)
            connecting.cancel()

        def tell(told: Any) -> None:
            if str(told.exc_value) != "Event loop is closed":  # the binding's, of a loop that is gone
                sys.__unraisablehook__(told)

        with mock.patch.object(sys, "unraisablehook", tell):
            asyncio.run(begin(0))
            before = descriptors()
            for steps in range(100):
                asyncio.run(begin(steps % 20))
            self.assertLessEqual(asyncio.run(self.settled(before + 5)), before + 5)

    async def test_time_limit_of_the_caller_is_kept(self) -> None:
        """Nor does the spoke's own wait until the endpoint is closed, which takes iroh 3 s: here,
        for ever."""
        peer = f"{iroh.SecretKey.generate().public()}@127.0.0.1:9"
        close = iroh.Endpoint.close
        for limits, kind in (((0.3, 100.0), irohub.LostError), ((100.0, 0.3), asyncio.TimeoutError)):
            closing, may_close = asyncio.Event(), asyncio.Event()

            async def held(endpoint: iroh.Endpoint) -> None:
                closing.set()
                await may_close.wait()
                await close(endpoint)

            with mock.patch.object(iroh.Endpoint, "close", held):
                options = irohub.Options(handshake_timeout=limits[0])
                connecting = asyncio.create_task(asyncio.wait_for(irohub.connect(peer, options), limits[1]))
                await asyncio.wait([connecting], timeout=60)
                self.assertTrue(connecting.done())
                self.assertIsInstance(connecting.exception(), kind)
                await soon(closing.wait())
            may_close.set()
            await self.settled(sys.maxsize)

    async def test_nothing_is_said_of_what_goes_on_in_the_background(self) -> None:
        program = (
            "import asyncio, iroh, sys, irohub\n"
            "async def main():\n"
            "    asyncio.get_running_loop().slow_callback_duration = float('inf')  # or a busy machine is told of\n"
            "    try:\n"
            "        await asyncio.wait_for(irohub.connect(sys.argv[1]), 0.3)\n"
            "    except asyncio.TimeoutError:\n"
            "        pass\n"
            "async def never(endpoint):\n"
            "    await asyncio.Event().wait()\n"
            "if sys.argv[2] == 'never':\n"
            "    iroh.Endpoint.close = never\n"
            "if sys.argv[2] != 'close':\n"
            "    asyncio.run(main())\n"
            "else:\n"
            "    loop = asyncio.new_event_loop()\n"
            "    loop.run_until_complete(main())\n"
            "    loop.close()\n"
        )
        peer = f"{iroh.SecretKey.generate().public()}@127.0.0.1:9"
        for how in ("run", "close", "never"):  # the last: the program's end does not wait for it
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-X", "dev", "-c", program, peer, how, cwd=HERE.parent, stderr=subprocess.PIPE
            )
            _, words = await soon(process.communicate())
            self.assertEqual((process.returncode, words.decode()), (0, ""), how)


class Closing(PlayedCase):
    async def test_close_and_the_iteration_agree(self) -> None:
        """Either all is well for both, or both raise the same."""

        async def outcome(call: Any) -> object:
            try:
                await soon(call)
            except StopAsyncIteration:
                return None
            except irohub.SpokeError as error:
                return type(error), str(error)
            return None

        for code in (0, 1, 2, 4, 5):
            spoke, link = await self.meet(irohub.Options(reconnect=False), "n")
            closing = asyncio.create_task(spoke.close())
            with self.assertRaises(EOFError):
                await link.next()
            await link.end(code)
            said = await outcome(closing)
            self.assertEqual(said, await outcome(anext(self.events[spoke])))
            self.assertEqual(said, await outcome(spoke.close()))
            self.assertEqual(said is None, code == 0)

    async def test_close_that_is_cancelled_goes_on(self) -> None:
        spoke, link = await self.meet()
        await soon(spoke.publish("n"))
        closing = asyncio.create_task(spoke.close())
        await asyncio.sleep(0)
        closing.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await closing
        self.assertEqual((await link.next()).topic, "n")
        with self.assertRaises(EOFError):
            await link.next()
        await link.end(0)
        await soon(spoke.close())


if __name__ == "__main__":
    unittest.main()
