"""A layer of a dataset as training examples, and which of them are trained on.

Only what people labelled is learnt from: an image without annotations may be empty, or not looked at yet, so it is left out
unless it is said to be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curate.dataset import Dataset
from curate.dataset.ids import from_ids
from curate.dataset.query import in_layer
from curate.dataset.synthetic import is_measured_on, is_synthetic, parent_ids, parent_links
from curate.errors import UsageError
from curate.models.content import content_hashes
from curate.models.passes import Progress
from curate.models.training.base import Example, Task
from curate.models.training.folds import hold_out

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

TEST: Final = "test"
"""The split that nothing is trained on or chosen by."""

VALIDATION: Final = "val"

_VALIDATION_SHARE: Final = 0.2
_LARGE_SHARE: Final = 0.1
_LARGE: Final = 5000
_COPIES: Final = ("exact_duplicate", "near_duplicate", "leak")
_UNLABELLED: Final = -1
_IMAGE_COLUMNS: Final = ("image_id", "path", "width", "height", "group", "split", "metadata")
_ANNOTATION_COLUMNS: Final = (
    "annotation_id", "image_id", "type", "label", "bbox", "polygons", "rle", "rle_size", "iscrowd",
)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """n images of a dataset with what a layer says of them, in the order of their ids.

    Attributes:
        examples: One for each image.
        labelled: Which of them may be learnt from, shape (n,).
        splits: Of each image; '' for none.
        groups: Numbers that images of one video, and copies, share; shape (n,).
        strata: The rarest class on each image, -1 for none; shape (n,).
        synthetic: Which were made from others, bool of shape (n,): they are learnt from, and nothing else.
        parents: Synthetic images and the images they were made from, row numbers of shape (2, m).
        classes: Names of the classes that there are, in the dataset's order.
        notes: What had to be left out.
    """

    examples: list[Example]
    labelled: BoolArray
    splits: list[str]
    groups: IntArray
    strata: IntArray
    synthetic: BoolArray
    parents: IntArray
    classes: tuple[str, ...]
    notes: list[str]

    def take(self, rows: IntArray | BoolArray) -> list[Example]:
        """Some of the examples."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return [self.examples[k] for k in numbers.tolist()]

    def without_children(self, train: BoolArray, apart: BoolArray) -> BoolArray:
        """What may be trained on where other images are kept apart from it: no synthetic image that was made from those.

        Args:
            train: What would be trained on, shape (n,).
            apart: What is validated on, or predicted; the same shape.
        """
        kept = train.copy()
        children, parents = self.parents
        kept[children[apart[parents]]] = False
        return kept


@dataclass(frozen=True)
class Division:
    """Which images are trained on, and which decide what is best.

    Attributes:
        train: Row numbers in the material.
        validation: The same.
        how: In words: "split 'val'", '20% held out'.
    """

    train: IntArray
    validation: IntArray
    how: str


def load_material(
    dataset: Dataset,
    task: Task,
    layer: str,
    where: str | None,
    *,
    empty: bool = False,
    progress: Progress | None = None,
) -> Material:
    """Read what a training learns from.

    Args:
        dataset: At the commit that is trained on.
        task: What is learnt.
        layer: The labels.
        where: Which images; None for all.
        empty: Whether images without annotations are known to have nothing on them.
        progress: Told (files read, files to read) where files have to be read to see which are copies of which.

    Raises:
        UsageError: There is nothing to learn, or not for this task.
    """
    images = _read_images(dataset, where)
    notes: list[str] = []
    missing = int(images["path"].null_count)
    if missing == images.num_rows:
        raise UsageError(
            "not one of the images has a file", where=dataset.name, remedy="import again with --images FOLDER"
        )
    if missing:
        notes.append(f"{missing:,} images have no file and are left out")
        images = images.filter(pc.is_valid(images["path"]))
    annotations = _read_annotations(dataset, layer, images)
    usable = _USABLE[task](annotations, layer, notes)
    names = [info["name"] for info in dataset.commit.classes]
    classes = _classes(usable, names)
    if not classes:
        raise UsageError(
            "; ".join([f"the layer '{layer}' has nothing to learn for '{task}' on these images", *notes]),
            where=dataset.name,
            remedy=_found(annotations) + (", or import again with --images FOLDER" if missing else ""),
        )
    fill = _FILL[task]
    examples = fill(_bare(images), usable, _rows(usable, images), _codes(usable, classes))
    covered = np.zeros(len(examples), dtype=bool)
    covered[_rows(usable, images)] = True
    if not covered.all() and task != "classify":
        covered = _with_empty(covered, empty, notes)
    elif not covered.all():
        notes.append(f"{int((~covered).sum()):,} images have no label and are not learnt from")
    groups = image_groups(dataset, images, progress)
    return Material(
        examples, covered, [split or "" for split in images["split"].to_pylist()], groups,
        _strata(usable, images, classes), is_synthetic(images), parent_links(images), classes, notes,
    )  # fmt: skip


