"""How well label errors are found, against cleanlab and argmax on the same out-of-fold probabilities.

    python benchmarks/label_errors.py [--bccd PATH] [--seeds 3] [--json label_errors.json] [--markdown label_errors.md]

Sets: scikit-learn digits (raw pixels; class-dependent, human-like and no noise), overlapping Gaussians, and, where its folder
is given, the boxes of BCCD (simple crop features and box sizes, 5% of the classes swapped). All methods judge the same
probabilities; ours alone turns them into P(wrong). AP and AUROC rank; F1 is that of the flagged set (for clean sets the
share of labels flagged); ECE says whether the score is a probability.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import parse

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from curate.checks.mistakes import labels as checks
from curate.imaging import crop, load_pixels, resize

Array = npt.NDArray[Any]


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
    """Run every case and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bccd", type=Path, help="folder of the BCCD dataset (Annotations, JPEGImages)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    rows = [
        row for seed in range(arguments.seeds) for case in _cases(seed, arguments.bccd) for row in _compare(case, seed)
    ]
    table = _table(rows)
    print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    if arguments.markdown:
        arguments.markdown.write_text(table + "\n")


def _cases(seed: int, bccd: Path | None) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    digits = load_digits()
    vectors, true = digits.data.astype(np.float32), digits.target
    for rate in (0.0, 0.02, 0.05, 0.1, 0.2):
        given = _class_dependent(true, 10, rate, rng)
        yield Case(f"digits, {rate:.0%} by class" if rate else "digits, clean", vectors, given, true)
    yield Case("digits, 9% human-like", vectors, _human_like(vectors, true, 0.09, rng), true)
    for distance, rate in ((1.0, 0.05), (0.5, 0.1), (0.5, 0.0)):
        centres = rng.normal(0, distance, (6, 20))
        true = rng.integers(0, 6, 3000)
        points = (centres[true] + rng.normal(size=(3000, 20))).astype(np.float32)
        yield Case(f"Gaussians {distance} apart, {rate:.0%}", points, _class_dependent(true, 6, rate, rng), true)
    if bccd is not None:
        yield _bccd(bccd, 0.05, rng)


def _class_dependent(true: Array, classes: int, rate: float, rng: np.random.Generator) -> Array:
    """Every class has its own rate and prefers a few other classes."""
    rates = rate * rng.uniform(0.3, 1.7, classes)
    targets = rng.dirichlet(np.full(classes - 1, 0.3), classes)
    given = true.copy()
    for k in range(classes):
        flipped = np.flatnonzero((true == k) & (rng.random(len(true)) < rates[k]))
        given[flipped] = rng.choice(np.delete(np.arange(classes), k), len(flipped), p=targets[k])
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


def _bccd(folder: Path, rate: float, rng: np.random.Generator) -> Case:
    classes = {"RBC": 0, "WBC": 1, "Platelets": 2}
    vectors, true, groups, extra = [], [], [], []
    for number, path in enumerate(sorted((folder / "Annotations").glob("*.xml"))):
        pixels = load_pixels(folder / "JPEGImages" / f"{path.stem}.jpg")
        height, width = pixels.shape[:2]
        for element in parse(path).iter("object"):
            corners = [float(element.findtext(f"bndbox/{key}", "0")) for key in ("xmin", "ymin", "xmax", "ymax")]
            w, h = corners[2] - corners[0], corners[3] - corners[1]
            if min(w, h) <= 0:
                continue
            vectors.append(_crop_features(crop(pixels, [corners[0], corners[1], w, h], margin=0.1)))
            true.append(classes[element.findtext("name", "")])
            groups.append(number)
            extra.append([np.log(w), np.log(h), np.log(w / h), np.log(w * h / (width * height))])
    truth = np.array(true)
    given = truth.copy()
    flipped = rng.choice(len(truth), round(rate * len(truth)), replace=False)
    given[flipped] = (truth[flipped] + rng.integers(1, 3, len(flipped))) % 3
    columns = np.array(extra, dtype=np.float32)
    return Case("BCCD crops, 5% swapped", np.stack(vectors), given, truth, np.array(groups), columns)


