"""How fast all pairs of similar vectors are found, and how many of them: against the whole matrix, faiss and the peers.

    python -m benchmarks.pairs_search [--size 10000 100000 1000000] [--dimensions 512] [--spectrum flat falling] [--limit 300]
        [--json FILE]

Vectors in float16: normal noise (the hardest case, as no axis says more than another), and normal noise around a common mean
with a falling spectrum (as of embeddings); a tenth are near copies of others, at cosines from 0.85 to 1. Every method has a
process of its own with one thread, and up to `--limit` seconds of the clock; recall is of all pairs of a thousand of the near
copies. The peers and faiss are those of this interpreter, or of the one that the environment variable CURATE_PEERS names.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, markdown, options, run

Vectors = npt.NDArray[np.float32]
Keys = npt.NDArray[np.int64]

THRESHOLD: Final = 0.9
MOST: Final = 16
"""Nearest of each row that curate looks for, as its command does."""

SPECTRA: Final = ("flat", "falling")
ASKED: Final = 1000
_ROWS: Final = 50_000
_LARGEST: Final = {"FiftyOne": 10_000, "cleanlab": 100_000, "whole matrix, float32": 100_000}
"""Vectors that are tried at most with what compares all with all: ten times as many take a hundred times as long."""


def main() -> None:
    """Run every size, or, in a child process, one method."""
    parser = options(__doc__)
    parser.add_argument("--size", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="vectors")
    parser.add_argument("--dimensions", type=int, default=512, help="of a vector (default 512)")
    parser.add_argument("--spectrum", nargs="+", choices=SPECTRA, default=SPECTRA, help="of the noise (default both)")
    parser.add_argument("--limit", type=int, default=300, help="seconds that a method may take (default 300)")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="default: all")
    parser.add_argument("--child", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_child(arguments.child[0], Path(arguments.child[1]))))
        return
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Processor seconds, memory and recall."""
    results: list[dict[str, Any]] = []
    notes: list[str] = []
    for size in arguments.size:
        for spectrum in arguments.spectrum:
            with tempfile.TemporaryDirectory() as folder:
                write_vectors(Path(folder) / "vectors.npy", size, arguments.dimensions, spectrum)
                asked = _asked(Path(folder) / "vectors.npy")
                for method in arguments.methods:
                    found = _measured(method, Path(folder), size, arguments.limit, notes)
                    if found is not None:
                        keys = found.pop("keys")
                        recall = None if keys is None else round(float(np.isin(asked, keys).mean()), 4)
                        results.append(
                            {"size": size, "spectrum": spectrum, "method": method, "recall": recall, **found}
                        )
    columns = ["vectors", "spectrum", "method", "pairs", "recall", "CPU s", "wall s", "MB"]
    names = ("size", "spectrum", "method", "pairs", "recall", "cpu_s", "wall_s", "mb")
    rows = [["-" if row[name] is None else row[name] for name in names] for row in results]
    return Report(
        {"threshold": THRESHOLD, "dimensions": arguments.dimensions, "exponents": _exponents(results)},
        results,
        markdown(columns, rows),
        sorted(set(notes)),
    )


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


def write_vectors(path: Path, n: int, dimensions: int, spectrum: str) -> None:
    """`make_vectors` in float16, a piece at a time; each piece has its own near copies."""
    out = np.lib.format.open_memmap(path, "w+", np.float16, (n, dimensions))
    rng = np.random.default_rng(0)
    for start in range(0, n, _ROWS):
        out[start : start + _ROWS] = make_vectors(min(_ROWS, n - start), dimensions, spectrum, rng)
    out.flush()