def divide(material: Material, validation: str | None, seed: int) -> Division:
    """Choose what is trained on and what validates; never anything of the test split.

    Args:
        material: All there is.
        validation: Name of a split, or a share ('0.2'; '0' for none); None for the split 'val' if there is one, else a share.
        seed: Of what is held out.

    Raises:
        UsageError: There is no such split, or nothing is left to learn from.
    """
    splits = np.asarray(material.splits)
    pool = material.labelled & (splits != TEST)
    real = pool & ~material.synthetic
    share = _share(validation)
    if share is None:
        name = validation or VALIDATION
        if name == TEST:
            raise UsageError(
                "the test split is not validated on: its numbers would be too good afterwards",
                where="--val",
                remedy="another split, or a share: --val 0.2",
            )
        chosen = real & (splits == name)
        if chosen.any():
            return _divided(material, pool & ~chosen, chosen, f"split '{name}'")
        if validation is not None:
            known = ", ".join(sorted({split for split in material.splits if split})) or "none"
            raise UsageError(f"no labelled image is in the split '{name}'", where="--val", remedy=f"splits: {known}")
        share = _LARGE_SHARE if real.sum() > _LARGE else _VALIDATION_SHARE
    chosen = held_out(material, pool, share, seed)
    return _divided(material, pool & ~chosen, chosen, f"{share:.0%} held out" if share else "none")


def held_out(material: Material, pool: BoolArray, share: float, seed: int) -> BoolArray:
    """A share of the real images of `pool`, groups kept whole; bool array of shape (n,)."""
    chosen = np.zeros(len(material.examples), dtype=bool)
    rows = np.flatnonzero(pool & ~material.synthetic)
    if share and len(rows):
        chosen[rows[hold_out(material.groups[rows], material.strata[rows], share, seed)]] = True
    return chosen


def _divided(material: Material, train: BoolArray, validation: BoolArray, how: str) -> Division:
    train = material.without_children(train, validation)
    if not train.any():
        raise UsageError(
            "no labelled image is left to learn from", where="--val", remedy="a smaller share, or loosen --where"
        )
    crossing = np.isin(material.groups[validation], material.groups[train]).sum()
    if crossing:
        how += f" ({int(crossing):,} of its images have a copy, or a frame of the same video, among those trained on)"
    return Division(np.flatnonzero(train), np.flatnonzero(validation), how)


def _share(validation: str | None) -> float | None:
    """The share that is asked for; None if it is a split's name."""
    try:
        share = float(validation or "")
    except ValueError:
        return None
    if not 0 <= share < 1:
        raise UsageError(f"a share of {share:g} cannot be held out", where="--val", remedy="from 0 to below 1")
    return share


def _read_images(dataset: Dataset, where: str | None) -> pa.Table:
    images = dataset.table("images", columns=_IMAGE_COLUMNS, where=where)
    if images.num_rows == 0:
        raise UsageError(
            "there are no images to learn from", where=where or dataset.name, remedy="loosen --where, or import images"
        )
    return _sorted(_without_strays(dataset, images), "image_id")


def _without_strays(dataset: Dataset, images: pa.Table) -> pa.Table:
    """The images but for synthetic ones of which a parent is measured on by now, because splits have changed since."""
    if not is_synthetic(images).any():
        return images
    rows = dataset.table("images", columns=["image_id", "split"], where="split IS NOT NULL").to_pylist()
    measured = {row["image_id"] for row in rows if is_measured_on(row["split"])}
    return images.filter(pa.array([measured.isdisjoint(parents) for parents in parent_ids(images)]))


def _read_annotations(dataset: Dataset, layer: str, images: pa.Table) -> pa.Table:
    annotations = dataset.table("annotations", columns=_ANNOTATION_COLUMNS, where=in_layer(layer))
    there = pc.is_in(annotations["image_id"], images["image_id"].combine_chunks())
    return _sorted(annotations.filter(there), "annotation_id")


def _sorted(table: pa.Table, column: str) -> pa.Table:
    return table.take(pa.array(np.argsort(from_ids(table[column]), kind="stable")))


