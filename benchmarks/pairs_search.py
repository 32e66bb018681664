"""How fast all pairs of similar vectors are found, and whether all are: against the whole matrix, and faiss where installed.

    python -m benchmarks.pairs_search [--size 50000 200000] [--dimensions 256] [--json FILE]

Vectors: normal noise (the hardest case for a bound, as no axis says more than another), normal noise around a common mean
and with a falling spectrum (as of embeddings); a tenth are near copies of others, at cosines from 0.85 to 1.
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, markdown, options, run
from curate.checks.duplicates.search import pairs_above

Vectors = npt.NDArray[np.float32]

THRESHOLD: Final = 0.9


def main() -> None:
    """Run every size."""
    parser = options(__doc__)
    parser.add_argument("--size", type=int, nargs="+", default=[50_000, 200_000], help="vectors")
    parser.add_argument("--dimensions", type=int, default=256, help="of a vector (default 256)")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """CPU seconds and recall, one thread."""
    from threadpoolctl import threadpool_limits

    results = []
    notes: list[str] = []
    with threadpool_limits(1):
        for size in arguments.size:
            for spectrum in ("flat", "falling"):
                vectors = make_vectors(size, arguments.dimensions, spectrum, np.random.default_rng(0))
                results += _compare(vectors, spectrum, notes)
    columns = ["vectors", "spectrum", "method", "pairs", "recall", "CPU s"]
    rows = [[row[name] for name in ("size", "spectrum", "method", "pairs", "recall", "cpu_s")] for row in results]
    return Report({"threshold": THRESHOLD}, results, markdown(columns, rows), sorted(set(notes)))


def make_vectors(n: int, dimensions: int, spectrum: str, rng: np.random.Generator) -> Vectors:
    """Unit vectors of shape (n, dimensions), a tenth of them near copies of others."""
    vectors = rng.standard_normal((n, dimensions), dtype=np.float32)
    if spectrum == "falling":
        vectors *= np.arange(1, dimensions + 1, dtype=np.float32) ** -0.5
        vectors[:, 0] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    copies = n // 10
    noise = rng.standard_normal((copies, dimensions), dtype=np.float32) / np.float32(np.sqrt(dimensions))
    vectors[:copies] = vectors[copies : 2 * copies] + noise * rng.uniform(0, 0.6, (copies, 1)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _compare(vectors: Vectors, spectrum: str, notes: list[str]) -> list[dict[str, Any]]:
    started = time.process_time()
    exact = _brute_force(vectors)
    found = {"whole matrix, float32": (exact, time.process_time() - started)}
    started = time.process_time()
    first, second, _ = pairs_above(vectors, THRESHOLD)
    found["curate"] = (first * len(vectors) + second, time.process_time() - started)
    try:
        faiss = import_module("faiss")
    except ImportError:
        notes.append("faiss is left out: it is not installed")
    else:
        started = time.process_time()
        found["faiss IVF, SQ8"] = (_faiss(faiss, vectors), time.process_time() - started)
    return [
        {
            "size": len(vectors),
            "spectrum": spectrum,
            "method": method,
            "pairs": len(keys),
            "recall": round(float(np.isin(exact, keys).mean()), 6),
            "cpu_s": round(seconds, 2),
        }
        for method, (keys, seconds) in found.items()
    ]


def _brute_force(vectors: Vectors, block: int = 1024) -> npt.NDArray[np.int64]:
    keys = []
    for top in range(0, len(vectors), block):
        for left in range(top, len(vectors), block):
            near = np.flatnonzero(vectors[top : top + block] @ vectors[left : left + block].T >= THRESHOLD)
            width = len(vectors[left : left + block])
            a, b = near // width + top, near % width + left
            keys.append((a * len(vectors) + b)[a < b])
    found = np.concatenate(keys)
    a, b = vectors[found // len(vectors)].astype(np.float64), vectors[found % len(vectors)].astype(np.float64)
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return np.asarray(found[cosine >= THRESHOLD], dtype=np.int64)


def _faiss(faiss: Any, vectors: Vectors) -> npt.NDArray[np.int64]:
    faiss.omp_set_num_threads(1)
    lists = max(16, int(4 * np.sqrt(len(vectors))))
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:: max(1, len(vectors) // (40 * lists))])
    index.add(vectors)
    index.nprobe = 16
    limits, _, near = index.range_search(vectors, THRESHOLD - 0.01)
    rows = np.repeat(np.arange(len(vectors)), np.diff(limits.astype(np.int64)))
    keep = rows < near
    rows, near = rows[keep], near[keep]
    cosine = (vectors[rows].astype(np.float64) * vectors[near]).sum(axis=1)
    return np.asarray((rows * len(vectors) + near)[cosine >= THRESHOLD], dtype=np.int64)


if __name__ == "__main__":
    main()