def _asked(path: Path) -> Keys:
    """Keys of all pairs that a thousand near copies are in, by the whole product."""
    vectors = np.load(path, mmap_mode="r")
    n = len(vectors)
    copies = np.concatenate([np.arange(s, s + min(_ROWS, n - s) // 10) for s in range(0, n, _ROWS)])
    rows = np.random.default_rng(1).choice(copies, min(ASKED, len(copies)), replace=False)
    wanted, found = _unit(vectors[rows]), [np.zeros(0, np.int64)]
    for start in range(0, n, _ROWS):
        a, b = np.nonzero(wanted @ _unit(vectors[start : start + _ROWS]).T >= THRESHOLD)
        found.append(_keys(rows[a], b + start, n))
    return np.unique(np.concatenate(found))


def _unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    exact = vectors.astype(np.float32)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True))


def _keys(first: npt.NDArray[np.integer], second: npt.NDArray[np.integer], n: int) -> Keys:
    """Numbers of pairs, those of a row with itself left out."""
    first, second = first.astype(np.int64), second.astype(np.int64)
    apart = first != second
    return np.asarray((np.minimum(first, second) * n + np.maximum(first, second))[apart], dtype=np.int64)


# ---- methods, each in a process of its own


def _curate(vectors: npt.NDArray[np.float16]) -> Keys:
    from curate.checks.duplicates.search import pairs_above

    first, second, _ = pairs_above(vectors, THRESHOLD, most=MOST)
    return _keys(first, second, len(vectors))


def _whole_matrix(vectors: npt.NDArray[np.float16], block: int = 1024) -> Keys:
    unit, keys = _unit(vectors), []
    for top in range(0, len(unit), block):
        for left in range(top, len(unit), block):
            near = np.flatnonzero(unit[top : top + block] @ unit[left : left + block].T >= THRESHOLD)
            width = len(unit[left : left + block])
            keys.append(_keys(near // width + top, near % width + left, len(unit)))
    return np.unique(np.concatenate(keys))


def _faiss(vectors: npt.NDArray[np.float16]) -> Keys:
    """An inverted file with scalars of 8 bits, and exact rescoring."""
    faiss = import_module("faiss")
    faiss.omp_set_num_threads(1)
    unit = _unit(vectors)
    lists = max(16, int(4 * np.sqrt(len(unit))))
    index = faiss.index_factory(unit.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(unit[:: max(1, len(unit) // (40 * lists))])
    index.add(unit)
    index.nprobe = 16
    limits, _, near = index.range_search(unit, THRESHOLD - 0.01)
    rows = np.repeat(np.arange(len(unit)), np.diff(limits.astype(np.int64)))
    cosine = np.einsum("ij,ij->i", unit[rows], unit[near])
    return np.unique(_keys(rows, near, len(unit))[cosine[rows != near] >= THRESHOLD])


def _cleanlab(vectors: npt.NDArray[np.float16]) -> Keys:
    """As its near-duplicate issues do: the graph of the ten nearest, and what in it is close."""
    graph_of = import_module("cleanlab.internal.neighbor.knn_graph").create_knn_graph_and_index
    graph = graph_of(vectors.astype(np.float32), metric="cosine", correct_exact_duplicates=False)[0].tocoo()
    near = graph.data <= 1 - THRESHOLD
    return np.unique(_keys(graph.row[near], graph.col[near], len(vectors)))


def _fiftyone(vectors: npt.NDArray[np.float16]) -> Keys:
    fiftyone, brain = import_module("fiftyone"), import_module("fiftyone.brain")
    dataset = fiftyone.Dataset()
    dataset.add_samples([fiftyone.Sample(f"/nowhere/{row}.jpg") for row in range(len(vectors))], progress=False)
    place = {sample: row for row, sample in enumerate(dataset.values("id"))}
    given = {"threshold": 1 - THRESHOLD, "embeddings": vectors.astype(np.float32)}
    found = brain.compute_near_duplicates(dataset, **given).neighbors_map
    pairs = [(place[kept], place[other]) for kept, others in found.items() for other, _ in others]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return _keys(first, second, len(vectors))


METHODS: Final[Mapping[str, tuple[str, Callable[[npt.NDArray[np.float16]], Keys]]]] = {
    "curate": ("curate", _curate),
    "whole matrix, float32": ("numpy", _whole_matrix),
    "faiss IVF, SQ8": ("faiss", _faiss),
    "cleanlab": ("cleanlab", _cleanlab),
    "FiftyOne": ("fiftyone", _fiftyone),
}
"""By name: the package that is needed, and the work."""


def _child(method: str, folder: Path) -> dict[str, Any]:
    """Do a method's work in this process, and leave its pairs in a file."""
    package, work = METHODS[method]
    import_module(package)
    few = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float16)
    if method != "faiss IVF, SQ8":  # which wants more to train on
        work(few)
    vectors = np.load(folder / "vectors.npy")
    processor, clock = time.process_time(), time.perf_counter()
    keys = work(vectors)
    spent = {"cpu_s": round(time.process_time() - processor, 2), "wall_s": round(time.perf_counter() - clock, 2)}
    np.save(folder / "keys.npy", keys)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pairs": len(keys), **spent, "mb": round(peak)}


def _measured(method: str, folder: Path, size: int, limit: int, notes: list[str]) -> dict[str, Any] | None:
    """What a child process says, with the keys; None and a note where it cannot or does not end."""
    if size > _LARGEST.get(method, size):
        notes.append(f"{method} is not tried with more than {_LARGEST[method]:,} vectors")
        return None
    interpreter = _interpreter(METHODS[method][0])
    if interpreter is None:
        notes.append(f"{method} is left out: it is not installed")
        return None
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [interpreter, "-m", "benchmarks.pairs_search", "--child", method, str(folder)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=limit, env={**os.environ, **threads})
    except subprocess.TimeoutExpired:
        notes.append(f"{method} takes more than {limit} seconds for {size:,} vectors")
        return None
    if made.returncode:
        notes.append(f"{method} failed with {size:,} vectors: {made.stderr.strip().splitlines()[-1]}")
        return None
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    # FiftyOne keeps one image of each group, and names the pairs with it alone.
    return {**found, "keys": None if method == "FiftyOne" else np.load(folder / "keys.npy")}


def _interpreter(package: str) -> str | None:
    """One that has a package: this one, or that of the peers."""
    for python in (sys.executable, os.environ.get("CURATE_PEERS")):
        if python and not subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode:
            return python
    return None


def _exponents(results: list[dict[str, Any]]) -> dict[str, list[float]]:
    """By method and spectrum: the slope of log processor seconds over log vectors, from each size to the next."""
    slopes: dict[str, list[float]] = {}
    for method, spectrum in dict.fromkeys((row["method"], row["spectrum"]) for row in results):
        rows = [row for row in results if (row["method"], row["spectrum"]) == (method, spectrum)]
        slopes[f"{method}, {spectrum}"] = [
            round(math.log(max(b["cpu_s"], 0.01) / max(a["cpu_s"], 0.01)) / math.log(b["size"] / a["size"]), 2)
            for a, b in pairwise(rows)
        ]
    return slopes


if __name__ == "__main__":
    main()