def _found(annotations: pa.Table) -> str:
    counts = {row["values"]: row["counts"] for row in pc.value_counts(annotations["type"]).to_pylist()}
    has = ", ".join(f"{count:,} of type '{name}'" for name, count in counts.items()) or "no annotation"
    return f"it has {has}; name another --layer, --task or --where"


def _usable_labels(annotations: pa.Table, layer: str, notes: list[str]) -> pa.Table:
    """Labels of whole images, one for each.

    Raises:
        UsageError: An image has several.
    """
    labels = annotations.filter(pc.and_(pc.equal(annotations["type"], "label"), pc.is_valid(annotations["label"])))
    once = labels.select(["image_id", "label"]).group_by(["image_id", "label"]).aggregate([])
    several = len(once) - len(pc.unique(once["image_id"]))
    if several:
        raise UsageError(
            f"{several:,} images or more have several labels, and a classifier learns one of each",
            where=layer,
            remedy="choose images with --where, or the labels of one kind with another --layer",
        )
    first = np.unique(pc.index_in(labels["image_id"], pc.unique(labels["image_id"])).to_numpy(), return_index=True)[1]
    return labels.take(pa.array(np.sort(first)))


def _usable_boxes(annotations: pa.Table, layer: str, notes: list[str]) -> pa.Table:
    """Boxes with a class and an area."""
    boxed = annotations.filter(pc.and_(pc.is_valid(annotations["bbox"]), pc.is_valid(annotations["label"])))
    boxes = _boxes(boxed)
    possible = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    if not possible.all():
        notes.append(f"{int((~possible).sum()):,} boxes have no area and are left out ('curate mistakes' lists them)")
    return boxed.filter(pa.array(possible))


def _usable_regions(annotations: pa.Table, layer: str, notes: list[str]) -> pa.Table:
    """Polygons and masks with a class."""
    shaped = pc.or_(
        pc.is_valid(annotations["rle"]), pc.greater(pc.fill_null(pc.list_value_length(annotations["polygons"]), 0), 0)
    )
    kinds = pc.is_in(annotations["type"], pa.array(["polyline", "label"]))
    return annotations.filter(pc.and_(pc.and_(shaped, pc.invert(kinds)), pc.is_valid(annotations["label"])))


def _boxes(annotations: pa.Table) -> npt.NDArray[np.float64]:
    flat = annotations["bbox"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float64).reshape(-1, 4)


def _classes(usable: pa.Table, names: Sequence[str]) -> tuple[str, ...]:
    """The classes that occur, in the dataset's order; what the dataset does not list comes last."""
    there = set(pc.unique(usable["label"]).to_pylist())
    return (*(name for name in names if name in there), *sorted(there - set(names)))


def _bare(images: pa.Table) -> list[Example]:
    """The images without what is on them."""
    sizes = zip(images["height"].to_pylist(), images["width"].to_pylist(), strict=True)
    return [
        Example(image_id, path, None if height is None or width is None else (height, width))
        for image_id, path, (height, width) in zip(
            images["image_id"].to_pylist(), images["path"].to_pylist(), sizes, strict=True
        )
    ]


def _rows(annotations: pa.Table, images: pa.Table) -> IntArray:
    """Row of each annotation's image."""
    position = pc.index_in(annotations["image_id"], images["image_id"].combine_chunks())
    return np.asarray(position.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)


def _codes(annotations: pa.Table, classes: Sequence[str]) -> IntArray:
    """Number of each annotation's class."""
    codes = pc.index_in(annotations["label"], pa.array(classes, pa.string()))
    return np.asarray(codes.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)


def _fill_labels(examples: list[Example], usable: pa.Table, rows: IntArray, codes: IntArray) -> list[Example]:
    for row, code in zip(rows.tolist(), codes.tolist(), strict=True):
        examples[row] = replace(examples[row], label=code)
    return examples


def _fill_boxes(examples: list[Example], usable: pa.Table, rows: IntArray, codes: IntArray) -> list[Example]:
    boxes = _boxes(usable)
    crowd = np.asarray(pc.fill_null(usable["iscrowd"], False).to_numpy(), dtype=bool)
    for row, own in _by_image(rows, len(examples)):
        examples[row] = replace(examples[row], boxes=boxes[own], labels=codes[own], crowd=crowd[own])
    return examples


