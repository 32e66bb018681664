"""What a file format is to the rest of curate: three functions and a name.

A format is one module, or one package where it takes several, with a module-level ``FORMAT``, and one line in
`curate.formats.registry`.
Readers and writers work on columns; nothing loops over annotations where an array will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa

from curate.dataset.schema import GROUND_TRUTH
from curate.errors import UsageError
from curate.formats.losses import LossReport


@dataclass(frozen=True)
class ClassInfo:
    """One class of a dataset.

    Attributes:
        name: As people wrote it; unique in a dataset.
        source_id: The category id its source gave it (COCO: any integer, 0 and gaps too), or None.
        supercategory: COCO's parent class, or None.
        keypoints: Names of its keypoints, in order.
        skeleton: Pairs of 1-based keypoint numbers (COCO).
        color: '#rrggbb', or None.
    """

    name: str
    source_id: int | None = None
    supercategory: str | None = None
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    color: str | None = None


@dataclass(frozen=True)
class ReadOptions:
    """What the user asked of an import.

    Attributes:
        layer: Where the annotations go.
        images: Folder of the images, where the format does not tell (COCO); None to look in the usual places.
        split: Split of every image, or None to take it from the source's layout.
        known_images: For a predictions file that names no images of its own (a COCO results file): the dataset's
            images table (columns image_id, location, source_id, width, height), else None.
        known_classes: With it, the dataset's classes (a results file names categories by id only).
        ids: With them, the COCO file whose images and categories the ids in a results file stand for; None for those that
            the dataset's own source gave.
        classes: File that lists the class names, one on each line, where the source does not say (a folder of masks).
        fps: Frames taken of each second of a video; None for every frame.
        files: Folder, not necessarily there yet, for image files that the source has inside (frames of a video, bytes in
            Parquet, pictures in LabelMe's JSON). It belongs to this source alone and lasts as long as the dataset. None
            where nothing may be kept: such images are then left without a file.
        variant: What the source is where it may be several things (YOLO: 'detect', 'segment', 'obb', 'pose' or
            'classify'); None to tell by what is in it.
    """

    layer: str = GROUND_TRUTH
    images: Path | None = None
    split: str | None = None
    known_images: pa.Table | None = None
    known_classes: Sequence[ClassInfo] = ()
    ids: Path | None = None
    classes: Path | None = None
    fps: float | None = None
    files: Path | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Records:
    """What a reader found.

    Attributes:
        images: Table with the columns of `curate.dataset.schema.IMAGES`.
        annotations: Tables with the columns of `curate.dataset.schema.ANNOTATIONS`, in pieces so that a large file need
            not be in memory twice. May be iterated once.
        classes: In the source's order. Complete before `annotations` is iterated.
        info: What the source says of itself (COCO's info and licenses), JSON-ready. Complete after `annotations` is
            iterated. Where a dataset has dictionaries with the same key ending in ``_fields``, they are merged.
        layers: The layers that `annotations` are in, where the source has more than the one asked for (Label Studio keeps
            predictions beside annotations); empty for that one.
    """

    images: pa.Table
    annotations: Iterable[pa.Table]
    classes: list[ClassInfo] = field(default_factory=list)
    info: dict[str, object] = field(default_factory=dict)
    layers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Export:
    """What a writer gets: a consistent view of (part of) a dataset. Layers are chosen by the caller.

    Attributes:
        images: Table with the columns of `curate.dataset.schema.IMAGES`, in the dataset's order.
        annotations: Table with the columns of `curate.dataset.schema.ANNOTATIONS`; every image_id is in `images`.
        classes: The dataset's classes, in order.
        info: As imported.
    """

    images: pa.Table
    annotations: pa.Table
    classes: list[ClassInfo]
    info: dict[str, object]


@dataclass(frozen=True)
class WriteOptions:
    """What the user asked of an export.

    Attributes:
        images: 'copy' or 'link' (a hard link, else a symbolic link) the image files into the target in the format's
            own layout, or 'none' to write annotations only.
        variant: A format's own choice (YOLO: 'detect', 'segment' or 'obb'; COCO: 'results'); None lets it decide.
    """

    images: Literal["copy", "link", "none"] = "none"
    variant: str | None = None


@dataclass(frozen=True)
class Detection:
    """A format's claim that a path is its own.

    Attributes:
        confidence: In [0, 1]: 1 is certain (a signature that no other format has), 0.5 is plausible.
        reason: What was seen, for the user: "data.yaml with 'names'; 299 label files".
    """

    confidence: float
    reason: str


def only_read(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """The writer of a format that curate only reads.

    Raises:
        UsageError: Always.
    """
    raise UsageError("this format can be read, but not written", remedy="choose another with --format")


@dataclass(frozen=True)
class Format:
    """One file format: a name and three functions.

    Attributes:
        name: What the user types after --format.
        detect: Whether a file or folder looks like this format. Looks at names and a few kilobytes only; never raises.
        read: Read a file or folder. Raises `FormatError` where nothing can be read from it; what can be left out goes into
            the loss report instead.
        write: Write into an empty folder that the caller made and moves into place when this returns. What the format
            cannot say goes into the loss report. `only_read` for a format that curate only reads.
        holds_layers: Whether one file can hold ground truth and predictions side by side, so that an export may have both.
    """

    name: str
    detect: Callable[[Path], Detection | None]
    read: Callable[[Path, ReadOptions, LossReport], Records]
    write: Callable[[Export, Path, WriteOptions, LossReport], None] = only_read
    holds_layers: bool = False

    @property
    def is_written(self) -> bool:
        """Whether curate writes this format, beside reading it."""
        return self.write is not only_read


def merge_classes(lists: Iterable[Sequence[ClassInfo]], losses: LossReport) -> list[ClassInfo]:
    """One list of classes from several sources: first come first, names unique.

    A class whose category id differs between sources, or whose id another class already has, keeps the first (and is
    reported as converted), so that ids stay unique.
    """
    merged: dict[str, ClassInfo] = {}
    taken: set[int] = set()
    for info in _flatten(lists):
        known = merged.get(info.name)
        if known is not None:
            if info.source_id is not None and info.source_id != known.source_id:
                losses.converted("classes", "category id differs between sources; the first is kept", info.name)
            continue
        if info.source_id is not None and info.source_id in taken:
            losses.converted("classes", "category id already belongs to another class", info.name)
            info = replace(info, source_id=None)
        if info.source_id is not None:
            taken.add(info.source_id)
        merged[info.name] = info
    return list(merged.values())


def _flatten(lists: Iterable[Sequence[ClassInfo]]) -> Iterator[ClassInfo]:
    for classes in lists:
        yield from classes
