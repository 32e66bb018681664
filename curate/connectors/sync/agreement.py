"""How far several annotators of the same images agree."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.boxes import Boxes
from curate.checks.mistakes.matching import assign, overlapping_pairs
from curate.dataset import Transaction
from curate.names import ANNOTATORS

_MATCH_IOU: Final = 0.5


@dataclass(frozen=True)
class Agreement:
    """What several annotators have in common.

    Attributes:
        annotators: How many.
        images: How many images have versions of at least two of them.
        f1: In [0, 1]: part of their annotations that go together one to one, of the same class, with boxes whose
            intersection over union is at least 0.5 (whole-image labels: of the same class). Over all pairs of annotators.
    """

    annotators: int
    images: int
    f1: float


def agreement(transaction: Transaction) -> Agreement | None:
    """Agreement over all images that several annotators have worked on; None if there are none."""
    columns = ["image_id", "layer", "label", "bbox"]
    rows = transaction.read("annotations", columns=columns, where=f"starts_with(layer, '{ANNOTATORS}')")
    rows = _shared(rows)
    if not rows.num_rows:
        return None
    image = rows["image_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    label = pc.fill_null(rows["label"], "").combine_chunks().dictionary_encode().indices.to_numpy()
    # A label of the whole image is a box of its own that matches any other such.
    boxes = np.array([[0.0, 0.0, 1.0, 1.0] if box is None else box for box in rows["bbox"].to_pylist()])
    whole = rows["bbox"].is_null().to_numpy(zero_copy_only=False)
    layers = np.array(rows["layer"].to_pylist())
    names = sorted(set(layers.tolist()))
    by_layer = {name: np.flatnonzero(layers == name) for name in names}
    matched = total = 0
    for first, second in combinations(names, 2):
        both = np.intersect1d(image[by_layer[first]], image[by_layer[second]])
        sides = [each[np.isin(image[each], both)] for each in (by_layer[first], by_layer[second])]
        tables = [Boxes(image[each].astype(np.int64), boxes[each], label[each].astype(np.int64)) for each in sides]
        pairs = overlapping_pairs(*tables, min_iou=_MATCH_IOU)
        a, b = sides[0][pairs.first], sides[1][pairs.second]
        pairs = pairs.take((label[a] == label[b]) & (whole[a] == whole[b]))
        matched += 2 * len(assign(pairs, pairs.iou))
        total += len(sides[0]) + len(sides[1])
    return Agreement(len(names), len(np.unique(image)), matched / total if total else 1.0)


def _shared(rows: pa.Table) -> pa.Table:
    """The rows on images that have versions of several annotators."""
    who: dict[str, set[str]] = defaultdict(set)
    for image_id, layer in zip(rows["image_id"].to_pylist(), rows["layer"].to_pylist(), strict=True):
        who[image_id].add(layer)
    shared = pa.array([image_id for image_id, layers in who.items() if len(layers) > 1], pa.string())
    return rows.filter(pc.is_in(rows["image_id"], shared))
