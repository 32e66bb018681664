"""A layer's labels and the images they are on, as arrays, in the order of their ids: no result depends on that of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.boxes import NOWHERE, BoolArray, Boxes, FloatArray, IntArray
from curate.dataset import Dataset
from curate.dataset.ids import from_ids
from curate.dataset.query import in_layer
from curate.errors import UsageError
from curate.models.predictors.seen import SETTINGS_KEY, seen_images
from curate.names import GROUND_TRUTH, PREDICTIONS

_MOST = 0.5
_ANNOTATION_COLUMNS = [
    "annotation_id",
    "image_id",
    "type",
    "label",
    "bbox",
    "iscrowd",
    "score",
    "probabilities",
    "source_id",
]


@dataclass(frozen=True)
class Labels:
    """The labels of one layer, and the images they are on.

    Attributes:
        layer: Its name.
        images: m rows, sorted by image_id: image_id, location, path, width, height, group, split.
        annotations: n rows, sorted by annotation_id: annotation_id, image_id, type, label, bbox, iscrowd, score,
            probabilities, source_id.
        image: int64 array of shape (n,), row in `images` of each annotation.
        classes: Names of the classes.
        label: int64 array of shape (n,), index in `classes`; -1 for an annotation without a label.
        seen: Of a model that was run by curate, the images that it has looked at: int64 array of row numbers in `images`.
            None where that is not known.
    """

    layer: str
    images: pa.Table
    annotations: pa.Table
    image: IntArray
    classes: list[str]
    label: IntArray
    seen: IntArray | None = None

    @cached_property
    def boxed(self) -> BoolArray:
        """Which annotations have a box; bool array of shape (n,)."""
        return _bools(pc.is_valid(self.annotations["bbox"]))

    @cached_property
    def crowd(self) -> BoolArray:
        """Which annotations stand for many objects; bool array of shape (n,)."""
        return _bools(pc.fill_null(self.annotations["iscrowd"], False))

    @cached_property
    def whole_image(self) -> BoolArray:
        """Which annotations are the one label of their image; bool array of shape (n,)."""
        plain = (np.asarray(self.annotations["type"]) == "label") & (self.label != NOWHERE)
        per_image = np.bincount(self.image[plain], minlength=self.images.num_rows)
        return np.asarray(plain & (per_image[self.image] == 1), dtype=bool)

    @cached_property
    def bbox(self) -> FloatArray:
        """Boxes, NaN where there is none; float64 array of shape (n, 4)."""
        boxes = np.full((self.annotations.num_rows, 4), np.nan)
        column = self.annotations["bbox"].combine_chunks()
        boxes[self.boxed] = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
        return boxes

    @cached_property
    def sizes(self) -> FloatArray:
        """Width and height of the images, NaN where unknown; float64 array of shape (m, 2)."""
        columns = [pc.cast(self.images[name], pa.float64()).to_numpy() for name in ("width", "height")]
        return np.stack(columns, axis=1)

    def shape(self, rows: IntArray) -> FloatArray:
        """What a box's size tells of its class: logarithms of width, height, their ratio, and the share of the image.

        float64 array of shape (k, 4); the share is 1 where the image's size is unknown.
        """
        return self.shape_of(self.bbox[rows], self.sizes[self.image[rows]])

    @staticmethod
    def shape_of(bbox: FloatArray, sizes: FloatArray) -> FloatArray:
        """`shape` of boxes, float64 array of shape (k, 4), on images of those sizes, float64 array of shape (k, 2)."""
        width, height = np.maximum(bbox[:, 2:], 1e-3).T
        whole = sizes.prod(axis=1)
        share = np.log(width * height / np.where(whole > 0, whole, width * height))
        return np.stack([np.log(width), np.log(height), np.log(width / height), share], axis=1)

    def covered_by(self, model: Labels) -> IntArray:
        """Images that a model has seen, as `curate predict` has noted; int64 array of row numbers in `images`.

        A results file does not say on which images a model found nothing. Of an imported layer they are those it found
        something on, and where that is most of a split, all of the split.
        """
        found = np.zeros(self.images.num_rows, dtype=bool)
        found[model.image] = True
        if model.seen is not None:
            found[model.seen] = True
            return np.flatnonzero(found)
        splits = self.images["split"].combine_chunks().dictionary_encode(null_encoding="encode")
        split = splits.indices.to_numpy(zero_copy_only=False)
        share = np.bincount(split, weights=found) / np.maximum(np.bincount(split), 1)
        return np.flatnonzero(found | (share[split] >= _MOST))

    def image_predictions(self) -> npt.NDArray[np.float32] | None:
        """Class probabilities of the images by this layer's labels of whole images; shape (m, classes), 0 where none.

        A label with a score but no probabilities leaves the rest of the probability to the other classes alike. None if
        no image has a label.
        """
        rows = np.flatnonzero(self.whole_image)
        if not len(rows):
            return None
        found = np.zeros((self.images.num_rows, len(self.classes)), dtype=np.float32)
        given = self.probabilities(self.whole_image)
        if given is None:
            score = pc.fill_null(self.annotations["score"], 1.0).to_numpy()[rows].clip(1 / len(self.classes), 1.0)
            given = np.repeat(((1 - score) / max(len(self.classes) - 1, 1))[:, None], len(self.classes), axis=1)
            given[np.arange(len(rows)), self.label[rows]] = score
        found[self.image[rows]] = given
        return found

    def image_groups(self) -> IntArray:
        """Numbers that images of one group (a video, a burst) share; int64 array of shape (m,)."""
        own = pc.binary_join_element_wise("image", self.images["image_id"], "/")
        named = pc.binary_join_element_wise("group", self.images["group"], "/")
        keys = pc.coalesce(named, own).combine_chunks().dictionary_encode()
        return np.asarray(keys.indices.to_numpy(zero_copy_only=False), dtype=np.int64)

    def boxes(self, rows: npt.NDArray[np.bool_] | None = None) -> Boxes:
        """The annotations with boxes (those that `rows` chooses) as box columns."""
        chosen = self.boxed if rows is None else rows
        scores = self.annotations["score"]
        return Boxes(
            image=self.image[chosen],
            bbox=self.bbox[chosen],
            label=self.label[chosen],
            score=None if scores.null_count else scores.to_numpy()[chosen].astype(np.float64),
            probabilities=self.probabilities(chosen),
            crowd=self.crowd[chosen],
        )

    def probabilities(self, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32] | None:
        """Class probabilities of the chosen annotations, shape (k, classes); None if not all of them have any.

        Classes that the dataset was given later, which come behind the others, have a probability of 0.
        """
        column = self.annotations["probabilities"].combine_chunks().filter(pa.array(rows))
        lengths = pc.list_value_length(column)
        if not len(column) or column.null_count or not 0 < pc.min_max(lengths)["max"].as_py() <= len(self.classes):
            return None
        values = np.zeros((len(column), len(self.classes)), dtype=np.float32)
        values[np.arange(len(self.classes)) < lengths.to_numpy()[:, None]] = column.flatten().to_numpy()
        return values


def load_labels(dataset: Dataset, layer: str, where: str | None) -> Labels:
    """Read a layer and the images a condition chooses.

    Raises:
        UsageError: The condition cannot be understood, or chooses no image; or there is no such layer.
    """
    images = dataset.table(
        "images", columns=["image_id", "location", "path", "width", "height", "group", "split"], where=where
    )
    if images.num_rows == 0:
        raise no_images(dataset.name, where)
    require_layer(dataset, layer)
    classes = [info["name"] for info in dataset.commit.classes]
    return _labels(dataset, _sorted(images, "image_id"), classes, layer)


def no_images(dataset: str, where: str | None) -> UsageError:
    """The error of a check that has nothing to look at."""
    return UsageError("there are no images to check", where=where or dataset, remedy="loosen --where, or import images")


def require_layer(dataset: Dataset, layer: str) -> None:
    """Raise a `UsageError` unless a dataset has a layer; that of the labels may be empty."""
    if layer == GROUND_TRUTH:
        return
    known = _layers(dataset)
    if layer not in known:
        raise UsageError(
            f"there is no layer '{layer}'", where=dataset.name, remedy=f"layers: {', '.join(known) or 'none yet'}"
        )


def load_predictions(
    dataset: Dataset, labels: Labels, layers: Sequence[str] | None, notes: list[str]
) -> Mapping[str, Labels]:
    """Read predictions layers on the same images, with the same numbering of images and classes.

    Args:
        dataset: The dataset.
        labels: What they are compared with.
        layers: Which; None for all there are, but for the layer of `labels`.
        notes: What had to be left out is added here.

    Raises:
        UsageError: There is no such layer.
    """
    known = [name for name in _layers(dataset) if name.startswith(PREDICTIONS) and name != labels.layer]
    if layers is not None:
        # One that is asked for may hold nothing: its model has looked, and found nothing.
        known += sorted(set(dataset.commit.info.get(SETTINGS_KEY, {})) - {*known, labels.layer})
    chosen = (
        known if layers is None else [name if name.startswith(PREDICTIONS) else PREDICTIONS + name for name in layers]
    )
    models = {}
    for name in chosen:
        if name not in known:
            raise UsageError(
                f"there is no predictions layer '{name}'",
                where=dataset.name,
                remedy=f"layers: {', '.join(known) or 'none; import one with --layer predictions/NAME'}",
            )
        models[name] = _with_scores(_labels(dataset, labels.images, labels.classes, name), notes)
    return models


def _with_scores(model: Labels, notes: list[str]) -> Labels:
    """Leave out boxes whose confidence is not there, or is not one."""
    score = pc.fill_null(model.annotations["score"], -1.0).to_numpy()
    usable = ~model.boxed | ((score >= 0) & (score <= 1))
    left_out = int((~usable).sum())
    if left_out:
        notes.append(f"{left_out:,} boxes of {model.layer} have no confidence in [0, 1] and are left out")
    kept = model.annotations.filter(pa.array(usable))
    return replace(model, annotations=kept, image=model.image[usable], label=model.label[usable])


def _layers(dataset: Dataset) -> list[str]:
    names = pc.unique(dataset.table("annotations", columns=["layer"])["layer"]).to_pylist()
    return sorted(names)


def _labels(dataset: Dataset, images: pa.Table, classes: list[str], layer: str) -> Labels:
    annotations = dataset.table("annotations", columns=_ANNOTATION_COLUMNS, where=in_layer(layer))
    there = pc.is_in(annotations["image_id"], images["image_id"].combine_chunks())
    annotations = _sorted(annotations.filter(there), "annotation_id")
    position = pc.index_in(annotations["image_id"], images["image_id"].combine_chunks())
    image = position.combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
    # A class that the dataset does not list (it cannot happen through an import) comes after those it does.
    extra = [name for name in pc.unique(annotations["label"]).to_pylist() if name is not None and name not in classes]
    names = [*classes, *extra]
    codes = pc.fill_null(pc.index_in(annotations["label"], pa.array(names, pa.string())), NOWHERE)
    label = codes.combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
    return Labels(layer, images, annotations, image, names, label, _seen(dataset, images, layer))


def _seen(dataset: Dataset, images: pa.Table, layer: str) -> IntArray | None:
    """Rows of the images that the model of a layer has looked at; None where that is not known."""
    known = seen_images(dataset, layer)
    if known is None:
        return None
    return np.flatnonzero(np.asarray(pc.is_in(images["image_id"], value_set=known["id"].combine_chunks())))


def _sorted(table: pa.Table, column: str) -> pa.Table:
    """The rows in the order of the ids in a column."""
    return table.take(pa.array(np.argsort(from_ids(table[column]), kind="stable")))


def _bools(column: pa.ChunkedArray) -> BoolArray:
    return np.asarray(column.to_numpy(), dtype=bool)
