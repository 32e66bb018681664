"""Bounded queues between the stages of a run: they wait, or drop the oldest and count it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """A bounded queue from one thread to another.

    Args:
        size: How many items may wait.
        drops_oldest: Whether a full queue makes room by dropping what waits longest, so that latency stays what `size` items
            take; otherwise who puts waits.
    """

    def __init__(self, size: int, *, drops_oldest: bool = False) -> None:
        self._items: deque[T] = deque()
        self._size, self._drops_oldest = size, drops_oldest
        self._condition = threading.Condition()
        self._closed = False
        self._dropped = 0

    def put(self, item: T) -> bool:
        """Add an item; False if the queue was closed, and the item is not in it."""
        with self._condition:
            while len(self._items) >= self._size and not self._closed:
                if self._drops_oldest:
                    self._items.popleft()
                    self._dropped += 1
                else:
                    self._condition.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._condition.notify_all()
            return True

    def take(self, most: int, *, fills: bool = False, timeout: float | None = None) -> list[T]:
        """Wait for items, and take up to so many.

        Args:
            most: At most so many.
            fills: Whether to wait until there are as many, or the queue is closed; otherwise one is enough.
            timeout: Seconds to wait; None for ever.

        Returns:
            The items, oldest first; none if the queue is closed and empty (`is_done`), or the time is over.
        """
        wanted = min(most, self._size) if fills else 1
        end = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while len(self._items) < wanted and not self._closed:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._condition.wait(left)
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self._condition.notify_all()
            return taken

    def close(self) -> None:
        """Nothing more comes; what waits can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def clear(self) -> int:
        """Throw away what waits; returns how much that was."""
        with self._condition:
            count = len(self._items)
            self._items.clear()
            self._condition.notify_all()
            return count

    @property
    def is_done(self) -> bool:
        """Whether it is closed and empty."""
        with self._condition:
            return self._closed and not self._items

    @property
    def waiting(self) -> int:
        """How many items wait."""
        with self._condition:
            return len(self._items)

    @property
    def dropped(self) -> int:
        """How many were dropped so far to make room."""
        with self._condition:
            return self._dropped
