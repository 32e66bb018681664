"""Making the demo dataset: render, plant faults, write images, COCO files and truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.demo.copies import SPLITS, CopyKind, Labelled, choose_originals, picture_id, picture_name, plant_copy
from curate.demo.faults import DEFAULT, Fault, FaultRates, Truth, plant_faults
from curate.demo.pictures import Annotation, Picture
from curate.demo.render import DEFECT_LABELS, LABELS, Rendering, Shot, plan_shots, render
from curate.errors import UsageError
from curate.files import write_atomic

CATEGORY_IDS: Final = {"bolt": 1, "nut": 2, "washer": 3, "gear": 5, "bearing": 6, "scratch": 10, "dent": 11}
"""With gaps, as the ids of real sets are."""

MIN_IMAGES: Final = 10


@dataclass(frozen=True)
class PartsSet:
    """A rendered dataset on disk.

    Attributes:
        root: Its folder: `images/<split>/*.jpg`, `annotations/instances_<split>.json`, `truth.json`.
        truth: What was planted, and what is really there.
    """

    root: Path
    truth: Truth

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class: the parts, then their defects."""
        return LABELS

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have images."""
        present = {picture.split for picture in self.truth.pictures}
        return tuple(split for split in SPLITS if split in present)

    def annotation_file(self, split: str) -> Path:
        """The COCO file of a split, with the planted faults."""
        return annotation_path(self.root, split)


def make_parts(
    target: Path,
    *,
    images: int = 400,
    seed: int = 0,
    faults: FaultRates = DEFAULT,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> PartsSet:
    """Render `parts_v3`: machined parts on a conveyor, a bench or a tray, labelled with known faults.

    Args:
        target: Folder to write into; made if need be, else empty.
        images: How many image files, the planted copies among them; at least 10.
        seed: The same seed, size and rates give the same bytes, for any number of workers.
        faults: How much goes wrong.
        workers: Threads that draw.
        progress: Called with how many images are rendered, and how many there will be.

    Returns:
        The set.

    Raises:
        UsageError: Too few images, or the folder is not empty.
    """
    if images < MIN_IMAGES:
        raise UsageError(f"{images} images are too few to plant faults in", remedy=f"ask for {MIN_IMAGES} or more")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("the folder is not empty", where=target, remedy="choose a new one, or empty it first")
    counts: dict[CopyKind, int] = {
        "exact_duplicate": _share(faults.exact_duplicate, images),
        "near_duplicate": _share(faults.near_duplicate, images),
        "leak": _share(faults.leak, images),
    }
    rng, ids = np.random.default_rng([seed, 4]), _annotation_ids(seed)
    shots = plan_shots(images - sum(counts.values()), seed)
    shots, image_faults = _trouble(shots, _share(faults.dark, images), _share(faults.blurry, images), rng)

    pictures = _render_all(target, shots, seed, ids, workers, progress)
    spare = {fault.image for fault in image_faults}
    given, object_faults = plant_faults(pictures, faults, ids=ids, rng=rng, spare=spare)
    items = [
        Labelled(true, annotated, tuple(fault for fault in [*image_faults, *object_faults] if fault.image == true.file))
        for true, annotated in zip(pictures, given, strict=True)
    ]
    for kind, original in choose_originals(items, counts, spare=spare, rng=rng):
        items.append(plant_copy(target, kind, original, number=len(items), ids=ids, rng=rng))

    _write_coco(target, [item.given for item in items])
    truth = Truth(seed, tuple(f for item in items for f in item.faults), tuple(item.true for item in items))
    truth.save(target)
    return PartsSet(target, truth)


def annotation_path(root: Path, split: str) -> Path:
    """Where a split's COCO file is."""
    return root / "annotations" / f"instances_{split}.json"


def _share(rate: float, total: int) -> int:
    return max(1, round(rate * total)) if rate > 0 else 0


def _annotation_ids(seed: int) -> Iterator[int]:
    """Rising ids with gaps."""
    rng, last = np.random.default_rng([seed, 5]), 100
    while True:
        last += int(rng.integers(1, 6))
        yield last


