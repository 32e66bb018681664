"""Random changes of training images, with their boxes and masks, by albumentations (behind this file alone).

    change = Augmentation(strength=0.5, turns=False)
    changed = change(pixels, rng, boxes=boxes)
    labels = labels[changed.rows]

Strength 0 changes nothing and 1 is as much as is ever useful; in between all ranges grow with it. What is done: mirroring,
scale, shift and small turns; light, contrast and colour; and on some images blur, noise or JPEG compression. Quarter turns and
upside down are only for images that have no up (`flips='any'`). A recipe, a pipeline that `albumentations.save` wrote, takes
the place of all that.
"""

from __future__ import annotations

import os
import random
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from curate.errors import InputError, UsageError
from curate.imaging import Pixels

Flips = Literal["none", "horizontal", "any"]
"""How images may be turned over: not, left to right, or in all eight ways."""

FILL: Final = 114
"""Grey of the pixels that no image covers."""

_MOST_SEED: Final = 2**31
_YAML: Final = frozenset({".yaml", ".yml"})


@dataclass(frozen=True)
class Changed:
    """An image after a random change.

    Attributes:
        pixels: Of the size it had, unless a recipe says otherwise.
        boxes: [x, y, width, height] of the boxes that are still to be seen; float64 of shape (k, 4).
        rows: Which of the given boxes they are; int64 of shape (k,).
        masks: As many as were given, of the shape of the image.
    """

    pixels: Pixels
    boxes: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]
    masks: tuple[npt.NDArray[Any], ...] = ()


@dataclass(frozen=True)
class Augmentation:
    """A way to change images at random; may be called from several threads, and sent to other processes.

    Attributes:
        strength: 0 for none to 1.
        recipe: File of an albumentations pipeline (JSON or YAML) that is used in place of the strength.
        flips: How images may be turned over.
        turns: Whether they are turned by up to 15 degrees and slanted a little. Not where boxes are learnt: the box around
            a turned box is larger than the one around the thing in it.
        mask_fill: What masks are where no image is.
        min_visible: Share of a box's area that must still be on the image; other boxes are dropped.
    """

    strength: float = 0.5
    recipe: str | None = None
    flips: Flips = "horizontal"
    turns: bool = True
    mask_fill: int = 0
    min_visible: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"the strength of augmentation is {self.strength}", remedy="between 0 and 1")

    @classmethod
    def of(cls, augment: float | str, **options: Any) -> Augmentation:
        """From what a person asked for: a strength, or the path of a recipe, which is opened to see that it can be used.

        Raises:
            InputError: The recipe cannot be read.
            UsageError: The strength is not in [0, 1].
        """
        if not isinstance(augment, str):
            return cls(strength=float(augment), **options)
        chosen = cls(recipe=augment, **options)
        _pipeline(chosen)
        return chosen

    def __call__(
        self,
        pixels: Pixels,
        rng: np.random.Generator,
        *,
        boxes: npt.ArrayLike = (),
        masks: Sequence[npt.NDArray[Any]] = (),
    ) -> Changed:
        """Change an image and what is drawn on it alike.

        Args:
            pixels: The image.
            rng: Decides what happens; the same state gives the same change.
            boxes: [x, y, width, height] in pixels; shape (k, 4). What is outside of the image is cut off.
            masks: Arrays of shape (height, width), of bools or of integers of up to 16 bits; never blended.
        """
        height, width = pixels.shape[:2]
        corners, rows = _corners(boxes, height, width)
        seed = int(rng.integers(_MOST_SEED))  # also where nothing is done, so that what follows does not depend on it
        pipeline = _pipeline(self)
        if pipeline is None:
            return Changed(np.ascontiguousarray(pixels), _from_corners(corners), rows, tuple(masks))
        # One state for all steps: `set_random_seed` gives each a state of its own with the same seed, so that what is
        # mirrored would always be moved as well.
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        given = {"masks": [_plain(mask) for mask in masks]} if masks else {}
        found = pipeline(image=np.ascontiguousarray(pixels, dtype=np.uint8), bboxes=corners, rows=rows, **given)
        changed = tuple(
            np.ascontiguousarray(after, dtype=before.dtype)
            for before, after in zip(masks, found.get("masks", ()), strict=True)
        )
        left = _from_corners(np.asarray(found["bboxes"], dtype=np.float64).reshape(-1, 4))
        kept = np.asarray(found["rows"]).astype(np.int64).reshape(-1)
        return Changed(np.ascontiguousarray(found["image"]), left, kept, changed)


