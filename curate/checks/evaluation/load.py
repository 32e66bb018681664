"""A layer of predictions and the labels it is compared with, as arrays; masks come image by image (`load_masks.py`).

Equal scores are taken in the order that pycocotools takes them in when both layers are exported as COCO: images by their
whole-number ids, then by location; annotations as they stand in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.boxes import NOWHERE, BoolArray, FloatArray, IntArray
from curate.checks.evaluation.base import TASKS, Task
from curate.checks.evaluation.classification import Guesses
from curate.checks.evaluation.objects import Objects
from curate.checks.labels import Labels, load_labels, load_predictions, no_images
from curate.dataset import Dataset
from curate.dataset.ids import from_ids, positions
from curate.dataset.query import in_layer
from curate.dataset.synthetic import real_only
from curate.errors import UsageError
from curate.geometry import polygon_area, rle_areas, valid_rles
from curate.wording import counted

OUTLINED: Final = ("mask", "polygon")
"""Types of annotations whose pixels are known."""

_WHOLE_NUMBER: Final = r"^(0|-?[1-9][0-9]{0,17})$"


@dataclass(frozen=True)
class Source:
    """A layer of predictions in one commit of a dataset, and the labels.

    Attributes:
        dataset: The commit.
        labels: What is true.
        model: What is predicted, on the same images, with the same classes.
        seen: Rows of the images that the model has looked at, in order; int64.
    """

    dataset: Dataset
    labels: Labels
    model: Labels
    seen: IntArray

    def image_ids(self) -> pa.Array:
        """Ids of the images that the model has looked at, in order."""
        return self.labels.images["image_id"].combine_chunks().take(pa.array(self.seen))


def load_source(dataset: Dataset, layer: str, against: str | None, where: str | None, notes: list[str]) -> Source:
    """Read a layer of predictions.

    Args:
        dataset: A commit of it.
        layer: The labels' layer.
        against: The predictions' layer; None for the only one there is.
        where: SQL condition on the images. Synthetic ones are measured on only where it speaks of them.
        notes: What is left out or assumed is added here.

    Raises:
        UsageError: There is no such layer, or several and none is named; no image is chosen, or the model has seen none.
    """
    labels = load_labels(dataset, layer, real_only(dataset, where))
    models = load_predictions(dataset, labels, None if against is None else [against], notes)
    if len(models) != 1:
        raise UsageError(
            "there are no predictions" if not models else "there are several layers of predictions",
            where=dataset.name,
            remedy="make some with 'curate predict', or import a results file with --layer predictions/NAME"
            if not models
            else f"choose one with --layer: {', '.join(models)}",
        )
    (model,) = models.values()
    seen = _seen(labels, model, notes)
    if not len(seen):
        raise UsageError(
            f"{model.layer} has seen none of the images", where=where or dataset.name, remedy="loosen --where"
        )
    return Source(dataset, labels, model, seen[np.argsort(_coco_order(dataset, labels)[seen])])


def choose_task(source: Source, wanted: str | None) -> Task:
    """What the two layers can be compared in.

    Raises:
        UsageError: There is no such task, or the layers do not hold what it needs.
    """
    able = _possible(source)
    if wanted is not None:
        for task in TASKS:
            if task == wanted and task in able:
                return task
        if wanted not in TASKS:
            raise UsageError(f"there is no task '{wanted}'", where="--task", remedy=f"one of: {', '.join(TASKS)}")
        raise _of_other_type(source, f"--task {wanted}", able)
    if not able:
        raise _of_other_type(source, source.dataset.name, able)
    return able[0]


def note_boxes_of_masks(source: Source, notes: list[str], *, asked: bool) -> None:
    """Say where the boxes around masks are compared with boxes that were drawn as such.

    A mask of a class of pixels is around all objects of the class at once: its box is none of theirs. Masks are taken for such
    where no image has two of one class, though an image has two boxes of it.

    Args:
        source: Both layers, to be compared as boxes.
        notes: What is said is added here.
        asked: Whether somebody has said that boxes are to be compared: then they are, whatever the masks are of.

    Raises:
        UsageError: Masks of classes of pixels would be compared with boxes of objects.
    """
    on = _on_seen(source)
    for masks, boxes in ((source.model, source.labels), (source.labels, source.model)):
        drawn = _has_outline(masks) & on[masks.image]
        plain, others = (each.boxed & ~_has_outline(each) & on[each.image] for each in (boxes, masks))
        if not drawn.any() or others.any() or not plain.any():
            continue
        of_pixels = _most_of_a_class(masks, drawn) == 1 and _most_of_a_class(boxes, plain) > 1
        if of_pixels and not asked:
            raise UsageError(
                f"{masks.layer} holds at most one mask of a class on an image, which are classes of pixels, and {boxes.layer} "
                "holds boxes of single objects",
                where=source.dataset.name,
                remedy="choose a layer with masks to compare with (--labels, --layer), or say --task detect if each mask is of "
                "one object",
            )
        notes.append(f"{masks.layer} holds masks: the boxes around them are compared")


def outlined_images(source: Source, image_ids: pa.Array, notes: list[str]) -> pa.Array:
    """Ids of those of the images on which no true mask is lacking: of a class that has masks, no label is a box alone.

    Raises:
        UsageError: There are none.
    """
    truth, model = source.labels, source.model
    rows = pc.index_in(image_ids, truth.images["image_id"].combine_chunks()).to_numpy(zero_copy_only=False)
    drawn = np.unique(truth.label[_has_outline(truth)])
    lacking = truth.boxed & ~_has_outline(truth) & np.isin(truth.label, drawn[drawn != NOWHERE])
    whole = np.bincount(truth.image[lacking], minlength=truth.images.num_rows)[rows.astype(np.int64)] == 0
    if not whole.any():
        raise UsageError(
            f"every image has boxes without a mask in {truth.layer}",
            where=source.dataset.name,
            remedy="say --task detect to compare boxes",
        )
    if not whole.all():
        left_out = counted(int((~whole).sum()), "images")
        notes.append(f"left out: {left_out} where {truth.layer} has boxes without a mask, of classes that have masks")
    kept = image_ids.filter(pa.array(whole))
    without = model.boxed & ~_has_outline(model) & (places(source, kept)[model.image] != NOWHERE)
    if without.any():
        notes.append(f"left out: {counted(int(without.sum()), 'boxes')} of {model.layer} without a mask")
    return kept


def common_images(first: Source, second: Source) -> pa.Array:
    """Ids of the images that both models have seen, in the first one's order.

    Raises:
        UsageError: There are none.
    """
    ids, others = first.image_ids(), second.image_ids()
    both = ids.filter(pc.is_in(ids, others))
    if not len(both):
        raise UsageError(
            "there is no image that both have seen",
            where=f"{first.model.layer} and {second.model.layer}",
            remedy="predict on the same images, or compare others",
        )
    return both


def places(source: Source, image_ids: pa.Array) -> IntArray:
    """Place among the images evaluated of every row of `source.labels.images`, -1 for those that are not."""
    rows = pc.index_in(image_ids, source.labels.images["image_id"].combine_chunks()).to_numpy(zero_copy_only=False)
    place = np.full(source.labels.images.num_rows, NOWHERE)
    place[rows.astype(np.int64)] = np.arange(len(rows))
    return place


def load_objects(source: Source, labels: Labels, place: IntArray, notes: list[str]) -> Objects:
    """The boxes of one of a source's layers.

    Args:
        source: Both layers.
        labels: Its labels, or its predictions.
        place: Of every row of the images (`places`).
        notes: What is left out is added here.
    """
    on = place[labels.image] != NOWHERE
    usable = labels.boxed & (labels.label != NOWHERE) & np.isfinite(labels.bbox).all(axis=1)
    left_out = int((on & labels.boxed & ~usable).sum())
    if left_out:
        notes.append(f"{counted(left_out, 'boxes')} of {labels.layer} without a class, or not finite, are left out")
    order, area = stored_columns(source.dataset, labels)
    rows = np.flatnonzero(on & usable)
    rows = rows[np.lexsort((order[rows], place[labels.image[rows]]))]
    bbox = labels.bbox[rows]
    boxed = bbox[:, 2] * bbox[:, 3]
    true = labels is source.labels
    return Objects(
        place[labels.image[rows]],
        labels.label[rows],
        bbox,
        np.where(np.isnan(area[rows]), boxed, area[rows]) if true else boxed,
        np.ones(len(rows)) if true else _scores(labels)[rows],
        labels.crowd[rows] if true else np.zeros(len(rows), dtype=np.bool_),
        rows,
    )


def labelled_images(source: Source, image_ids: pa.Array, notes: list[str]) -> pa.Array:
    """Ids of those of the images that have one label of the whole image.

    Raises:
        UsageError: There are none.
    """
    rows = pc.index_in(image_ids, source.labels.images["image_id"].combine_chunks()).to_numpy(zero_copy_only=False)
    there = _of_image(source.labels)[rows.astype(np.int64)] != NOWHERE
    if not there.any():
        raise no_images(source.dataset.name, "images with a label of their own")
    left_out = int((~there).sum())
    if left_out:
        notes.append(f"{counted(left_out, 'images')} have no label, or several, and are left out")
    return image_ids.filter(pa.array(there))


def load_guesses(source: Source, image_ids: pa.Array) -> Guesses:
    """Labels of whole images, true and predicted; each of the images has a true one (`labelled_images`)."""
    truth, model = source.labels, source.model
    rows = (
        pc.index_in(image_ids, truth.images["image_id"].combine_chunks())
        .to_numpy(zero_copy_only=False)
        .astype(np.int64)
    )
    annotation, said = _of_image(truth)[rows], _of_image(model)[rows]
    known = said != NOWHERE
    label, score = np.full(len(rows), NOWHERE), np.full(len(rows), np.nan)
    label[known] = model.label[said[known]]
    score[known] = _scores(model, missing=np.nan)[said[known]]
    given = np.zeros(len(model.image), dtype=np.bool_)
    given[said[known]] = True
    columns = model.probabilities(given) if known.all() else None
    if columns is None:
        return Guesses(truth.label[annotation], label, score, None, annotation)
    probabilities = columns[(np.cumsum(given) - 1)[said]]
    score = np.where(np.isfinite(score), score, probabilities[np.arange(len(label)), label])
    return Guesses(truth.label[annotation], label, score, probabilities, annotation)


def stored_columns(dataset: Dataset, labels: Labels) -> tuple[IntArray, FloatArray]:
    """Where each annotation stands in the store, and its area: as given, else of its mask or polygons; NaN where neither."""
    own = from_ids(labels.annotations["annotation_id"])
    order, area = np.zeros(len(own), dtype=np.int64), np.full(len(own), np.nan)
    start = 0
    for batch in dataset.scan("annotations", columns=["annotation_id", "area"], where=in_layer(labels.layer)):
        row = positions(from_ids(batch["annotation_id"]), own)
        there = row != NOWHERE
        order[row[there]] = start + np.flatnonzero(there)
        area[row[there]] = batch["area"].to_numpy(zero_copy_only=False)[there]
        start += len(row)
    if np.isin(np.asarray(labels.annotations["type"])[np.isnan(area)], ("label", "box"), invert=True).any():
        condition = f"{in_layer(labels.layer)} AND area IS NULL AND (rle IS NOT NULL OR polygons IS NOT NULL)"
        columns = ["annotation_id", "rle", "rle_size", "polygons"]
        for batch in dataset.scan("annotations", columns=columns, where=condition):
            row = positions(from_ids(batch["annotation_id"]), own)
            area[row[row != NOWHERE]] = _drawn_areas(batch)[row != NOWHERE]
    return order, area


def _drawn_areas(batch: pa.RecordBatch) -> FloatArray:
    """Area of each of n annotations with a mask or polygons; NaN of a mask that is broken."""
    rles, sizes, polygons = (batch[name].to_pylist() for name in ("rle", "rle_size", "polygons"))
    masks = [row for row, rle in enumerate(rles) if rle is not None]
    shapes = np.array([sizes[row] or (0, 0) for row in masks], dtype=np.int64).reshape(-1, 2)
    valid = valid_rles([rles[row] for row in masks], shapes)
    whole = [row for row, fine in zip(masks, valid.tolist(), strict=True) if fine]
    area = np.array([sum(map(polygon_area, parts)) if parts else np.nan for parts in polygons], dtype=np.float64)
    area[masks] = np.nan
    area[whole] = rle_areas([rles[row] for row in whole], shapes[valid])
    return area


def _possible(source: Source) -> list[Task]:
    """Tasks that both layers hold something for, the likeliest first."""
    on = _on_seen(source)
    true, said = (
        {
            "outline": _has_outline(each) & on[each.image],
            "box": each.boxed & on[each.image],
            "label": each.whole_image & on[each.image],
        }
        for each in (source.labels, source.model)
    )
    able: list[Task] = []
    if true["outline"].any() and said["outline"].any():
        # A class drawn twice on an image is two things; once on every image, it is the class of pixels.
        several = _most_of_a_class(source.model, said["outline"]) > 1
        able += ["instances", "segment"] if several else ["segment", "instances"]
    if true["box"].any() and said["box"].any():
        able.append("detect")
    if true["label"].any() and said["label"].any():
        able.append("classify")
    # What a model chiefly gives is what it is for; a detector on images without an object has nothing to show.
    if not able and not len(source.model.image):
        if true["box"].any():
            able = ["detect"]
        if true["outline"].any():
            able += ["instances", "segment"]
        if not able and true["label"].any():
            able = ["classify"]
    return able


def _on_seen(source: Source) -> BoolArray:
    """Which images the model has looked at; by row."""
    on = np.zeros(source.labels.images.num_rows, dtype=np.bool_)
    on[source.seen] = True
    return on


def _has_outline(labels: Labels) -> BoolArray:
    """Which annotations have pixels of their own."""
    return np.isin(np.asarray(labels.annotations["type"]), OUTLINED)


def _most_of_a_class(labels: Labels, rows: BoolArray) -> int:
    """How many of the chosen annotations are of one class on one image, at most."""
    cells = labels.image[rows] * (len(labels.classes) + 1) + labels.label[rows]
    return int(np.unique(cells, return_counts=True)[1].max(initial=0))


def _of_other_type(source: Source, where: str, able: Sequence[str]) -> UsageError:
    holds = [
        f"{each.layer} holds {', '.join(sorted(set(each.annotations['type'].to_pylist()))) or 'nothing'}"
        for each in (source.labels, source.model)
    ]
    remedy = f"can be compared as: {', '.join(able)}" if able else "choose layers of one type with --labels and --layer"
    return UsageError(f"the two layers cannot be compared so: {'; '.join(holds)}", where=where, remedy=remedy)


def _seen(labels: Labels, model: Labels, notes: list[str]) -> IntArray:
    """Rows of the images that the model has looked at."""
    rows = labels.covered_by(model)
    if model.seen is None:
        without = len(np.setdiff1d(rows, model.image))
        notes.append(
            f"{model.layer} was imported and does not say where it found nothing: images with a prediction count as seen, and "
            f"all of a split where most have one ({counted(without, 'images')} without)"
        )
    left_out = labels.images.num_rows - len(rows)
    if left_out:
        notes.append(f"{counted(left_out, 'images')} that {model.layer} has not seen are left out")
    return rows


def _coco_order(dataset: Dataset, labels: Labels) -> IntArray:
    """Where each image stands by the id that a COCO export gives it; int64 of shape (m,)."""
    table = dataset.table("images", columns=["image_id", "location", "source_id"])
    table = table.take(pc.index_in(labels.images["image_id"], table["image_id"].combine_chunks()))
    source = table["source_id"].combine_chunks()
    whole = pc.fill_null(pc.match_substring_regex(source, _WHOLE_NUMBER), False)
    number = pc.cast(pc.if_else(whole, source, None), pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    named = np.empty(len(source), dtype=np.int64)
    named[pc.sort_indices(table["location"]).to_numpy()] = np.arange(len(source))
    order = np.empty(len(source), dtype=np.int64)
    order[np.lexsort((named, number, ~whole.to_numpy(zero_copy_only=False)))] = np.arange(len(source))
    return order


def _scores(labels: Labels, *, missing: float = 1.0) -> FloatArray:
    return np.asarray(pc.fill_null(labels.annotations["score"], missing).to_numpy(), dtype=np.float64)


def _of_image(labels: Labels) -> IntArray:
    """Row of each image's one label; -1 where there is none."""
    row = np.full(labels.images.num_rows, NOWHERE)
    rows = np.flatnonzero(labels.whole_image)
    row[labels.image[rows]] = rows
    return row
