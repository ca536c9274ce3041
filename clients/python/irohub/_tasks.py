"""Helpers for tasks: opening resources, work in the background, and time limits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

from ._errors import LostError

_T = TypeVar("_T")
_C = TypeVar("_C", bound=AbstractAsyncContextManager[Any])


class Opening(Coroutine[Any, Any, _C], Generic[_C]):
    """Opens a resource: `x = await opening`, or, to close it too, `async with opening as x`."""

    def __init__(self, work: Coroutine[Any, Any, _C]) -> None:
        self._work = work

    def send(self, value: Any) -> Any:
        return self._work.send(value)

    def throw(self, *what: Any) -> Any:
        return self._work.throw(*what)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Any:
        return self._work.__await__()

    async def __aenter__(self) -> _C:
        self._made = await self._work
        return self._made

    async def __aexit__(self, *how: Any) -> None:
        await self._made.__aexit__(*how)


class Steady(asyncio.Task[_T]):
    """A task that ignores cancellation. iroh's bind takes some ms, and leaks what it has opened if it
    is cancelled."""

    def cancel(self, msg: object = None) -> bool:
        return False


_background: Final[set[asyncio.Future[Any]]] = set()


def in_background(work: Coroutine[Any, Any, None]) -> asyncio.Future[Any]:
    """Runs work that nobody has to wait for. If the event loop ends first, asyncio reports nothing,
    because gather hides the task; no harm is done."""
    _background.difference_update([done for done in _background if done.get_loop().is_closed()])
    done = asyncio.gather(work, return_exceptions=True)
    _background.add(done)
    done.add_done_callback(_background.discard)
    return done


async def within(seconds: float, work: Coroutine[Any, Any, _T], words: str) -> _T:
    """Awaits work, or raises LostError after the time limit. Unlike wait_for before Python 3.12, it
    never swallows a cancellation."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=max(0.0, seconds))
    except BaseException:
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    if not done:
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            raise LostError(f"{words} within {seconds:g} s")
    return task.result()


async def event_within(event: asyncio.Event, seconds: float | None) -> None:
    """Waits until the event is set, or the time is over."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set) if seconds is not None else None
    try:
        await event.wait()
    finally:
        if timer is not None:
            timer.cancel()