# A pipeline keeps its random state in itself, so each thread has its own.
_own = threading.local()


def _pipeline(augmentation: Augmentation) -> Any:
    """This thread's albumentations pipeline, made on first use; None where there is nothing to do."""
    if not augmentation.strength and augmentation.recipe is None:
        return None
    made: dict[Augmentation, Any] | None = getattr(_own, "pipelines", None)
    if made is None:
        made = _own.pipelines = {}
    if augmentation not in made:
        made[augmentation] = _make(augmentation)
    return made[augmentation]


def _make(augmentation: Augmentation) -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network at import whether there is a newer one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of boxes that a recipe of colours alone does not move, and of its versions
        import albumentations

        recipe = augmentation.recipe
        steps = _steps(augmentation) if recipe is None else _recipe(Path(recipe))
        boxes = albumentations.BboxParams(
            format="pascal_voc",
            label_fields=["rows"],
            clip=True,
            min_visibility=augmentation.min_visible,
            min_width=1,
            min_height=1,
        )
        return albumentations.Compose(steps, bbox_params=boxes)


def _steps(augmentation: Augmentation) -> list[Any]:
    import albumentations

    amount = augmentation.strength
    turned = {"none": [], "horizontal": [albumentations.HorizontalFlip(p=0.5)], "any": [albumentations.D4(p=1.0)]}[
        augmentation.flips
    ]
    angle, slant = (15 * amount, 5 * amount) if augmentation.turns else (0.0, 0.0)
    moved = albumentations.Affine(
        scale=(1 - 0.3 * amount, 1 + 0.4 * amount),
        translate_percent=(-0.1 * amount, 0.1 * amount),
        rotate=(-angle, angle),
        shear=(-slant, slant),
        fill=FILL,
        fill_mask=augmentation.mask_fill,
        p=0.8,
    )
    light = albumentations.ColorJitter(
        brightness=(1 - 0.4 * amount, 1 + 0.4 * amount),
        contrast=(1 - 0.4 * amount, 1 + 0.4 * amount),
        saturation=(1 - 0.4 * amount, 1 + 0.4 * amount),
        hue=(-0.04 * amount, 0.04 * amount),
        p=0.8,
    )
    worse = albumentations.OneOf(
        [
            albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.2, 0.2 + 1.8 * amount), p=1.0),
            albumentations.GaussNoise(std_range=(0.0, 0.08 * amount), p=1.0),
            albumentations.ImageCompression(quality_range=(round(95 - 60 * amount), 95), p=1.0),
        ],
        p=0.3 * amount,
    )
    return [*turned, moved, light, worse]


def _recipe(path: Path) -> list[Any]:
    """The steps in a file that `albumentations.save` wrote; it names classes of albumentations and nothing else."""
    import albumentations

    try:
        loaded = albumentations.load(path, data_format="yaml" if path.suffix in _YAML else "json")
    except Exception as error:  # of the file system, JSON, YAML, albumentations and pydantic
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"the recipe is not one that albumentations can read: {reason}",
            where=path,
            remedy="write it with albumentations.save(pipeline, path), or give a strength between 0 and 1",
        ) from error
    return list(loaded.transforms) if isinstance(loaded, albumentations.BaseCompose) else [loaded]


def _corners(boxes: npt.ArrayLike, height: int, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """[x0, y0, x1, y1] of the boxes as far as they are on the image, and which have any area there."""
    given = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    low, high = given[:, :2], given[:, :2] + given[:, 2:]
    corners = np.clip(np.concatenate([low, high], axis=1), 0, [width, height, width, height])
    rows = np.flatnonzero((corners[:, 2:] > corners[:, :2]).all(axis=1))
    return corners[rows], rows


def _from_corners(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _plain(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As OpenCV takes it."""
    return np.ascontiguousarray(mask, dtype=np.uint8 if mask.dtype == bool else mask.dtype)
