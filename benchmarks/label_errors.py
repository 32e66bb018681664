"""How well wrong labels are found, against cleanlab and plain argmax on the same out-of-fold probabilities.

    python -m benchmarks.label_errors [--data FOLDER] [--seeds 3] [--images 300] [--json FILE]

Sets: the parts of `parts_v3` and the cells of BCCD (crops embedded by the built-in encoder, with the sizes of their boxes and
folds that keep an image or burst together, as `curate mistakes` does it), scikit-learn's digits (raw pixels) and overlapping
Gaussians. Labels are made wrong by class: every class has a rate of its own, and is taken for the classes that look like it
by a fixed matrix. Beside that there are digits with errors where a weak observer errs, BCCD with 5% of its classes swapped at
random, and sets with no error at all.

All methods judge the same matrix of probabilities. AP and AUROC are about the ranking, F1 about the flagged set; ECE (15 bins)
says whether the score is a probability. Of cleanlab's four filters and two rankings the table has the best in each column.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from benchmarks.report import Report, markdown, options, real_set, require_cleanlab, run
from benchmarks.sets import Crops, embed_crops, read_voc, render_parts
from curate.checks.mistakes.labels import NEIGHBORS, label_errors_from_probabilities, out_of_fold_probe
from curate.checks.neighbors import nearest_neighbors
from curate.demo.faults import CONFUSIONS

Array = npt.NDArray[Any]
Confusions = Mapping[str, Mapping[str, float]]

PARTS: Final[Confusions] = {**CONFUSIONS, "scratch": {"dent": 1.0}, "dent": {"scratch": 1.0}}
CELLS: Final[Confusions] = {
    "RBC": {"WBC": 0.5, "Platelets": 0.5},
    "WBC": {"RBC": 0.8, "Platelets": 0.2},
    "Platelets": {"RBC": 0.8, "WBC": 0.2},
}
DIGITS: Final[Confusions] = {
    "0": {"6": 0.6, "8": 0.4},
    "1": {"7": 0.7, "4": 0.3},
    "2": {"7": 0.5, "3": 0.3, "1": 0.2},
    "3": {"8": 0.5, "5": 0.3, "9": 0.2},
    "4": {"9": 0.8, "1": 0.2},
    "5": {"3": 0.4, "6": 0.4, "9": 0.2},
    "6": {"0": 0.5, "5": 0.3, "8": 0.2},
    "7": {"1": 0.6, "2": 0.2, "9": 0.2},
    "8": {"3": 0.5, "9": 0.3, "1": 0.2},
    "9": {"4": 0.6, "7": 0.2, "8": 0.2},
}
"""What each class is taken for, and how often; rows sum to 1."""

BINS: Final = 15
FILTERS: Final = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning")
RANKINGS: Final = ("self_confidence", "normalized_margin")


@dataclass(frozen=True)
class Case:
    """A set with known errors: vectors (n, d), given and true labels (n,), groups (n,) and extra columns (n, e)."""

    name: str
    vectors: Array
    given: Array
    true: Array
    groups: Array | None = None
    extra: Array | None = None


def main() -> None:
    """Run every case."""
    parser = options(__doc__, data=True, seeds=3)
    parser.add_argument("--images", type=int, default=300, help="size of parts_v3 (default 300)")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every case and seed, by every method."""
    require_cleanlab()
    notes: list[str] = []
    bccd = real_set(arguments.data, "bccd", notes)
    cells = None if bccd is None else embed_crops(read_voc(bccd))
    results = []
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        with tempfile.TemporaryDirectory() as folder:
            parts = embed_crops(render_parts(Path(folder), images=arguments.images, seed=seed))
        for case in (*_parts(parts, rng), *_digits(rng), *(_bccd(cells, rng) if cells else ()), *_gaussians(rng)):
            results += _compare(case, seed)
    settings = {"seeds": arguments.seeds, "images of parts_v3": arguments.images}
    return Report(settings, results, _table(results), notes)


