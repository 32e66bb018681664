"""Which labelled images new ones may be made from: never those that a model is measured on, never other synthetic ones.

Where splits are known, those are the images of the split train: an image without a split among others that have one may have been
kept to test on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.augment.encoding import bits_of
from curate.augment.labels import Label, fault_of, read_labels
from curate.augment.targets import OPTION as TARGET_OPTION
from curate.augment.targets import Target
from curate.dataset import Dataset
from curate.dataset.ids import from_ids
from curate.dataset.synthetic import is_learnt_from, is_synthetic
from curate.dataset.synthetic import is_measured_on as is_measured_on
from curate.errors import ImageError, UsageError
from curate.imaging import read_header
from curate.wording import counted

OPTION: Final = "--from"

_MOST_BITS: Final = 8
_COLUMNS: Final = ("image_id", "location", "path", "width", "height", "split", "group", "metadata")


@dataclass(frozen=True)
class Parent:
    """A labelled image that new ones are made from.

    Attributes:
        image_id: Its id.
        location: As it was imported.
        path: Of its file.
        height: Pixels, after EXIF orientation.
        width: The same.
        split: Its split, which its children get; None for none.
        group: Its video or burst, the same.
        labels: Its ground truth.
    """

    image_id: str
    location: str
    path: str
    height: int
    width: int
    split: str | None
    group: str | None
    labels: tuple[Label, ...]


def labelled_images(dataset: Dataset, *, empty: bool = False, notes: list[str]) -> list[Parent]:
    """Every image that new ones may be made from, in the order of their ids: real, labelled, with a file, not measured on.

    Args:
        dataset: Their dataset.
        empty: Whether images without annotations are known to have nothing on them.
        notes: What was left out is added here.

    Raises:
        UsageError: There is none.
    """
    said: list[str] = []
    images = training_images(dataset, notes=said)
    labels = read_labels(dataset, images["image_id"].to_pylist())
    lacking = _Lacking()
    found = [_parent(row, labels.get(row["image_id"], ()), empty, lacking) for row in images.to_pylist()]
    parents = [parent for parent in found if parent is not None]
    said += lacking.notes()
    if not parents:
        raise UsageError(
            "no image can be made new ones from: they must be labelled, have a file, and be in the split train or in none at all",
            where=dataset.name,
            remedy="; ".join(said) or "put labelled images into the split train",
        )
    notes += said
    return parents


def choose_parents(dataset: Dataset, every: Sequence[Parent], target: Target | None, where: str | None) -> list[Parent]:
    """The images that new ones are made from.

    Args:
        dataset: Their dataset.
        every: What `labelled_images` gives.
        target: What is wanted more of. Without a condition its own images are left out, for they look as is wanted already;
            of a class, only images that show it are taken.
        where: SQL condition on the images; None for all that may be.

    Raises:
        UsageError: None is left, or the condition cannot be understood.
    """
    if where is not None:
        chosen = frozenset(dataset.table("images", columns=["image_id"], where=where)["image_id"].to_pylist())
    elif target is not None:
        inside = frozenset(target.image_ids.to_pylist())
        chosen = frozenset(
            each.image_id for each in every if (each.image_id in inside) == (target.class_name is not None)
        )
    else:
        return list(every)
    parents = [each for each in every if each.image_id in chosen]
    if not parents:
        raise UsageError(
            "no image is left to make new ones from",
            where=f"{OPTION} {where!r}"
            if where is not None
            else f"{TARGET_OPTION} {target.text!r}"
            if target
            else OPTION,
            remedy=f"{counted(len(every), 'images')} might be: real, labelled, in no split that is measured on; choose others "
            f"with {OPTION}",
        )
    return parents


def training_images(dataset: Dataset, *, notes: list[str]) -> pa.Table:
    """The real images that may be learnt from, sorted by id; columns image_id, location, path, width, height, split, group.

    Args:
        dataset: Their dataset.
        notes: What was left out for its split, but for those that are measured on, is added here.
    """
    images = dataset.table("images", columns=_COLUMNS)
    images = images.filter(pa.array(~is_synthetic(images))).drop_columns(["metadata"])
    found = pc.value_counts(images["split"]).to_pylist()
    counts = {each["values"]: each["counts"] for each in found if not is_measured_on(each["values"])}
    others = _left_out(counts, any(each["values"] is not None for each in found))
    if others:
        listed = ", ".join("none" if name is None else f"'{name}'" for name in others)
        count = sum(counts[name] for name in others)
        notes.append(
            f"{counted(count, 'images')} left out, for models may be measured on them (split: {listed}); those to learn from are "
            "in the split 'train' (curate leaks --resplit makes splits)"
        )
    taken = [name for name in counts if name not in others]
    kept = pc.is_in(images["split"], value_set=pa.array([name for name in taken if name is not None], pa.string()))
    images = images.filter(pc.or_(kept, pc.is_null(images["split"])) if None in taken else kept)
    return images.take(pa.array(np.argsort(from_ids(images["image_id"]), kind="stable")))


def _left_out(counts: Mapping[str | None, int], splits_known: bool) -> list[str | None]:
    """Of the splits that are not measured on, those that are not learnt from either.

    Where one is called train, all others; where only others have names, the images of none.
    """
    if any(is_learnt_from(name) for name in counts):
        return [name for name in counts if not is_learnt_from(name)]
    return [name for name in counts if name is None] if splits_known else []


@dataclass
class _Lacking:
    """How many images cannot be parents, and why."""

    unlabelled: int = 0
    files: int = 0
    deep: int = 0
    first_deep: str = ""
    faulty: int = 0
    first: str = ""

    def notes(self) -> list[str]:
        notes = []
        if self.unlabelled:
            notes.append(
                f"{counted(self.unlabelled, 'images')} without annotations left out (--empty takes them for empty)"
            )
        if self.files:
            notes.append(f"{counted(self.files, 'images')} without a file that can be read left out")
        if self.deep:
            notes.append(
                f"{counted(self.deep, 'images')} of more than {_MOST_BITS} bits a value left out, for new images have "
                f"{_MOST_BITS}; the first: {self.first_deep}"
            )
        if self.faulty:
            notes.append(
                f"{counted(self.faulty, 'images')} left out for a label that cannot be carried; the first: {self.first}"
            )
        return notes


def _parent(row: dict[str, Any], labels: Sequence[Label], empty: bool, lacking: _Lacking) -> Parent | None:
    if not labels and not empty:
        lacking.unlabelled += 1
        return None
    try:
        # What the file says: labels are in its pixels, whatever the annotation file stated.
        header = None if row["path"] is None else read_header(row["path"])
        bits = 0 if row["path"] is None else bits_of(row["path"])
    except ImageError:
        header = None
    if header is None:
        lacking.files += 1
        return None
    if bits > _MOST_BITS:
        lacking.deep += 1
        lacking.first_deep = lacking.first_deep or row["location"]
        return None
    for label in labels:
        fault = fault_of(label, header.height, header.width)
        if fault is not None:
            lacking.faulty += 1
            lacking.first = lacking.first or f"{row['location']}: {label.label or label.shape.type} {fault}"
            return None
    return Parent(
        row["image_id"],
        row["location"],
        row["path"],
        header.height,
        header.width,
        row["split"],
        row["group"],
        tuple(labels),
    )
