"""Random changes of training images, with their boxes and masks.

    change = Augmentation(strength=0.5, turns=False)
    changed = change(pixels, rng, boxes=boxes)
    labels = labels[changed.rows]

Strength 0 changes nothing and 1 is as much as is ever useful; in between all ranges grow with it. What is done: mirroring,
scale, shift and small turns; light, contrast and colour; and on some images blur, noise or JPEG compression. Quarter turns and
upside down are only for images that have no up (`flips='any'`). A recipe (`curate.recipes`), by its name or in a file, takes the
place of all that.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from curate.errors import InputError, UsageError
from curate.imaging import Pixels

# Imported where they are used: albumentations takes two seconds.
if TYPE_CHECKING:
    from curate.recipes import Pipeline, Recipe, Step

Flips = Literal["none", "horizontal", "any"]
"""How images may be turned over: not, left to right, or in all eight ways."""

FILL: Final = 114
"""Grey of the pixels that no image covers."""

_LEAST_SIDE: Final = 1.0
"""Pixels. Boxes that are smaller than this on the changed image are dropped."""


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
        recipe: Name or file of a recipe that is used in place of the strength.
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
        """From what a person asked for: a strength, or the name or path of a recipe, which is opened to see that it can be used.

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
        inside, rows = _on_image(boxes, *pixels.shape[:2])
        pipeline = _pipeline(self)
        if pipeline is None:
            rng.integers(2**31)  # also where nothing is done, so that what follows does not depend on it
            return Changed(np.ascontiguousarray(pixels), inside, rows, tuple(masks))
        from curate.recipes.labels import move_boxes
        from curate.recipes.warps import Window, origin

        drawing = pipeline.draw(pixels, rng, boxes=inside, labelled=bool(len(inside) or masks))
        if not drawing.warps:
            return Changed(drawing.pixels, inside, rows, tuple(masks))
        moved, visible = move_boxes(inside, drawing.warps)
        kept = (visible >= self.min_visible) & (moved[:, 2:] >= _LEAST_SIDE).all(axis=1)
        height, width = drawing.pixels.shape[:2]
        shown = origin(drawing.warps, Window(0, 0, width, height)) if masks else None
        changed = () if shown is None else tuple(shown.take(mask, self._fill(mask)) for mask in masks)
        return Changed(drawing.pixels, moved[kept], rows[kept], changed)

    def _fill(self, mask: npt.NDArray[Any]) -> Any:
        return bool(self.mask_fill > 0) if mask.dtype == np.bool_ else self.mask_fill


# A pipeline is made once in each process, not sent with every augmentation.
_made: dict[Augmentation, Pipeline] = {}
_making = threading.Lock()


def _pipeline(augmentation: Augmentation) -> Pipeline | None:
    """The recipe of an augmentation made ready; None where there is nothing to do."""
    if not augmentation.strength and augmentation.recipe is None:
        return None
    with _making:
        if augmentation not in _made:
            from curate.recipes import Pipeline

            _made[augmentation] = Pipeline(_recipe(augmentation))
        return _made[augmentation]


def _recipe(augmentation: Augmentation) -> Recipe:
    from curate.recipes import Recipe, load_recipe

    if augmentation.recipe is None:
        return Recipe(f"strength {augmentation.strength:g}", _steps(augmentation))
    try:
        return load_recipe(augmentation.recipe)
    except InputError as error:
        remedy = "; ".join([*([error.remedy] if error.remedy else []), "or give a strength between 0 and 1"])
        raise InputError(error.what, where=error.where, remedy=remedy) from error


def _steps(augmentation: Augmentation) -> tuple[Step, ...]:
    from curate.recipes import Step

    amount = augmentation.strength
    turned = {"none": (), "horizontal": (Step("HorizontalFlip", p=0.5),), "any": (Step("D4"),)}[augmentation.flips]
    angle, slant = (15 * amount, 5 * amount) if augmentation.turns else (0.0, 0.0)
    moved = {
        "scale": [1 - 0.3 * amount, 1 + 0.4 * amount],
        "translate_percent": [-0.1 * amount, 0.1 * amount],
        "rotate": [-angle, angle],
        "shear": [-slant, slant],
        "fill": FILL,
    }
    around_one = [1 - 0.4 * amount, 1 + 0.4 * amount]
    light = {
        "brightness": around_one,
        "contrast": around_one,
        "saturation": around_one,
        "hue": [-0.04 * amount, 0.04 * amount],
    }
    worse = (
        Step("GaussianBlur", {"blur_limit": 0, "sigma_limit": [0.2, 0.2 + 1.8 * amount]}),
        Step("GaussNoise", {"std_range": [0.0, 0.08 * amount]}),
        Step("ImageCompression", {"quality_range": [round(95 - 60 * amount), 95]}),
    )
    return (
        *turned,
        Step("Affine", moved, p=0.8),
        Step("ColorJitter", light, p=0.8),
        Step("OneOf", p=0.3 * amount, steps=worse),
    )


def _on_image(boxes: npt.ArrayLike, height: int, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """[x, y, width, height] of the boxes as far as they are on the image, and which have any area there."""
    given = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    low = np.clip(given[:, :2], 0, [width, height])
    high = np.clip(given[:, :2] + given[:, 2:], 0, [width, height])
    rows = np.flatnonzero((high > low).all(axis=1))
    return np.concatenate([low, high - low], axis=1)[rows], rows