def _crop_features(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Gradients in cells, a small thumbnail and a color histogram."""
    small = resize(pixels, (32, 32)).astype(np.float32) / 255
    dy, dx = np.gradient(small.mean(axis=2))
    bins = (np.mod(np.arctan2(dy, dx), np.pi) / np.pi * 8).astype(int) % 8
    cell = (np.arange(32)[:, None] // 8) * 4 + np.arange(32) // 8
    gradients = np.bincount((cell * 8 + bins).ravel(), weights=np.hypot(dx, dy).ravel(), minlength=128)
    histogram = np.concatenate([np.histogram(small[..., c], 16, (0, 1))[0] for c in range(3)])
    thumbnail = small.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).ravel()
    parts = (np.sqrt(gradients), np.sqrt(histogram), thumbnail)
    return np.concatenate([part / (np.linalg.norm(part) + 1e-9) for part in parts]).astype(np.float32)


def _compare(case: Case, seed: int) -> list[dict[str, Any]]:
    """Judge one case by every method; the probabilities are those our probe makes."""
    seen: list[Array] = []
    judge_all = checks._judge_all

    def remember(source: Callable[[Array], Array], labels: Array, classes: int, seed: int) -> checks.LabelErrors:
        seen.append(source(np.arange(len(labels))))
        return judge_all(source, labels, classes, seed)

    checks._judge_all = remember  # what cleanlab gets is exactly what our noise model got
    try:
        classes = int(case.true.max()) + 1
        ours = checks.find_label_errors(
            case.vectors, case.given, classes, groups=case.groups, extra=case.extra, seed=seed
        )
    finally:
        checks._judge_all = judge_all
    probabilities = seen[0]
    wrong = case.given != case.true
    self_confidence = 1 - probabilities[np.arange(len(wrong)), case.given]
    rows = [
        _measures(case, seed, "curate", ours.p_wrong, ours.flagged, wrong),
        _measures(case, seed, "argmax", self_confidence, probabilities.argmax(axis=1) != case.given, wrong),
    ]
    return rows + [_measures(case, seed, *result, wrong) for result in _cleanlab(probabilities, case.given)]


def _cleanlab(probabilities: Array, given: Array) -> Iterator[tuple[str, Array, Array]]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    ranking = {
        m: 1 - get_label_quality_scores(given, probabilities, method=m)
        for m in ("self_confidence", "normalized_margin")
    }
    for method in ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flagged = find_label_issues(given, probabilities, filter_by=method, n_jobs=1)
        score = ranking["normalized_margin" if method == "both" else "self_confidence"]
        yield f"cleanlab {method}", score, flagged


def _measures(case: Case, seed: int, method: str, score: Array, flagged: Array, wrong: Array) -> dict[str, Any]:
    some = bool(wrong.any())
    return {
        "case": case.name,
        "seed": seed,
        "method": method,
        "ap": float(average_precision_score(wrong, score)) if some else None,
        "auroc": float(roc_auc_score(wrong, score)) if some else None,
        "f1": float(2 * (flagged & wrong).sum() / max(1, flagged.sum() + wrong.sum())) if some else None,
        "flagged": float(flagged.mean()),
        "wrong": float(wrong.mean()),
        "ece": expected_calibration_error(score, wrong),
    }


def expected_calibration_error(p: Array, wrong: Array, bins: int = 15) -> float:
    """Mean distance between probability and frequency over bins of equal width (Naeini et al. 2015)."""
    bucket = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(bucket, minlength=bins)
    gaps = np.bincount(bucket, weights=p, minlength=bins) - np.bincount(bucket, weights=wrong, minlength=bins)
    return float(np.abs(gaps)[counts > 0].sum() / len(p))


def _table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds; of cleanlab's filters the best in each column."""
    lines = [
        "| set | AP curate / argmax / cleanlab | AUROC | F1 flagged | ECE | flagged (wrong) |",
        "|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row["case"] for row in rows):
        cells = [case]
        for key, best in (("ap", max), ("auroc", max), ("f1", max), ("ece", min)):
            cells.append(
                " / ".join(_cell(rows, case, method, key, best) for method in ("curate", "argmax", "cleanlab"))
            )
        shares = [_cell(rows, case, method, "flagged", min) for method in ("curate", "argmax", "cleanlab")]
        wrong = np.mean([row["wrong"] for row in rows if row["case"] == case])
        lines.append("| " + " | ".join(cells) + f" | {' / '.join(shares)} ({wrong:.3f}) |")
    return "\n".join(lines)


def _cell(rows: list[dict[str, Any]], case: str, method: str, key: str, best: Callable[[list[float]], float]) -> str:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["case"] == case and row["method"].startswith(method) and row[key] is not None:
            found.setdefault(row["method"], []).append(row[key])
    return f"{best([float(np.mean(values)) for values in found.values()]):.3f}" if found else "-"


if __name__ == "__main__":
    main()
