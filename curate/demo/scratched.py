"""Metal surfaces seen from straight above, with scratches and dents: exact masks, a scale in mm, planted wrong masks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.demo.coco import Labelled, Region, write_coco
from curate.demo.defects import sample_defect
from curate.demo.parts import Part, Relief
from curate.demo.pictures import decode_mask
from curate.demo.render import DEFECT_LABELS, Camera, encode_jpeg, expose, sample_finish
from curate.demo.shading import LIGHTINGS, Field, sample_lighting
from curate.demo.sprites import Mask, Pose, draw_part
from curate.errors import UsageError
from curate.files import write_atomic
from curate.imaging import Pixels

SCRATCHED_TRUTH: Final = "surfaces.json"
MM_PER_PIXEL: Final = 0.05
"""Side of a pixel on the surface."""

WRONG_MASKS: Final = ("shifted", "eroded", "dilated", "mislabeled", "missing")

_UNIT: Final = 90.0  # pixels of a unit of `parts`, in a picture of 160
_METALS: Final = ("steel", "brass", "galvanised", "polished")
_SOUND: Final = 0.35  # of the pictures have no defect
_SMALLEST: Final = 24  # pixels of a defect
_OFF: Final = (0.5, 0.9)  # of a defect's narrower side, by which a shifted mask is off
_QUALITY: Final = 92


@dataclass(frozen=True)
class DefectTruth:
    """One defect as it really is.

    Attributes:
        label: 'scratch' or 'dent'.
        counts: Its mask's compressed COCO run lengths.
        area_mm2: Of the mask.
        wrong: What is wrong with how it is labelled, one of `WRONG_MASKS`; None where nothing is.
    """

    label: str
    counts: str
    area_mm2: float
    wrong: str | None = None


@dataclass(frozen=True)
class Surface:
    """One picture of a surface.

    Attributes:
        file: Path below the set's `images`, with forward slashes: 'train/00007.jpg'.
        split: 'train', 'val' or 'test'.
        lamp: The set-up of `shading.LIGHTINGS`.
        material: What the surface is made of.
        side: Of the picture, pixels.
        defects: What is on it.
    """

    file: str
    split: str
    lamp: str
    material: str
    side: int
    defects: tuple[DefectTruth, ...]


@dataclass(frozen=True)
class ScratchedSet:
    """A rendered set on disk: `images/SPLIT/*.jpg`, `annotations/instances_SPLIT.json` and `surfaces.json` in `root`."""

    root: Path
    surfaces: tuple[Surface, ...]


def make_scratched(
    target: Path,
    counts: Mapping[str, int],
    *,
    side: int = 160,
    lamps: Mapping[str, float] | None = None,
    wrong: float = 0.0,
    seed: int = 0,
    workers: int = 2,
) -> ScratchedSet:
    """Render surfaces, about a third of them without a defect.

    Args:
        target: Folder to write into; made if need be, else empty.
        counts: How many pictures of each split.
        side: Of the square pictures, pixels of `MM_PER_PIXEL` mm.
        lamps: Shares of the set-ups; None for all alike.
        wrong: Share of the defects outside of val and test whose label is wrong: moved, too small, too large, of the other
            class, or forgotten.
        seed: The same seed and counts give the same bytes, for any number of workers.
        workers: Threads that draw.

    Returns:
        The set.

    Raises:
        UsageError: The folder is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("the folder is not empty", where=target, remedy="choose a new one, or empty it first")
    shares = lamps or dict.fromkeys(LIGHTINGS, 1.0)
    surfaces: list[Surface] = []
    for split, count in counts.items():
        (target / "images" / split).mkdir(parents=True, exist_ok=True)

        def draw(number: int, split: str = split) -> Surface:
            rng = np.random.default_rng([seed, 7, *split.encode(), number])
            lamp = str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))
            return _write(target, split, number, lamp, side, rng)

        with ThreadPoolExecutor(max(1, workers)) as pool:
            drawn = list(pool.map(draw, range(count)))
        spoilt = _spoil(drawn, 0.0 if split in ("val", "test") else wrong, seed)
        labelled = [_labelled(surface, seed) for surface in spoilt]
        write_coco(target / "annotations" / f"instances_{split}.json", labelled, DEFECT_LABELS)
        surfaces += spoilt
    write_atomic(target / SCRATCHED_TRUTH, json.dumps([asdict(each) for each in surfaces], indent=0).encode())
    return ScratchedSet(target, tuple(surfaces))


