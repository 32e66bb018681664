"""One function in several processes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from curate.engine.workers import run_workers


@pytest.mark.parametrize("here", [True, False])
def test_results_come_in_order(here: bool) -> None:
    assert list(run_workers(math.sqrt, [4.0, 9.0, 16.0, 25.0] * 5, workers=2, here=here)) == [2.0, 3.0, 4.0, 5.0] * 5


def test_an_error_in_a_process_is_raised_here() -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(run_workers(math.sqrt, [1.0, -1.0], workers=2))


def test_items_are_taken_only_a_little_ahead() -> None:
    taken: list[float] = []

    def items() -> Iterator[float]:
        for k in range(1000):
            taken.append(k)
            yield float(k)

    results = run_workers(math.sqrt, items(), workers=2)
    next(results)
    results.close()
    assert len(taken) < 20


SLEEPER = """
import os, sys, time
from curate.engine.workers import run_workers
def work(seconds):
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(seconds)
if __name__ == "__main__":
    list(run_workers(work, [60.0] * 8, workers=2))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
@pytest.mark.slow
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script, told = tmp_path / "sleeper.py", tmp_path / "told"
    script.write_text(SLEEPER)
    told.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, str(script), str(told)], env=environment)
    try:
        until(lambda: len(list(told.iterdir())) == 2)
    finally:
        parent.kill()
        parent.wait()
    numbers = [int(each.name) for each in told.iterdir()]
    until(lambda: not any(alive(number) for number in numbers))


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes true, three minutes at most: other tests may have the processor."""
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(number: int) -> bool:
    """Whether a process is still running; one that has ended and that nobody has waited for is not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False
