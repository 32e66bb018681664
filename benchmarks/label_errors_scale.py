"""Time and memory to find label errors among 1,000,000 labels of 100 classes, against cleanlab, on the same probabilities.

    python benchmarks/label_errors_scale.py [--rows 1000000] [--classes 100] [--json scale.json]

Each method runs in a process of its own, one thread, that loads the same float32 probabilities (5% of the labels wrong) and
reports CPU seconds, peak resident memory beyond what it had with its input loaded, and the F1 of what it flags.
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
from typing import Any

import numpy as np
import numpy.typing as npt

METHODS = ("curate", "cleanlab", "cleanlab batched")


def main() -> None:
    """Run every method and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_measure(arguments.only, arguments.data)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _simulate(arguments.rows, arguments.classes, Path(folder))
        results = [_run(method, Path(folder)) for method in METHODS]
    print("| method | CPU s | extra memory MB | flagged | F1 |\n|---|---:|---:|---:|---:|")
    for r in results:
        print(f"| {r['method']} | {r['cpu_s']:.2f} | {r['extra_mb']:.0f} | {r['flagged']:,} | {r['f1']:.3f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def _run(method: str, folder: Path) -> dict[str, Any]:
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--only", method, "--data", str(folder)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _simulate(rows: int, classes: int, folder: Path) -> None:
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
