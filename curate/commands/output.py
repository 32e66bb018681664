"""What commands print: JSON lines or tables on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from curate.wording import printable_lines

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""


def print_json(value: Any) -> None:
    """One JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def print_json_lines(values: Iterable[Any]) -> None:
    """One JSON object per line on stdout."""
    for value in values:
        print_json(value)


def note(text: str) -> None:
    """A line on stderr."""
    print(printable_lines(text), file=sys.stderr)


def agrees(question: str) -> bool:
    """Ask on stderr; no answer, as where there is no terminal, means no."""
    print(f"{question} [y/N]: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not (sys.stdin.isatty() and answer):
        print(file=sys.stderr)  # only a terminal shows the answer, with the end of its line
    return answer.strip().lower() in {"y", "yes"}


@contextmanager
def progress(what: str | Callable[[], str]) -> Iterator[Progress]:
    """Progress on stderr with rate and remaining time: a bar on a terminal, a line every ten seconds in a log.

    Args:
        what: What is going on; a function where that changes.
    """
    text = what if callable(what) else lambda: str(what)
    if not sys.stderr.isatty():
        yield _Log(text)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text(), total=None, rate="")

        def update(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - started, 1e-9)
            bar.update(task, description=text(), completed=done, total=total, rate=f"{rate:,.0f}/s")

        yield update


@contextmanager
def late_progress(what: str) -> Iterator[Progress]:
    """`progress` that shows nothing before it is first called, and ends when all is done."""
    with ExitStack() as stack:
        shown: list[Progress] = []

        def update(done: int, total: int) -> None:
            if not shown:
                shown.append(stack.enter_context(progress(what)))
            shown[0](done, total)
            if done >= total:
                stack.close()

        yield update


class _Log:
    """Progress for a log file: a line every ten seconds."""

    interval = 10.0

    def __init__(self, what: Callable[[], str]) -> None:
        self._what = what
        self._started = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < self.interval:
            return
        self._last = now
        rate = done / (now - self._started)
        remaining = (total - done) / max(rate, 1e-9)
        note(f"{self._what()}: {done:,} of {total:,}, {rate:,.0f}/s, {remaining:,.0f} s left")
