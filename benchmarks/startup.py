"""How long a command takes to start: `curate --help`, `--version` and `ls` beside `python -c pass`, which is the limit.

Every command is a process of its own, in turn, many times; the table has medians. `ls` lists ten datasets.

    python -m benchmarks.startup [--repeats 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.report import Report, markdown, options, run

CURATE: Final = "import sys; from curate.cli import main; sys.argv = ['curate', *sys.argv[1:]]; main()"
COMMANDS: Final = {
    "python -c pass": ["-c", "pass"],
    "curate --version": ["-c", CURATE, "--version"],
    "curate --help": ["-c", CURATE, "--help"],
    "curate ls": ["-c", CURATE, "ls"],
}
LIMIT: Final = "python -c pass"
DATASETS: Final = 10


def main() -> None:
    """Time every command."""
    parser = options(__doc__)
    parser.add_argument("--repeats", type=int, default=20, help="runs of each command (default 20)")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every command in turn."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CURATE_HOME"] = str(Path(folder) / "home")
        _make_datasets()
        runs = [(name, start(words)) for _ in range(arguments.repeats) for name, words in COMMANDS.items()]
    results: list[dict[str, Any]] = []
    for name in COMMANDS:
        own = [measured for command, measured in runs if command == name]
        results.append({"command": name, **{key: median(each[key] for each in own) for key in own[0]}})
    base = next(row for row in results if row["command"] == LIMIT)
    rows = [
        [
            row["command"],
            *(f"{1000 * each:.0f}" for each in (row["cpu_s"], row["wall_s"], row["cpu_s"] - base["cpu_s"])),
        ]
        for row in results
    ]
    columns = ["command", "CPU ms", "wall ms", "CPU ms beyond the limit"]
    return Report({"repeats": arguments.repeats, "datasets": DATASETS}, results, markdown(columns, rows))


def start(words: Sequence[str]) -> dict[str, float]:
    """Seconds of `python WORDS`, of the processor and on the clock.

    Raises:
        RuntimeError: It failed.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{list(words)} ended with status {process.returncode}")
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "wall_s": wall}


def _make_datasets() -> None:
    from curate.dataset import begin

    for number in range(DATASETS):
        with begin(f"set-{number}", command="benchmark", create=True) as transaction:
            transaction.classes[:] = [{"name": "bolt"}]


if __name__ == "__main__":
    main()