def _trouble(shots: Sequence[Shot], dark: int, blurry: int, rng: np.random.Generator) -> tuple[list[Shot], list[Fault]]:
    """Make some single images dark and others blurred."""
    singles = [shot.index for shot in shots if shot.frames == 1]
    chosen = [int(k) for k in rng.permutation(singles)[: dark + blurry]]
    trouble = {index: "dark" if place < dark else "blurry" for place, index in enumerate(chosen)}
    faults = [Fault(trouble[shot.index], _file(shot)) for shot in shots if shot.index in trouble]
    return [replace(shot, trouble=trouble.get(shot.index)) for shot in shots], faults


def _file(shot: Shot) -> str:
    return f"images/{shot.split}/{picture_name(shot.camera, shot.index)}"


def _render_all(
    target: Path,
    shots: Sequence[Shot],
    seed: int,
    ids: Iterator[int],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> list[Picture]:
    """Draw and write every shot. Threads do: the time goes into numpy and OpenCV, which let others run meanwhile."""
    for split in SPLITS:
        (target / "images" / split).mkdir(parents=True, exist_ok=True)
    pictures = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for shot, rendering in zip(shots, pool.map(lambda shot: render(shot, seed), shots), strict=True):
            (target / _file(shot)).write_bytes(rendering.jpeg)
            pictures.append(_picture(shot, rendering, ids))
            if progress is not None:
                progress(len(pictures), len(shots))
    return pictures


def _picture(shot: Shot, rendering: Rendering, ids: Iterator[int]) -> Picture:
    return Picture(
        id=picture_id(shot.index),
        file=_file(shot),
        width=rendering.width,
        height=rendering.height,
        split=shot.split,
        camera=shot.camera,
        lighting=shot.lighting,
        background=shot.background,
        group=f"burst-{shot.scene:04d}" if shot.frames > 1 else None,
        frame=shot.frame,
        annotations=tuple(
            Annotation(next(ids), thing.label, thing.bbox, thing.counts, thing.area, thing.visible, thing.truncated)
            for thing in rendering.things
        ),
    )


def _write_coco(target: Path, pictures: Sequence[Picture]) -> None:
    """One COCO instances file per split."""
    (target / "annotations").mkdir(parents=True, exist_ok=True)
    categories = [
        {"id": CATEGORY_IDS[label], "name": label, "supercategory": "defect" if label in DEFECT_LABELS else "part"}
        for label in LABELS
    ]
    for split in SPLITS:
        members = [picture for picture in pictures if picture.split == split]
        if not members:
            continue
        value = {
            "info": {"description": "parts_v3: rendered machined parts with planted faults", "version": "3.0"},
            "licenses": [{"id": 1, "name": "CC0-1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
            "categories": categories,
            "images": [_coco_image(picture) for picture in members],
            "annotations": [_coco_annotation(picture, row) for picture in members for row in picture.annotations],
        }
        write_atomic(annotation_path(target, split), json.dumps(value, separators=(",", ":")).encode())


def _coco_image(picture: Picture) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": picture.id,
        "file_name": picture.name,
        "width": picture.width,
        "height": picture.height,
        "license": 1,
        "camera": picture.camera,
        "lighting": picture.lighting,
        "background": picture.background,
    }
    if picture.group is not None:
        row |= {"group": picture.group, "frame": picture.frame}
    return row


def _coco_annotation(picture: Picture, annotation: Annotation) -> dict[str, Any]:
    outline: dict[str, Any] | list[list[float]] = []
    if annotation.counts is not None:
        outline = {"size": [picture.height, picture.width], "counts": annotation.counts}
    return {
        "id": annotation.id,
        "image_id": picture.id,
        "category_id": CATEGORY_IDS[annotation.label],
        "bbox": list(annotation.bbox),
        "area": annotation.area,
        "iscrowd": 0,
        "segmentation": outline,
        "attributes": {
            "occluded": annotation.visible < 0.95 and not annotation.truncated,
            "truncated": annotation.truncated,
        },
    }
