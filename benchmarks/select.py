"""What to label next: accuracy at 1, 2, 5, 10 and 20% of the labels, by strategy.

    python -m benchmarks.select --data FOLDER [--seeds 5] [--images 300] [--only NAME ...] [--json FILE]

Sets: scikit-learn's digits (8x8, drawn larger), and crops of blood cells (BCCD) and of rendered parts (`parts_v3`). Nothing is
fine-tuned: accuracy is that of logistic regression on frozen vectors of the built-in encoder. A quarter of each set (whole
images, for crops) is held out by each seed; the rest is the pool, whose labels are known to the benchmark and told when asked.

Every strategy is asked five times, for as many as are missing to the next budget, and sees the labels so far: the classifier
that it doubts with is the one that `curate select` uses. At 1% no strategy has any label to go by; those that need one draw at
random then, the same rows as `random`. Copies are not looked for. The table has means over seeds and their standard errors;
the mark is on `mix` where another has a higher mean.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from benchmarks.report import Report, markdown, options, real_set, run
from benchmarks.sets import Crops, embed_crops, read_voc, render_parts
from curate.loop.classifier import Targets
from curate.loop.doubt import classifier_disagreement, classifier_doubt
from curate.loop.strategies.registry import MIX, STRATEGIES, Strategy, Task
from curate.loop.vectors import Axes
from curate.models.encoders.registry import load_encoder

IntArray = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

BUDGETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2)
COMPARED: Final = ("random", "entropy", "k-center", "typicality", "margin")
RIVALS: Final = ("random", "entropy", "k-center", "typicality")
"""Those that `mix` is to be at or above; margin is what it doubts by."""

_HELD_OUT: Final = 4
_SIDE: Final = 96


@dataclass(frozen=True)
class Case:
    """A set: vectors (n, d), labels in [0, K) and groups that are held out together, (n,) each."""

    name: str
    vectors: Vectors
    labels: IntArray
    groups: IntArray


def main() -> None:
    """Run every case."""
    parser = options(__doc__, data=True, seeds=5)
    parser.add_argument("--images", type=int, default=300, help="size of parts_v3 (default 300)")
    parser.add_argument("--only", nargs="+", choices=[MIX, *COMPARED], default=[MIX, *COMPARED], metavar="NAME")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every case, seed and strategy."""
    notes: list[str] = []
    results = []
    for case in _cases(arguments.data, arguments.images, notes):
        for seed in range(arguments.seeds):
            for name in arguments.only:
                results += [
                    {"case": case.name, "labels": len(case.labels), "seed": seed, "strategy": name, **row}
                    for row in play(case, STRATEGIES[name], seed)
                ]
    notes += _lost(results)
    return Report({"seeds": arguments.seeds, "images of parts_v3": arguments.images}, results, _table(results), notes)