def render_surface(
    lamp: str, rng: np.random.Generator, *, side: int = 160, defects: int = 1
) -> tuple[Pixels, list[tuple[str, Mask]], str]:
    """One metal surface.

    Args:
        lamp: One of `shading.LIGHTINGS`.
        rng: Of everything else.
        side: Of the picture, pixels.
        defects: How many it has; fewer where one is hardly to be seen.

    Returns:
        The picture, uint8 of shape (side, side, 3); class and mask of each defect, bool of shape (side, side), which may
        overlap; the material.
    """
    lighting = sample_lighting(lamp, rng)
    scale = _UNIT * side / 160
    plate = _plate(side / scale / 2, 0.5)
    damage = [sample_defect(_plate(side / scale / 2, rng.uniform(0.07, 0.16)), rng) for _ in range(defects)]
    finish = replace(sample_finish(plate, rng), rust=0.0)
    pose = Pose(side / 2, side / 2, scale, 0.0, 0.0, 0.0, (0.0, 0.0))
    sprite = draw_part(plate, tuple(each for each in damage if each is not None), pose, finish, lighting)
    window = slice(-sprite.top, side - sprite.top), slice(-sprite.left, side - sprite.left)
    camera = Camera(side, side, 0.6, rng.uniform(1.5, 2.5), (1.0, 1.0, 1.0), 1.0, _QUALITY)
    pixels = expose(sprite.light[window], camera, lighting, None, rng)
    found = [(label, mask[window]) for label, mask in sprite.defects]
    return pixels, [(label, mask) for label, mask in found if mask.sum() >= _SMALLEST], finish.material


def _plate(half: float, depth: float) -> Part:
    """A brushed sheet that reaches beyond the picture; defects are drawn as on a part so deep inside of its edge."""

    def relief(u: Field, v: Field) -> Relief:
        flat = np.zeros_like(u)
        return Relief(flat - np.float32(depth), flat, np.ones_like(u), flat)

    return Part("plate", "brushed", (half, half), 0.0, relief, False, _METALS)


def _write(target: Path, split: str, number: int, lamp: str, side: int, rng: np.random.Generator) -> Surface:
    count = 0 if rng.random() < _SOUND else int(rng.choice([1, 2], p=[0.75, 0.25]))
    pixels, found, material = render_surface(lamp, rng, side=side, defects=count)
    file = f"{split}/{number:05d}.jpg"
    (target / "images" / file).write_bytes(encode_jpeg(pixels, _QUALITY))
    defects = []
    for label, mask in found:
        region = Region.of_mask(label, mask)
        defects.append(DefectTruth(label, str(region.counts), round(region.area * MM_PER_PIXEL**2, 4)))
    return Surface(file, split, lamp, material, side, tuple(defects))


def _spoil(surfaces: Sequence[Surface], share: float, seed: int) -> list[Surface]:
    """Decide which defects get a wrong label, each kind as often as the others."""
    places = [(row, k) for row, surface in enumerate(surfaces) for k in range(len(surface.defects))]
    rng = np.random.default_rng([seed, 8])
    chosen = rng.permutation(len(places))[: round(share * len(places))]
    faults = {places[at]: WRONG_MASKS[turn % len(WRONG_MASKS)] for turn, at in enumerate(chosen.tolist())}
    return [
        replace(
            surface, defects=tuple(replace(each, wrong=faults.get((row, k))) for k, each in enumerate(surface.defects))
        )
        for row, surface in enumerate(surfaces)
    ]


def _labelled(surface: Surface, seed: int) -> Labelled:
    """A picture with its labels as given, the wrong ones among them."""
    regions = []
    for k, defect in enumerate(surface.defects):
        mask = decode_mask(defect.counts, surface.side, surface.side)
        rng = np.random.default_rng([seed, 9, *surface.file.encode(), k])
        region = _given(defect, mask, rng)
        if region is not None:
            regions.append(region)
    facts: dict[str, str | int | float] = {"lamp": surface.lamp, "material": surface.material, "mm": MM_PER_PIXEL}
    return Labelled(surface.file, surface.side, surface.side, tuple(regions), facts)


def _given(defect: DefectTruth, mask: npt.NDArray[np.uint8], rng: np.random.Generator) -> Region | None:
    """The label of a defect as somebody drew it; None where it was forgotten."""
    label = defect.label
    if defect.wrong == "missing":
        return None
    if defect.wrong == "mislabeled":
        label = DEFECT_LABELS[1 - DEFECT_LABELS.index(label)]
    thickness = 2 * float(cv2.distanceTransform(mask, cv2.DIST_L2, 5).max())
    drawn = mask
    if defect.wrong == "shifted":
        off = max(3.0, rng.uniform(*_OFF) * thickness)
        row, column = (np.flatnonzero(mask.any(axis=axis)).mean() for axis in (1, 0))
        # Towards the middle, so that it stays on the picture.
        angle = np.arctan2(mask.shape[0] / 2 - row, mask.shape[1] / 2 - column) + rng.uniform(-0.8, 0.8)
        move = np.array([[1, 0, off * np.cos(angle)], [0, 1, off * np.sin(angle)]])
        drawn = np.asarray(cv2.warpAffine(mask, move, mask.shape[::-1], flags=cv2.INTER_NEAREST))
    elif defect.wrong in ("eroded", "dilated"):
        reach = max(1, round(thickness / 5)) if defect.wrong == "eroded" else max(3, round(thickness / 4))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        drawn = np.asarray((cv2.erode if defect.wrong == "eroded" else cv2.dilate)(mask, kernel))
        if not drawn.any():  # too thin for that: half of it is left out
            drawn = mask * (np.arange(mask.shape[1]) <= np.flatnonzero(mask.any(axis=0)).mean()).astype(np.uint8)
    return Region.of_mask(label, drawn.astype(bool))
