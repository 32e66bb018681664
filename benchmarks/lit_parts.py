"""Rendered parts under four set-ups of lamps: whole images to be augmented, and the crops of parts that are told apart.

Everything is at half the rendered size, which the crops do not exhaust, so that augmenting is a quarter of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.demo import NONE, make_parts
from curate.demo.render import PART_LABELS
from curate.demo.shading import LIGHTINGS
from curate.imaging import Pixels, load_pixels

SETUPS: Final = LIGHTINGS
CLASSES: Final = PART_LABELS
SIDE: Final = 32
"""Of a crop, pixels."""

_MARGIN: Final = 1.1


@dataclass(frozen=True)
class Scene:
    """One image of parts.

    Attributes:
        pixels: At half its size.
        boxes: Of the parts, [x, y, width, height] in its pixels; float64 of shape (n, 4).
        labels: Numbers of their classes, int64 of shape (n,).
        setup: Of the lamps, one of `SETUPS`.
        group: Shared by the images of one scene.
    """

    pixels: Pixels
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    setup: str
    group: str


@dataclass(frozen=True)
class Division:
    """What one set-up is held out from.

    Attributes:
        sources: Labelled images of the other three set-ups, as many of each.
        target: Images of the fourth: without labels for a fit, with labels for the ceiling.
        test: Other scenes of the fourth.
    """

    sources: list[Scene]
    target: list[Scene]
    test: list[Scene]


def render_scenes(folder: Path, *, images: int, seed: int) -> list[Scene]:
    """Render `parts_v3` without faults into a folder, and read what this benchmark needs of it."""
    scenes = []
    for picture in make_parts(folder, images=images, seed=seed, faults=NONE).truth.pictures:
        parts = [each for each in picture.annotations if each.label in CLASSES]
        if not parts:
            continue
        whole = load_pixels(folder / picture.file)
        half = cv2.resize(whole, (picture.width // 2, picture.height // 2), interpolation=cv2.INTER_AREA)
        scenes.append(
            Scene(
                np.asarray(half),
                np.array([part.bbox for part in parts]) / 2,
                np.array([CLASSES.index(part.label) for part in parts]),
                picture.lighting,
                picture.group or picture.file,
            )
        )
    return scenes


def divide(scenes: Sequence[Scene], held_out: str, seed: int) -> Division:
    """Hold a set-up out: half of its scenes for the test, the other half as the target; of every other as many as these."""
    rng = np.random.default_rng([seed, SETUPS.index(held_out)])
    groups = rng.permutation(sorted({scene.group for scene in scenes if scene.setup == held_out}))
    tested = set(groups[: len(groups) // 2].tolist())
    ours = [scene for scene in scenes if scene.setup == held_out]
    target = [scene for scene in ours if scene.group not in tested]
    sources: list[Scene] = []
    for setup in SETUPS:
        if setup != held_out:
            there = [scene for scene in scenes if scene.setup == setup]
            sources += [there[k] for k in rng.permutation(len(there))[: len(target)]]
    return Division(sources, target, [scene for scene in ours if scene.group in tested])


def cut(pixels: Pixels, boxes: npt.NDArray[np.float64]) -> Pixels:
    """Square crops around boxes, a little larger than these; uint8 of shape (n, SIDE, SIDE, 3)."""
    crops = np.empty((len(boxes), SIDE, SIDE, 3), np.uint8)
    for crop, (x, y, width, height) in zip(crops, boxes.tolist(), strict=True):
        scale = SIDE / (_MARGIN * max(width, height))
        move = SIDE / 2 - scale * np.array([x + width / 2, y + height / 2])
        # Smaller pixels than the image's need no filter; larger ones, an average over what they cover.
        if scale < 1:
            sigma = 0.4 / scale
            left, top = (max(0, int(at - 8)) for at in (x - width, y - height))
            part = pixels[top : int(y + 2 * height + 8), left : int(x + 2 * width + 8)]
            source = cv2.GaussianBlur(part, (0, 0), sigma)
        else:
            left = top = 0
            source = pixels
        matrix = np.array([[scale, 0, move[0] + scale * left], [0, scale, move[1] + scale * top]])
        cv2.warpAffine(source, matrix, (SIDE, SIDE), dst=crop, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return crops
