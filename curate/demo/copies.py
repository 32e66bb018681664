"""Planting copies of images: exact, nearly so, and across splits. A copy has its original's annotations, right and wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np

from curate.demo.faults import Fault
from curate.demo.pictures import Annotation, BBox, Picture, decode_mask, encode_mask
from curate.demo.render import CAMERAS, encode_jpeg
from curate.imaging import load_pixels

SPLITS: Final = ("train", "val", "test")

CopyKind = Literal["exact_duplicate", "near_duplicate", "leak"]

_LEAST_LEFT = 0.5
"""Things of which the crop leaves less are no longer annotated."""


@dataclass(frozen=True)
class Labelled:
    """An image as it really is and as it is annotated, and the faults on it."""

    true: Picture
    given: Picture
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class _Change:
    """What was done to a near duplicate."""

    crop: tuple[int, int, int, int] = (0, 0, 0, 0)  # pixels cut off: left, top, right, bottom
    gain: float = 1.0
    quality: int = 90


def choose_originals(
    items: Sequence[Labelled], counts: dict[CopyKind, int], *, spare: set[str], rng: np.random.Generator
) -> list[tuple[CopyKind, Labelled]]:
    """Which images are copied how: single ones, each once, never one of those to spare."""
    fit = [item for item in items if item.true.group is None and item.true.file not in spare]
    order = iter(rng.permutation(len(fit)))
    return [(kind, fit[k]) for kind, count in counts.items() for _, k in zip(range(count), order, strict=False)]


def plant_copy(
    root: Path, kind: CopyKind, original: Labelled, *, number: int, ids: Iterator[int], rng: np.random.Generator
) -> Labelled:
    """Write a copy of an image.

    Args:
        root: The set's root; the original is there.
        kind: What sort of copy.
        original: The image, with its annotations as they are.
        number: The copy's number in the set; its name and id come from it.
        ids: New annotation ids.
        rng: Decides what is changed.

    Returns:
        The copy, with the fault that it is and those that it has from the original.
    """
    source = original.true
    split = source.split
    if kind == "leak":
        split = str(rng.choice([other for other in SPLITS if other != source.split]))
    file = f"images/{split}/{picture_name(source.camera, number)}"
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    if kind == "exact_duplicate":
        change = _Change()
        (root / file).write_bytes((root / source.file).read_bytes())
    else:
        change = _sample_change(CAMERAS[source.camera].quality, rng)
        (root / file).write_bytes(_changed((root / source.file), change))

    left, top, right, bottom = change.crop
    frame = replace(
        source,
        id=picture_id(number),
        file=file,
        split=split,
        width=source.width - left - right,
        height=source.height - top - bottom,
    )
    # One new id for what is one thing, in the truth and in the annotations.
    rows = {annotation.id: annotation for picture in (source, original.given) for annotation in picture.annotations}
    new_ids = {old: next(ids) for old in rows}
    true = replace(frame, annotations=_carried(source, change, new_ids))
    given = replace(frame, annotations=_carried(original.given, change, new_ids))
    faults = [Fault(kind, file, related_image=source.file)]
    if kind == "leak":
        faults.append(Fault("near_duplicate", file, related_image=source.file, detail="leak"))
    faults += _inherited(original.faults, file, new_ids, true, given)
    return Labelled(true, given, tuple(faults))


def picture_name(camera: str, number: int) -> str:
    """File name of the image with a number."""
    return f"{camera}_{number:05d}.jpg"


def picture_id(number: int) -> int:
    """Id of the image with a number; ids have gaps, as those of real sets do."""
    return 1000 + 3 * number + number // 7


def _sample_change(quality: int, rng: np.random.Generator) -> _Change:
    cropped = rng.random() < 0.5
    left, top, right, bottom = (int(v) for v in rng.integers(0, 16, 4)) if cropped else (0, 0, 0, 0)
    return _Change(
        crop=(left, top, right, bottom),
        gain=1 + rng.uniform(0.06, 0.16) if rng.random() < 0.7 else 1.0,
        quality=max(50, quality - int(rng.integers(8, 25))),
    )


def _changed(path: Path, change: _Change) -> bytes:
    pixels = load_pixels(path)
    left, top, right, bottom = change.crop
    pixels = pixels[top : pixels.shape[0] - bottom, left : pixels.shape[1] - right]
    return encode_jpeg(cv2.convertScaleAbs(pixels, alpha=change.gain), change.quality)


def _carried(picture: Picture, change: _Change, new_ids: dict[int, int]) -> tuple[Annotation, ...]:
    left, top, right, bottom = change.crop
    carried = []
    for old in picture.annotations:
        new = replace(old, id=new_ids[old.id])
        if change.crop == (0, 0, 0, 0):
            carried.append(new)
        elif old.counts is None:
            x, y, w, h = old.bbox
            moved: BBox = (x - left, y - top, w, h)
            carried.append(replace(new, bbox=moved))
        else:
            mask = decode_mask(old.counts, picture.height, picture.width)
            mask = mask[top : picture.height - bottom, left : picture.width - right]
            share = float(mask.sum()) / old.area
            if share >= _LEAST_LEFT:
                counts, bbox, area = encode_mask(mask)
                truncated = old.truncated or share < 1
                carried.append(
                    replace(
                        new,
                        counts=counts,
                        bbox=bbox,
                        area=area,
                        visible=round(old.visible * share, 4),
                        truncated=truncated,
                    )
                )
    return tuple(carried)


def _inherited(
    faults: Sequence[Fault], file: str, new_ids: dict[int, int], true: Picture, given: Picture
) -> list[Fault]:
    """The original's faults on annotations, as they are on the copy; without those that were cropped away."""
    really = {annotation.id: annotation for annotation in true.annotations}
    labelled = {annotation.id: annotation for annotation in given.annotations}
    inherited = []
    for fault in faults:
        annotation_id, object_id, related = (
            None if old is None else new_ids[old]
            for old in (fault.annotation_id, fault.object_id, fault.related_annotation_id)
        )
        gone = (object_id is not None and object_id not in really) or (
            annotation_id is not None and annotation_id not in labelled
        )
        if gone:
            continue
        where = (
            really[object_id]
            if object_id is not None
            else labelled[annotation_id]
            if annotation_id is not None
            else None
        )
        inherited.append(
            replace(
                fault,
                image=file,
                annotation_id=annotation_id,
                object_id=object_id,
                related_annotation_id=related,
                bbox=None if where is None else where.bbox,
            )
        )
    return inherited
