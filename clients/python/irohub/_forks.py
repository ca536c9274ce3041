"""os.fork: iroh's threads do not come along."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Final

import iroh

from ._errors import ForkedError

_forks = 0  # that this process has come from, since iroh had begun to work
spokes: Final[weakref.WeakSet[object]] = weakref.WeakSet()  # all that there are


def forked() -> bool:
    """Whether this process is a fork of one in which iroh has worked."""
    return _forks > 0


def check_fork() -> None:
    if _forks:
        raise ForkedError("this process is a fork of one that has used iroh: connect after the fork, not before")


def _in_child() -> None:
    """If iroh has worked in the parent, its threads are gone and its locks may be held for
    ever. So nothing of it is touched again, not even to free it: objects that wait for it,
    and spokes with all that they have, are made to stay until the process ends."""
    global _forks
    calls = getattr(iroh.iroh_ffi, "_UniffiContinuationHandleMap", None)
    if not spokes and getattr(calls, "_counter", None) == getattr(iroh.iroh_ffi, "_UNIFFI_HANDLEMAP_INITIAL", 0):
        return  # it has not worked yet
    _forks += 1
    for kept in (calls, *spokes):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
