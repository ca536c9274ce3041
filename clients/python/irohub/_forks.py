"""Protection after os.fork, which does not copy iroh's threads."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Final

import iroh

from ._errors import ForkedError

_forks = 0  # number of forks between the process that first used iroh and this one
spokes: Final[weakref.WeakSet[object]] = weakref.WeakSet()  # all spokes that exist


def forked() -> bool:
    """Reports whether this process is a fork of one that had used iroh."""
    return _forks > 0


def check_fork() -> None:
    if _forks:
        raise ForkedError("this process is a fork of one that has used iroh: connect after the fork, not before")


def _in_child() -> None:
    """If the parent had used iroh, iroh's threads are missing here, and its locks may be held for
    ever. So nothing of iroh may be touched again, not even to free it. This function keeps alive
    all spokes, and the objects that wait for iroh, until the process ends."""
    global _forks
    calls = getattr(iroh.iroh_ffi, "_UniffiContinuationHandleMap", None)
    if not spokes and getattr(calls, "_counter", None) == getattr(iroh.iroh_ffi, "_UNIFFI_HANDLEMAP_INITIAL", 0):
        return  # iroh has not been used yet
    _forks += 1
    for kept in (calls, *spokes):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