def _parts(crops: Crops, rng: np.random.Generator) -> Iterator[Case]:
    matrix = _matrix(PARTS, crops.classes)
    for rate in (0.0, 0.05, 0.1):
        given = mislabel(crops.labels, matrix, rate, rng)
        yield Case(_named("parts_v3", rate), crops.vectors, given, crops.labels, crops.groups, crops.shape)


def _bccd(crops: Crops, rng: np.random.Generator) -> Iterator[Case]:
    true, classes = crops.labels, len(crops.classes)
    swapped = true.copy()
    flipped = rng.choice(len(true), round(0.05 * len(true)), replace=False)
    swapped[flipped] = (true[flipped] + rng.integers(1, classes, len(flipped))) % classes
    by_class = mislabel(true, _matrix(CELLS, crops.classes), 0.05, rng)
    for name, given in (("BCCD, 5% swapped", swapped), (_named("BCCD", 0.05), by_class)):
        yield Case(name, crops.vectors, given, true, crops.groups, crops.shape)


def _digits(rng: np.random.Generator) -> Iterator[Case]:
    digits = load_digits()
    vectors, true = digits.data.astype(np.float32), digits.target
    matrix = _matrix(DIGITS, list(DIGITS))
    for rate in (0.0, 0.02, 0.05, 0.1, 0.2):
        yield Case(_named("digits", rate), vectors, mislabel(true, matrix, rate, rng), true)
    yield Case("digits, 9% human-like", vectors, _human_like(vectors, true, 0.09, rng), true)


def _gaussians(rng: np.random.Generator) -> Iterator[Case]:
    """Six classes in 20 dimensions, each taken for those that are near."""
    for spread, rate in ((1.0, 0.05), (0.5, 0.1), (0.5, 0.0)):
        centres = rng.normal(0, spread, (6, 20))
        true = rng.integers(0, 6, 3000)
        points = (centres[true] + rng.normal(size=(3000, 20))).astype(np.float32)
        nearness = np.exp(-np.linalg.norm(centres[:, None] - centres, axis=2))
        np.fill_diagonal(nearness, 0)
        matrix = nearness / nearness.sum(axis=1, keepdims=True)
        yield Case(_named(f"Gaussians {spread} apart", rate), points, mislabel(true, matrix, rate, rng), true)


def _named(name: str, rate: float) -> str:
    return f"{name}, {rate:.0%} by class" if rate else f"{name}, clean"


def _matrix(confusions: Confusions, classes: list[str]) -> Array:
    """Rows [true] of shape (K, K), for the classes that occur."""
    matrix = np.array([[confusions[true].get(given, 0.0) for given in classes] for true in classes])
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def mislabel(true: Array, confusions: Array, rate: float, rng: np.random.Generator) -> Array:
    """Labels with class-dependent errors.

    Args:
        true: Integers in [0, K), shape (n,).
        confusions: Where the errors of a class go, shape (K, K), rows [true] sum to 1, diagonal 0.
        rate: Mean over the classes; the first has half of it, the last one and a half times.
        rng: Chooses.
    """
    classes = len(confusions)
    rates = rate * np.linspace(0.5, 1.5, classes)
    wrong = rng.random(len(true)) < rates[true]
    wrong[np.unique(true, return_index=True)[1]] = False  # no class disappears
    given = true.copy()
    for k in range(classes):
        rows = np.flatnonzero(wrong & (true == k))
        given[rows] = rng.choice(classes, len(rows), p=confusions[k])
    return given


def _human_like(vectors: Array, true: Array, rate: float, rng: np.random.Generator) -> Array:
    """An annotator who sees the digits blurred and noisy, and errs where that is ambiguous."""
    blurred = vectors.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16) / 16
    blurred = blurred + rng.normal(0, 0.15, blurred.shape)
    seen = cross_val_predict(LogisticRegression(max_iter=500), blurred, true, cv=3, method="predict_proba")
    rows = np.arange(len(true))
    doubt = 1 - seen[rows, true]
    flipped = np.flatnonzero(rng.random(len(true)) < np.minimum(rate * doubt / doubt.mean(), 0.9))
    seen[rows, true] = 0
    given = true.copy()
    for row in flipped:
        given[row] = rng.choice(10, p=seen[row] / seen[row].sum())
    return given


