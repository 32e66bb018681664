"""Time and memory to find label errors among 1,000,000 labels of 100 classes, against cleanlab, on the same probabilities.

    python -m benchmarks.label_errors_scale [--rows 1000000] [--classes 100] [--repeats 5] [--only curate] [--json FILE]

Each run is a process of its own with one thread, which loads the same float32 probabilities (5% of the labels wrong) and
reports CPU seconds, peak resident memory beyond what it had with its input loaded, and the F1 of what it flags. Methods take
turns, so that a busy machine is busy for all of them; the table has medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, markdown, options, require_cleanlab, run

METHODS: Final = ("curate", "cleanlab", "cleanlab batched")


def main() -> None:
    """Run every method."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each method (default 5)")
    parser.add_argument("--only", choices=METHODS, nargs="+", default=METHODS, help="run these methods only")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # a folder: measure one method on what is in it
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(_measure(arguments.only[0], arguments.worker)))
    else:
        run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every method in turn, several times."""
    if any(method.startswith("cleanlab") for method in arguments.only):
        require_cleanlab()
    with tempfile.TemporaryDirectory() as folder:
        simulate_probabilities(arguments.rows, arguments.classes, Path(folder))
        results = [_run(method, Path(folder)) for _ in range(arguments.repeats) for method in arguments.only]
    settings = {name: getattr(arguments, name) for name in ("rows", "classes", "repeats")}
    return Report(settings, results, _table(results))


def _table(results: list[dict[str, Any]]) -> str:
    """Medians, and how many times what curate takes."""
    rows = []
    middle = {
        method: {key: median(r[key] for r in results if r["method"] == method) for key in results[0] if key != "method"}
        for method in dict.fromkeys(r["method"] for r in results)
    }
    for method, each in middle.items():
        base = middle.get("curate", each)
        times = f"{each['cpu_s'] / base['cpu_s']:.1f}", f"{each['extra_mb'] / max(base['extra_mb'], 1):.1f}"
        figures = f"{each['cpu_s']:.2f}", times[0], f"{each['extra_mb']:.0f}", times[1]
        rows.append([method, *figures, f"{each['flagged']:,.0f}", f"{each['f1']:.3f}"])
    return markdown(["method", "CPU s", "of curate", "extra memory MB", "of curate", "flagged", "F1"], rows)


def _run(method: str, folder: Path) -> dict[str, Any]:
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.label_errors_scale", "--only", method, "--worker", str(folder)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def simulate_probabilities(rows: int, classes: int, folder: Path) -> None:
    """A classifier that is right in some nine cases of ten, with confusable neighbours in the order of the classes."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, classes, rows)
    given = true.copy()
    flipped = rng.random(rows) < 0.05
    given[flipped] = (true[flipped] + rng.integers(1, 4, flipped.sum())) % classes
    probabilities = np.lib.format.open_memmap(folder / "probabilities.npy", "w+", np.float32, (rows, classes))
    for start in range(0, rows, 50_000):
        block = slice(start, min(start + 50_000, rows))
        count = block.stop - block.start
        logits = rng.normal(0, 1.2, (count, classes)).astype(np.float32)
        logits[np.arange(count), true[block]] += rng.normal(8, 2, count).astype(np.float32)
        np.exp(logits, out=logits)
        probabilities[block] = logits / logits.sum(axis=1, keepdims=True)
    probabilities.flush()
    np.savez(folder / "labels.npz", true=true, given=given)


def _measure(method: str, folder: Path) -> dict[str, Any]:
    labels = np.load(folder / "labels.npz")
    given, wrong = labels["given"], labels["given"] != labels["true"]
    probabilities = np.load(folder / "probabilities.npy")
    find = _finder(method)
    find(probabilities[:2000].copy(), given[:2000])  # imports and warm-up are not what is compared
    before, start = _peak_mb(reset=True), time.process_time()
    flagged = find(probabilities, given)
    cpu = time.process_time() - start
    f1 = 2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum())
    return {
        "method": method,
        "cpu_s": cpu,
        "extra_mb": _peak_mb() - before,
        "flagged": int(flagged.sum()),
        "f1": float(f1),
    }


def _finder(method: str) -> Any:
    if method == "curate":
        from curate.checks.mistakes.labels import label_errors_from_probabilities

        return lambda probabilities, given: label_errors_from_probabilities(probabilities, given).flagged
    if method == "cleanlab":
        from cleanlab.filter import find_label_issues

        return lambda probabilities, given: find_label_issues(given, probabilities, n_jobs=1)
    from cleanlab.experimental.label_issues_batched import find_label_issues_batched

    def batched(probabilities: npt.NDArray[np.float32], given: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        flagged = np.zeros(len(given), dtype=bool)
        flagged[find_label_issues_batched(given, probabilities, batch_size=10_000, n_jobs=1, verbose=False)] = True
        return flagged

    return batched


def _peak_mb(*, reset: bool = False) -> float:
    """Peak resident memory in MB; on Linux the peak so far can be forgotten."""
    if reset and sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    scale = 1024 if sys.platform != "darwin" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


if __name__ == "__main__":
    main()
