"""Giving memory back that was freed."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import pyarrow as pa


def give_back() -> None:
    """Let the operating system have what this process has freed, between two steps of long work.

    Allocators keep it for what comes next, each for itself: what one step took is then counted beside what the next one takes.
    """
    pa.default_memory_pool().release_unused()
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


@cache
def _libc() -> Any:
    """The C library, where it is glibc, which alone has `malloc_trim`."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