def _compare(case: Case, seed: int) -> list[dict[str, Any]]:
    """Judge one case by every method."""
    n, classes = len(case.true), int(case.true.max()) + 1
    neighbors = nearest_neighbors(case.vectors, NEIGHBORS, groups=case.groups)
    probe = out_of_fold_probe(
        case.vectors, case.given, classes, neighbors, groups=case.groups, extra=case.extra, seed=seed
    )
    probabilities = probe.probabilities(np.arange(n))
    ours = label_errors_from_probabilities(probabilities, case.given, seed=seed)
    doubt = 1 - probabilities[np.arange(n), case.given]
    return [
        _measures(case, seed, "curate", ours.p_wrong, ours.flagged),
        _measures(case, seed, "argmax", doubt, probabilities.argmax(axis=1) != case.given),
        *(_measures(case, seed, *result) for result in _cleanlab(probabilities, case.given)),
    ]


def _cleanlab(probabilities: Array, given: Array) -> Iterator[tuple[str, Array, Array]]:
    """Name, score and flagged labels of every filter with every ranking."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    scores = {name: 1 - get_label_quality_scores(given, probabilities, method=name) for name in RANKINGS}
    for filter_by in FILTERS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flagged = find_label_issues(given, probabilities, filter_by=filter_by, n_jobs=1)
        for ranking, score in scores.items():
            yield f"cleanlab {filter_by}, {ranking}", score, flagged


def _measures(case: Case, seed: int, method: str, score: Array, flagged: Array) -> dict[str, Any]:
    wrong = case.given != case.true
    some = bool(wrong.any())
    return {
        "case": case.name,
        "seed": seed,
        "method": method,
        "labels": len(wrong),
        "ap": float(average_precision_score(wrong, score)) if some else None,
        "auroc": float(roc_auc_score(wrong, score)) if some else None,
        "f1": float(2 * (flagged & wrong).sum() / max(1, flagged.sum() + wrong.sum())) if some else None,
        "flagged": float(flagged.mean()),
        "wrong": float(wrong.mean()),
        "ece": expected_calibration_error(score, wrong),
    }


def expected_calibration_error(p: Array, wrong: Array) -> float:
    """Mean distance between probability and frequency over bins of equal width (Naeini et al. 2015)."""
    bucket = np.minimum((p * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bucket, weights=p - wrong)).sum() / len(p))


def _table(results: list[dict[str, Any]]) -> str:
    """Means over seeds; of cleanlab's the best in each column."""
    columns = ["set", "labels", "AP curate / argmax / cleanlab", "AUROC", "F1 flagged", "ECE", "flagged", "wrong"]
    rows = []
    for case in dict.fromkeys(row["case"] for row in results):
        mine = [row for row in results if row["case"] == case]
        best = {"ap": max, "auroc": max, "f1": max, "ece": min, "flagged": min}
        cells = [
            " / ".join(_cell(mine, method, key, choose) for method in ("curate", "argmax", "cleanlab"))
            for key, choose in best.items()
        ]
        rows.append([case, mine[0]["labels"], *cells, f"{np.mean([row['wrong'] for row in mine]):.3f}"])
    return markdown(columns, rows)


def _cell(rows: list[dict[str, Any]], method: str, key: str, choose: Callable[[list[float]], float]) -> str:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["method"].startswith(method) and row[key] is not None:
            found.setdefault(row["method"], []).append(row[key])
    return f"{choose([float(np.mean(values)) for values in found.values()]):.3f}" if found else "-"


if __name__ == "__main__":
    main()
