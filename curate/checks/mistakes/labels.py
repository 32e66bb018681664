"""Wrong class labels: how probable it is that each label of a set is wrong, and what it should be.

The probabilities are calibrated: of the labels given 0.8, about eight in ten are wrong. A label is flagged where wrong is
more probable than right, so the number flagged follows from the data and not from a quantile.

Two ways in: `find_label_errors` from embeddings (`curate.checks.mistakes.probe` makes out-of-fold probabilities),
`label_errors_from_probabilities` from those of a model that has not seen the labels it is judged against. Both end in the
noise model of `curate.checks.mistakes.noise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.nearest import nearest_in_cells, on_leading_axes
from curate.checks.duplicates.search import EXACT_UP_TO, VISITS
from curate.checks.mistakes.noise import Judge
from curate.checks.mistakes.noise_fit import fit_noise_model
from curate.checks.mistakes.probe import Probe, Scores, assign_folds, fit_probe, neighbor_scores
from curate.checks.neighbors import Neighbors, near_duplicate_groups, nearest_neighbors
from curate.errors import InputError

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]

_FOLDS: Final = 10
NEIGHBORS: Final = 10
"""How many nearest rows have a vote."""

_SMALLEST_PREDICTION: Final = 1e-4  # what a model rules out is only unlikely: it has not seen everything
_FIT_PROBABILITIES: Final = 1_000_000  # rows x classes to fit the noise model on, within these numbers of rows
_FIT_ROWS: Final = (10_000, 50_000)
_BLOCK_PROBABILITIES: Final = 1 << 17  # rows x classes at a time: four such arrays about fit the processor's cache


@dataclass(frozen=True)
class LabelErrors:
    """What was found out about n labels of K classes.

    Attributes:
        p_wrong: Calibrated probability that the given label is wrong, float64 of shape (n,).
        suggested: The most probable class other than the given one, int32 of shape (n,); the given one where there is no
            other class to compare with.
        p_given: Calibrated probability of the given class from the image alone (its own label had no vote), shape (n,).
        p_suggested: The same of the suggested class, shape (n,).
        noise_matrix: Estimated P(given label | true class), float32 of shape (K, K), rows [true] sum to 1.
        neighbors: Nearest rows of other groups, or None when there were only probabilities.
    """

    p_wrong: npt.NDArray[np.float64]
    suggested: npt.NDArray[np.int32]
    p_given: npt.NDArray[np.float32]
    p_suggested: npt.NDArray[np.float32]
    noise_matrix: npt.NDArray[np.float32]
    neighbors: Neighbors | None = None

    @property
    def flagged(self) -> npt.NDArray[np.bool_]:
        """Labels that are more probably wrong than right, shape (n,)."""
        return self.p_wrong >= 0.5


def find_label_errors(
    vectors: Floats,
    labels: Integers,
    classes: int,
    *,
    groups: Integers | None = None,
    extra: Floats | None = None,
    predictions: Sequence[Floats] = (),
    seed: int = 0,
) -> LabelErrors:
    """Judge every label by the embeddings of all.

    Args:
        vectors: Embeddings, float array of shape (n, d), finite.
        labels: Given classes, integers in [0, classes), shape (n,).
        classes: How many classes there are, K; those that no row has are never suggested.
        groups: Rows that must be judged together and are no evidence for one another (crops of one image, frames of one
            video), integers of shape (n,). Near-duplicates are found and kept together besides.
        extra: More columns that tell classes apart, finite float array of shape (n, e): for a box the logarithms of its
            width, height, aspect and share of the image.
        predictions: Class probabilities of models that have not seen the labels they are judged against, float arrays of
            shape (n, classes), not negative; a row that is 0 throughout has no prediction. They are pooled with the probes,
            and count for as much as they make the given labels more likely.
        seed: The same seed gives the same answer.

    Raises:
        InputError: Shapes do not agree, a label is out of range, or a number is not finite.
    """
    vectors, labels = _checked_vectors(vectors, "vectors"), _checked_labels(labels, classes, len(vectors))
    extra = None if extra is None else _checked_vectors(extra, "extra", len(vectors))
    if groups is not None and np.shape(groups) != labels.shape:
        raise InputError(f"groups has shape {np.shape(groups)}, not ({len(labels)},)", where="groups")
    neighbors = _neighbors(vectors, groups)
    present, compact = np.unique(labels, return_inverse=True)
    if len(present) < 2 or len(labels) < 2:
        return _nothing_to_compare(labels, classes, neighbors)

    experts = [_expert(each, present, classes, len(labels)) for each in predictions]
    probe = out_of_fold_probe(
        vectors, compact, len(present), neighbors, groups=groups, extra=extra, experts=experts, seed=seed
    )
    found = _judge_all(probe.probabilities, compact, len(present), seed)
    matrix = np.eye(classes, dtype=np.float32)
    matrix[np.ix_(present, present)] = found.noise_matrix
    return LabelErrors(
        found.p_wrong,
        present[found.suggested].astype(np.int32),
        found.p_given,
        found.p_suggested,
        matrix,
        neighbors,
    )


def out_of_fold_probe(
    vectors: npt.NDArray[np.float32],
    labels: Integers,
    classes: int,
    neighbors: Neighbors,
    *,
    groups: Integers | None = None,
    extra: npt.NDArray[np.float32] | None = None,
    experts: Sequence[Scores] = (),
    seed: int = 0,
) -> Probe:
    """Out-of-fold class probabilities as `find_label_errors` judges by: from probes and neighbours, near-duplicates together.

    Args:
        vectors: Embeddings, finite float32 array of shape (n, d), n >= 2.
        labels: Integers in [0, classes), shape (n,); every class occurs.
        classes: K, at least 2.
        neighbors: Nearest rows of other groups.
        groups: As for `find_label_errors`.
        extra: The same.
        experts: What else is pooled.
        seed: Of the folds and samples.
    """
    together = near_duplicate_groups(neighbors, groups, largest=max(2, len(labels) // (2 * _FOLDS)))
    if not together.any():  # everything is one group: nothing could be predicted from outside it
        together = np.arange(len(labels))
    folds = assign_folds(labels, together, folds=_FOLDS, seed=seed)
    votes = neighbor_scores(neighbors.indices, labels, together, classes)
    return fit_probe(vectors, labels, classes, folds, extra=extra, others=[votes, *experts], seed=seed)


def label_errors_from_probabilities(probabilities: Floats, labels: Integers, *, seed: int = 0) -> LabelErrors:
    """Judge every label by class probabilities.

    Args:
        probabilities: Float array of shape (n, K), from a model that was not trained on the label in question (another
            data set's, or out-of-fold). Not negative; rows need not sum to exactly 1. They may be over- or underconfident.
        labels: Given classes, integers in [0, K), shape (n,).
        seed: In large sets the noise model is fitted on a sample; the same seed gives the same answer.

    Raises:
        InputError: Shapes do not agree, a label is out of range, or a probability is negative or not finite.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or not np.issubdtype(probabilities.dtype, np.floating):
        raise InputError("probabilities must be a float array of rows x classes", where="probabilities")
    n, classes = probabilities.shape
    labels = _checked_labels(labels, classes, n)
    if n == 0 or classes == 1:
        return _nothing_to_compare(labels, classes, None)

    def source(rows: Integers) -> npt.NDArray[np.float32]:
        contiguous = rows[-1] - rows[0] == len(rows) - 1
        chosen = probabilities[rows[0] : rows[-1] + 1] if contiguous else probabilities[rows]
        block: npt.NDArray[np.float32] = chosen.astype(np.float32, copy=False)
        sums = block @ np.ones(classes, dtype=np.float32)
        least, most = sums.min(), sums.max()
        if not (least > 0 and most < np.inf and block.min() >= 0):  # a NaN is neither
            bad = ~np.isfinite(sums) | (sums <= 0) | (block < 0).any(axis=1)
            raise InputError(
                "probabilities must be finite, not negative and not all zero",
                where=f"row {rows[int(bad.argmax())]}",
                remedy="leave out the rows without a prediction",
            )
        if max(most - 1, 1 - least) > 1e-3:
            block = block / sums[:, None]
        return block

    return _judge_all(source, labels, classes, seed)


def _judge_all(
    source: Callable[[Integers], npt.NDArray[np.float32]], labels: Integers, classes: int, seed: int
) -> LabelErrors:
    """Fit the noise model on a sample of the rows, then judge all of them in blocks."""
    n = len(labels)
    size = min(n, int(np.clip(_FIT_PROBABILITIES // classes, *_FIT_ROWS)))
    sample = np.sort(np.random.default_rng(seed).choice(n, size, replace=False)) if size < n else np.arange(n)
    model = fit_noise_model(source(sample), labels[sample])
    p_wrong = np.empty(n)
    suggested = np.empty(n, dtype=np.int32)
    p_given, p_suggested = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    step = max(1, _BLOCK_PROBABILITIES // classes)
    judge = Judge.of(model, min(step, n))
    for start in range(0, n, step):
        block = slice(start, min(start + step, n))
        found = judge(source(np.arange(block.start, block.stop)), labels[block])
        p_wrong[block], suggested[block] = found.p_wrong, found.suggested
        p_given[block], p_suggested[block] = found.p_given, found.p_suggested
    return LabelErrors(p_wrong, suggested, p_given, p_suggested, model.transition)


def _neighbors(vectors: npt.NDArray[np.float32], groups: Integers | None) -> Neighbors:
    """Of few rows all are compared with all; of more, those that meet in a cell."""
    if len(vectors) <= EXACT_UP_TO:
        return nearest_neighbors(vectors, NEIGHBORS, groups=groups)
    by = on_leading_axes(vectors, np.float32)
    return nearest_in_cells(vectors, NEIGHBORS, visits=VISITS, groups=groups, by=by, copies_alike=True)


def _expert(probabilities: Floats, present: Integers, classes: int, rows: int) -> Scores:
    """A model's predictions as scores of the classes that occur."""
    values = _checked_vectors(probabilities, "predictions", rows)
    if values.shape[1] != classes or values.min(initial=0) < 0:
        raise InputError(f"predictions must be {classes} columns of numbers that are not negative", where="predictions")

    def scores(chosen: Integers) -> npt.NDArray[np.float32]:
        part = values[chosen][:, present]
        total = part.sum(axis=1, keepdims=True)
        share = np.divide(part, total, out=np.full_like(part, 1 / len(present)), where=total > 0)
        return np.asarray(np.log(np.maximum(share, np.float32(_SMALLEST_PREDICTION))))

    return scores


def _nothing_to_compare(labels: Integers, classes: int, neighbors: Neighbors | None) -> LabelErrors:
    """The answer where only one class occurs: nothing speaks against any label."""
    n = len(labels)
    ones = np.ones(n, dtype=np.float32)
    return LabelErrors(np.zeros(n), labels.astype(np.int32), ones, ones, np.eye(classes, dtype=np.float32), neighbors)


def _checked_vectors(values: Floats, name: str, rows: int | None = None) -> npt.NDArray[np.float32]:
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2 or (rows is not None and len(values) != rows):
        expected = "(rows, columns)" if rows is None else f"({rows}, columns)"
        raise InputError(f"{name} has shape {values.shape}, not {expected}", where=name)
    finite = np.isfinite(values.sum(axis=1, dtype=np.float64))
    if not finite.all():
        raise InputError(
            f"{name} has a value that is not a finite number",
            where=f"row {int((~finite).argmax())}",
            remedy="embed these images again, or leave them out",
        )
    return values


def _checked_labels(labels: Integers, classes: int, rows: int) -> npt.NDArray[np.int64]:
    labels = np.asarray(labels)
    if labels.shape != (rows,) or not (np.issubdtype(labels.dtype, np.integer) or rows == 0):
        raise InputError(f"labels must be {rows} integers, not {labels.dtype} of shape {labels.shape}", where="labels")
    numbers: npt.NDArray[np.int64] = labels.astype(np.int64, copy=False)
    if rows and not (numbers.min() >= 0 and numbers.max() < classes):
        at = int(((numbers < 0) | (numbers >= classes)).argmax())
        raise InputError(f"label {numbers[at]} is not in [0, {classes})", where=f"row {at}")
    return numbers
