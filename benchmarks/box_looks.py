"""The looks of boxes beside what a detector predicts: what `curate mistakes` makes of both."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.checks.boxes import Boxes
from curate.checks.labels import Labels
from curate.checks.mistakes.detection import detection_errors
from curate.checks.mistakes.labels import find_label_errors
from curate.checks.mistakes.looks import Looks
from curate.checks.mistakes.tables import Suspects, merge, suspects
from curate.models.embedding import embed
from curate.models.encoders.registry import load_encoder
from curate.models.passes import ITEMS


def with_looks(predictions: Boxes, truth: Boxes, labels: Labels) -> Suspects:
    """A detector's suspects, weighed by the looks of the boxes, and the boxes that are mislabeled by their looks.

    Args:
        predictions: Of one detector.
        truth: The boxes that are judged, with the set's numbers of images and classes.
        labels: The set.
    """
    n = len(truth)
    with tempfile.TemporaryDirectory() as spool:
        new = embed(_items(truth, labels), None, load_encoder("builtin"), Path(spool)).new
    rows = new["id"].to_numpy().astype(np.int64)
    vectors = new["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    order = np.argsort(rows)
    rows, vectors = rows[order], vectors[order].astype(np.float32)
    of_truth = Labels.shape_of(truth.bbox[rows], labels.sizes[truth.image[rows]])
    errors = find_label_errors(
        vectors, truth.label[rows], len(labels.classes), groups=truth.image[rows], extra=of_truth.astype(np.float32)
    )
    p_given = np.full(n, np.nan)
    p_given[rows] = errors.p_given
    looks = Looks.of(p_given, truth.label)
    weighed = detection_errors(truth, [predictions], sizes=labels.sizes, min_score=0.001, looks=looks)
    by_looks = suspects(
        "mislabeled",
        errors.p_wrong,
        truth.image[rows],
        annotation=rows,
        label=errors.suggested.astype(np.int64),
        evidence={"p_mislabeled": errors.p_wrong},
    )
    both = merge([weighed, by_looks])
    # The surer of two that say the same comes first.
    said = np.stack([np.unique(both.kind, return_inverse=True)[1], both.annotation, both.prediction], axis=1)
    said[both.annotation >= 0, 2] = -1
    return both.take(np.sort(np.unique(said, axis=0, return_index=True)[1]))


def _items(truth: Boxes, labels: Labels) -> pa.Table:
    """The boxes as crops to embed; their ids are their rows."""
    ids = pa.array([str(row) for row in range(len(truth))], ITEMS.field("id").type)
    paths = labels.images["path"].take(pa.array(truth.image))
    return pa.table([ids, paths, pa.array(truth.bbox.tolist(), ITEMS.field("bbox").type)], schema=ITEMS)