def _fill_regions(examples: list[Example], usable: pa.Table, rows: IntArray, codes: IntArray) -> list[Example]:
    polygons, texts, sizes = (usable[name].to_pylist() for name in ("polygons", "rle", "rle_size"))
    crowd = np.asarray(pc.fill_null(usable["iscrowd"], False).to_numpy(), dtype=bool)
    for row, own in _by_image(rows, len(examples)):
        regions = [
            polygons[k] if texts[k] is None else {"size": list(sizes[k]), "counts": texts[k]} for k in own.tolist()
        ]
        examples[row] = replace(examples[row], regions=regions, labels=codes[own], crowd=crowd[own])
    return examples


def _by_image(rows: IntArray, n: int) -> list[tuple[int, IntArray]]:
    """Each of n images with the numbers of its annotations; without any too."""
    order = np.argsort(rows, kind="stable")
    return list(enumerate(np.split(order, np.searchsorted(rows[order], np.arange(1, n)))))


def _with_empty(covered: BoolArray, empty: bool, notes: list[str]) -> BoolArray:
    """Which images are learnt from where some have no annotation."""
    count = int((~covered).sum())
    if empty:
        notes.append(f"{count:,} images have no annotation and are taken for empty")
        return np.ones_like(covered)
    notes.append(f"{count:,} images have no annotation and are not learnt from (--empty takes them for empty)")
    return covered


def image_groups(dataset: Dataset, images: pa.Table, progress: Progress | None = None) -> IntArray:
    """Images of one video or burst, of the same bytes, and what was found to be a copy, under one number.

    Args:
        dataset: Whose findings name the copies.
        images: Rows of its table of images with `image_id`, `group` and `path`, n of them.
        progress: Told (files read, files to read).

    Returns:
        The number of each image's group; shape (n,).
    """
    n = images.num_rows
    links = [_equal(images["group"]), _equal(_contents(images, progress)), _found_copies(dataset, images)]
    first, second = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _contents(images: pa.Table, progress: Progress | None) -> pa.ChunkedArray:
    """A hash of each image's file as it is now; null for what cannot be read.

    The dataset's own column of them is empty until copies are looked for, and says nothing of files that changed since.
    """
    paths = pc.unique(images["path"])
    hashes = content_hashes(paths.to_pylist(), progress=progress)
    return pa.chunked_array([hashes.take(pc.index_in(images["path"].combine_chunks(), value_set=paths))])


def _equal(column: pa.ChunkedArray) -> IntArray:
    """Each row with the first of the same value; shape (2, m)."""
    codes = column.combine_chunks().dictionary_encode().indices
    rows = np.flatnonzero(codes.is_valid().to_numpy(zero_copy_only=False))
    _, first, inverse = np.unique(codes.drop_null().to_numpy(), return_index=True, return_inverse=True)
    return np.stack([rows[first][inverse], rows])


def _found_copies(dataset: Dataset, images: pa.Table) -> IntArray:
    """Pairs of images that a check found to be copies, and nobody said were not; shape (2, m)."""
    kinds = ", ".join(f"'{kind}'" for kind in _COPIES)
    findings = dataset.table(
        "findings", columns=["image_id", "related"], where=f"kind IN ({kinds}) AND status <> 'rejected'"
    )
    related = findings["related"].combine_chunks()
    parents = findings["image_id"].take(pc.list_parent_indices(related))
    others = pc.struct_field(pc.list_flatten(related), "image_id")
    among = images["image_id"].combine_chunks()
    first, second = (pc.index_in(column, among) for column in (parents.combine_chunks(), others))
    both = pc.and_(first.is_valid(), second.is_valid())
    return np.stack([each.filter(both).to_numpy().astype(np.int64) for each in (first, second)])


def _strata(usable: pa.Table, images: pa.Table, classes: Sequence[str]) -> IntArray:
    """The rarest class on each image, -1 for none."""
    codes, rows = _codes(usable, classes), _rows(usable, images)
    rarity = np.argsort(np.argsort(np.bincount(codes, minlength=len(classes)), kind="stable"))
    order = np.argsort(-rarity[codes], kind="stable")  # what comes later, the rarer, stays
    strata = np.full(images.num_rows, _UNLABELLED, dtype=np.int64)
    strata[rows[order]] = codes[order]
    return strata


_USABLE: Final[Mapping[str, Callable[[pa.Table, str, list[str]], pa.Table]]] = {
    "classify": _usable_labels,
    "detect": _usable_boxes,
    "segment": _usable_regions,
}
_FILL: Final[Mapping[str, Callable[[list[Example], pa.Table, IntArray, IntArray], list[Any]]]] = {
    "classify": _fill_labels,
    "detect": _fill_boxes,
    "segment": _fill_regions,
}
