"""Copies of one image that are labelled differently: one of the labels is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.duplicates.keepers import move_boxes
from curate.dataset import Transaction
from curate.dataset.query import in_layer

FloatArray = npt.NDArray[np.float64]

_SAME_PLACE: Final = 0.5
"""Boxes that overlap more than this, as intersection over union, are of one thing."""


@dataclass(frozen=True)
class Annotations:
    """The annotations of n images, image by image.

    Attributes:
        table: Rows annotation_id, label, bbox, source_id; sorted by image.
        start: Where the rows of each image begin, int64 of shape (n + 1,).
    """

    table: pa.Table
    start: npt.NDArray[np.int64]

    def of(self, image: int) -> list[dict[str, Any]]:
        """The annotations of one image."""
        rows = self.table.slice(self.start[image], self.start[image + 1] - self.start[image])
        return list(rows.to_pylist())

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many each image has; shape (n,)."""
        return np.diff(self.start)


@dataclass(frozen=True)
class Conflict:
    """An annotation that copies of its image contradict.

    Attributes:
        annotation: Its row.
        other: The label that most of the others have.
        share: Of the copies that have another label than this one.
    """

    annotation: dict[str, Any]
    other: str
    share: float


def read_annotations(transaction: Transaction, image_ids: pa.ChunkedArray, layer: str) -> Annotations:
    """The annotations of images in a layer."""
    columns = ["annotation_id", "image_id", "label", "bbox", "source_id"]
    table = transaction.read("annotations", columns=columns, where=in_layer(layer))
    image = pc.index_in(table["image_id"], value_set=image_ids.combine_chunks())
    table, image = table.filter(pc.is_valid(image)), image.drop_null().to_numpy()
    order = np.argsort(image, kind="stable")
    start = np.searchsorted(image[order], np.arange(len(image_ids) + 1))
    return Annotations(table.take(pa.array(order)).drop_columns(["image_id"]).combine_chunks(), start.astype(np.int64))


def label_conflicts(members: Sequence[list[dict[str, Any]]]) -> dict[int, Conflict]:
    """Whole-image labels that differ among copies.

    Args:
        members: Annotations of each copy; those with one label and no box are compared.

    Returns:
        Conflicts by place in `members`, as of `conflicts`.
    """
    labels = {k: rows[0] for k, rows in enumerate(members) if len(rows) == 1 and rows[0]["bbox"] is None}
    return dict(zip(labels, conflicts(list(labels.values())), strict=True)) if _differ(list(labels.values())) else {}


def conflicts(same_thing: Sequence[dict[str, Any]]) -> list[Conflict]:
    """What speaks against each of the annotations of one thing in several copies.

    Of two that differ, either may be wrong: the share is a half for both.
    """
    counted = Counter(str(row["label"]) for row in same_thing)
    found = []
    for row in same_thing:
        others = [(count, label) for label, count in counted.items() if label != str(row["label"])]
        most = max(others, default=(0, ""))[1]
        found.append(Conflict(row, most, 1 - counted[str(row["label"])] / len(same_thing)))
    return found


def box_conflicts(
    matched: Sequence[tuple[int, list[tuple[dict[str, Any], dict[str, Any]]]]], keeper: int
) -> list[tuple[int, Conflict]]:
    """Boxes of one thing that differ in their class among copies.

    Args:
        matched: Of each copy its row, and its `matched_boxes` with the keeper.
        keeper: The keeper's row.

    Returns:
        Rows of images, and the conflict of an annotation on each.
    """
    things: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for row, pairs in matched:
        for kept, copied in pairs:
            things.setdefault(str(kept["annotation_id"]), [(keeper, kept)]).append((row, copied))
    found = []
    for seen in things.values():
        if _differ([annotation for _, annotation in seen]):
            against = conflicts([annotation for _, annotation in seen])
            found += [(row, conflict) for (row, _), conflict in zip(seen, against, strict=True)]
    return found


def _differ(annotations: Sequence[dict[str, Any]]) -> bool:
    return len({annotation["label"] for annotation in annotations}) > 1


def matched_boxes(
    kept: list[dict[str, Any]],
    copied: list[dict[str, Any]],
    matrix: FloatArray,
    mirrored: bool,
    sizes: FloatArray,
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Boxes of a keeper and of its copy that are of one thing, whatever their classes.

    Args:
        kept: Annotations of the keeper.
        copied: Those of the copy.
        matrix: From keeper to copy, shape (2, 3).
        mirrored: As in `pairs.Pairs`.
        sizes: Width and height of keeper and copy, shape (2, 2).

    Returns:
        The keeper's annotation and the copy's, each in one pair at most.
    """
    ours = [row for row in kept if row["bbox"] is not None]
    theirs = [row for row in copied if row["bbox"] is not None]
    if not ours or not theirs or not sizes.all():
        return []
    moved = move_boxes(np.array([row["bbox"] for row in ours], dtype=np.float64), matrix, mirrored, *sizes)
    moved = _clipped(moved, sizes[1])
    overlap = _iou(moved, np.array([row["bbox"] for row in theirs], dtype=np.float64))
    same = np.array([[a["label"] == b["label"] for b in theirs] for a in ours])
    matched = []
    # Those of one class first: two things may lie on one another.
    ranked = np.where(overlap >= _SAME_PLACE, overlap + same, 0)
    while ranked.max() > 0:
        a, b = np.unravel_index(int(ranked.argmax()), ranked.shape)
        matched.append((ours[a], theirs[b]))
        ranked[a], ranked[:, b] = 0, 0
    return matched


def _clipped(boxes: FloatArray, size: FloatArray) -> FloatArray:
    low = np.clip(boxes[:, :2], 0, size)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, size)
    return np.concatenate([low, high - low], axis=1)


def _iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Intersection over union of all with all; shape (k, l)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    shared = np.maximum(high - low, 0).prod(axis=2)
    union = first[:, 2:].prod(axis=1)[:, None] + second[:, 2:].prod(axis=1)[None] - shared
    return np.asarray(shared / np.maximum(union, 1e-9))