def play(case: Case, strategy: Strategy, seed: int) -> Iterator[dict[str, Any]]:
    """Label a pool up to each budget, and measure on what is held out."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.unique(case.groups))
    held_out = np.isin(case.groups, groups[: len(groups) // _HELD_OUT])
    axes = Axes.of(case.vectors[~held_out])
    vectors, labels = axes(case.vectors[~held_out]), case.labels[~held_out]
    labelled = np.zeros(0, np.int64)
    for budget in BUDGETS:
        missing = round(budget * len(labels)) - len(labelled)
        left = np.setdiff1d(np.arange(len(labels)), labelled)
        chosen = _ask(strategy, vectors, left, labelled, labels, missing, seed)
        labelled = np.concatenate([labelled, chosen])
        found = _accuracy(vectors, labels, labelled, axes(case.vectors[held_out]), case.labels[held_out])
        yield {"budget": budget, "labelled": len(labelled), "accuracy": found}


def _ask(
    strategy: Strategy, vectors: Vectors, left: IntArray, labelled: IntArray, labels: IntArray, count: int, seed: int
) -> IntArray:
    """What a strategy chooses; at random where it needs labels and there are none to learn from."""
    there = np.zeros((len(labelled), int(labels.max()) + 1), dtype=bool)
    there[np.arange(len(labelled)), labels[labelled]] = True
    targets = Targets(labelled, there, several=False)
    names = [str(k) for k in range(there.shape[1])]
    score = None
    if targets.enough:
        match strategy.evidence:
            case "disagreement":
                score = classifier_disagreement(vectors, targets, names, seed=seed).values
            case "uncertainty" | "margin" | "entropy" as measure:
                score = classifier_doubt(vectors, targets, names, measure, seed=seed).values
    needs_score = strategy.why is None
    chooser = STRATEGIES["random"] if needs_score and score is None else strategy
    return chooser.choose(Task(vectors, left, labelled, score, seed), count).rows


def _accuracy(vectors: Vectors, labels: IntArray, rows: IntArray, others: Vectors, true: IntArray) -> float:
    """Of logistic regression fitted to the labelled rows, on the others."""
    if len(np.unique(labels[rows])) < 2:
        return float((true == labels[rows[0]]).mean())
    model = LogisticRegression(C=100, max_iter=1000).fit(vectors[rows], labels[rows])
    return float((model.predict(others) == true).mean())


def _cases(data: Path | None, images: int, notes: list[str]) -> Iterator[Case]:
    yield _digits()
    bccd = real_set(data, "bccd", notes)
    if bccd is not None:
        yield _crops("BCCD crops", embed_crops(read_voc(bccd)))
    with tempfile.TemporaryDirectory() as folder:
        parts = embed_crops(render_parts(Path(folder), images=images, seed=0))
    yield _crops("parts_v3 crops", parts)


def _digits() -> Case:
    digits = load_digits()
    encoder = load_encoder("builtin")
    prepared = []
    for pixels in digits.images:
        drawn = Image.fromarray((255 - pixels * (255 / 16)).astype(np.uint8)).resize(
            (_SIDE, _SIDE), Image.Resampling.BICUBIC
        )
        prepared.append(encoder.prepare(np.repeat(np.asarray(drawn)[:, :, None], 3, axis=2)))
    vectors = [encoder.encode(prepared[start : start + 64]) for start in range(0, len(prepared), 64)]
    return Case("digits", np.concatenate(vectors), digits.target.astype(np.int64), np.arange(len(prepared)))


def _crops(name: str, crops: Crops) -> Case:
    return Case(name, crops.vectors, crops.labels, crops.groups)


def _means(results: Sequence[dict[str, Any]], case: str, strategy: str, budget: float) -> tuple[float, float]:
    """Mean and standard error over seeds, in per cent; NaN where it was not measured."""
    values = [
        100 * row["accuracy"]
        for row in results
        if (row["case"], row["strategy"], row["budget"]) == (case, strategy, budget)
    ]
    if not values:
        return float("nan"), float("nan")
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _table(results: Sequence[dict[str, Any]]) -> str:
    strategies = list(dict.fromkeys(row["strategy"] for row in results))
    rows = []
    for case in dict.fromkeys(row["case"] for row in results):
        for strategy in strategies:
            cells = []
            for budget in BUDGETS:
                mean, error = _means(results, case, strategy, budget)
                behind = strategy == MIX and any(_means(results, case, each, budget)[0] > mean for each in RIVALS)
                cells.append(f"{mean:.2f} ± {error:.2f}{' *' if behind else ''}")
            rows.append([f"{case}, {strategy}", *cells])
    return markdown(["accuracy, %", *(f"{budget:.0%}" for budget in BUDGETS)], rows)


def _lost(results: Sequence[dict[str, Any]]) -> list[str]:
    """Where another strategy has a higher mean than `mix`."""
    notes = []
    for case in dict.fromkeys(row["case"] for row in results):
        for budget in BUDGETS:
            mean, error = _means(results, case, MIX, budget)
            best = max(RIVALS, key=lambda each: np.nan_to_num(_means(results, case, each, budget)[0]))
            other, spread = _means(results, case, best, budget)
            if other > mean:
                notes.append(
                    f"on {case} at {budget:.0%} {best} is ahead of mix: {other:.2f} ± {spread:.2f} against "
                    f"{mean:.2f} ± {error:.2f}"
                )
    return notes


if __name__ == "__main__":
    main()
