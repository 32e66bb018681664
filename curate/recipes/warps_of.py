"""What albumentations' moving transforms do to points, read from what they drew.

albumentations moves keypoints itself, but not all as it moves pixels (half a pixel off after `Resize`, by way of a picture of
distances after distortions), and boxes only as boxes. Its matrices and maps are of pixels' numbers; here they become warps of
continuous coordinates, in which the centre of pixel 0 is at 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from curate.recipes.warps import Array, Field, Homography, Size, Warp

Drawn = Mapping[str, Any]

_TO_NUMBERS: Final = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
_TO_CENTRES: Final = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
# By size: columns and rows swapped, mirrored along x, mirrored along y.
_D4: Final = {
    "e": (False, False, False),
    "r90": (True, False, True),
    "r180": (False, True, True),
    "r270": (True, True, False),
    "v": (False, False, True),
    "hvt": (True, True, True),
    "h": (False, True, False),
    "t": (True, False, False),
}
_TURNS: Final = ("e", "r90", "r180", "r270")


def warp_of(transform: Any, drawn: Drawn, before: Size, after: Size) -> Warp | None:
    """The warp that a transform has done; None where it moved nothing.

    Args:
        transform: Of albumentations, of a class in `MOVING`, or any other, which moves nothing.
        drawn: Its parameters of this time.
        before: Size of the image before.
        after: And after.
    """
    for kind in type(transform).__mro__:
        if kind.__name__ in MOVING:
            return MOVING[kind.__name__](transform, drawn, before, after)
    return None


def repeats_border(transform: Any) -> bool:
    """Whether a transform fills what no image covers with the image mirrored or repeated."""
    return getattr(transform, "border_mode", 0) in {2, 3, 4} and getattr(transform, "pad_if_needed", True)


def _symmetry(name: str, before: Size, after: Size) -> Homography | None:
    if name == "e":
        return None
    swaps, mirrors_x, mirrors_y = _D4[name]
    height, width = after
    linear = np.array([[0.0, 1.0], [1.0, 0.0]]) if swaps else np.eye(2)
    signs = np.array([-1.0 if mirrors_x else 1.0, -1.0 if mirrors_y else 1.0])
    matrix = np.eye(3)
    matrix[:2, :2] = signs[:, None] * linear
    matrix[:2, 2] = np.where(signs < 0, [width, height], 0)
    return Homography(matrix, before, after)


def _of_numbers(matrix: Any, before: Size, after: Size) -> Homography | None:
    """A matrix of pixels' numbers."""
    square = np.asarray(matrix, dtype=np.float64)
    if square.shape == (2, 3):
        square = np.vstack([square, [0, 0, 1]])
    # albumentations leaves the image as it is then.
    if np.allclose(square, np.eye(3)) and before == after:
        return None
    return Homography(_TO_CENTRES @ square @ _TO_NUMBERS, before, after)


def _scaled(before: Size, after: Size) -> Homography | None:
    if before == after:
        return None
    return Homography(np.diag([after[1] / before[1], after[0] / before[0], 1.0]), before, after)


def _cut(
    before: Size,
    after: Size,
    *,
    padded: Sequence[int] = (0, 0),
    crop: Sequence[int] | None = None,
    kept: Size | None = None,
) -> Homography:
    """Padding by (left, top), then the crop [x_min, y_min, ...], then scaling from the size kept to the one after."""
    left, top = np.asarray(padded) - (np.asarray(crop[:2]) if crop is not None else 0)
    matrix = np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1.0]])
    if kept is not None:
        matrix = np.diag([after[1] / kept[1], after[0] / kept[0], 1.0]) @ matrix
    return Homography(matrix, before, after)


def _crop(transform: Any, drawn: Drawn, before: Size, after: Size) -> Homography:
    x_min, y_min, x_max, y_max = (int(side) for side in drawn["crop_coords"])
    padding = drawn.get("pad_params") or {}
    padded = padding.get("pad_left", 0), padding.get("pad_top", 0)
    return _cut(before, after, padded=padded, crop=(x_min, y_min), kept=(y_max - y_min, x_max - x_min))


def _crop_and_pad(transform: Any, drawn: Drawn, before: Size, after: Size) -> Homography:
    top, _, left, _ = drawn["pad_params"] or (0, 0, 0, 0)
    return _cut(before, after, padded=(left, top), crop=drawn["crop_params"], kept=drawn["result_shape"][:2])


def _rotate(transform: Any, drawn: Drawn, before: Size, after: Size) -> Homography | None:
    if not transform.crop_border:
        return _of_numbers(drawn["matrix"], before, after)
    turned = _TO_CENTRES @ np.asarray(drawn["matrix"], dtype=np.float64) @ _TO_NUMBERS
    height, width = before
    cut = max(int(drawn["x_min"]), 0), max(int(drawn["y_min"]), 0)
    return Homography(_cut((height, width), after, crop=cut).matrix @ turned, before, after)


def _perspective(transform: Any, drawn: Drawn, before: Size, after: Size) -> Homography | None:
    matrix = np.asarray(drawn["matrix"], dtype=np.float64)
    if transform.keep_size:
        matrix = np.diag([before[1] / drawn["max_width"], before[0] / drawn["max_height"], 1.0]) @ matrix
    return _of_numbers(matrix, before, after)


def _field(transform: Any, drawn: Drawn, before: Size, after: Size) -> Field:
    source: Array = np.stack([drawn["map_x"], drawn["map_y"]], axis=-1).astype(np.float64) + 0.5
    return Field(source, before)


def _affine(transform: Any, drawn: Drawn, before: Size, after: Size) -> Homography | None:
    return _of_numbers(drawn["matrix"], before, after)


def _resize(transform: Any, drawn: Drawn, before: Size, after: Size) -> Homography | None:
    return _scaled(before, after)


def _pad(transform: Any, drawn: Drawn, before: Size, after: Size) -> Homography:
    return _cut(before, after, padded=(int(drawn["pad_left"]), int(drawn["pad_top"])))


def _named(name: str) -> Callable[[Any, Drawn, Size, Size], Homography | None]:
    return lambda transform, drawn, before, after: _symmetry(name, before, after)


MOVING: Final[Mapping[str, Callable[[Any, Drawn, Size, Size], Warp | None]]] = {
    "HorizontalFlip": _named("h"),
    "VerticalFlip": _named("v"),
    "Transpose": _named("t"),
    "D4": lambda transform, drawn, before, after: _symmetry(drawn["group_element"], before, after),
    "SquareSymmetry": lambda transform, drawn, before, after: _symmetry(drawn["group_element"], before, after),
    "RandomRotate90": lambda transform, drawn, before, after: _symmetry(_TURNS[drawn["factor"]], before, after),
    "Affine": _affine,
    "ShiftScaleRotate": _affine,
    "SafeRotate": _affine,
    "Rotate": _rotate,
    "Perspective": _perspective,
    "Resize": _resize,
    "RandomScale": _resize,
    "LongestMaxSize": _resize,
    "SmallestMaxSize": _resize,
    "Pad": _pad,
    "PadIfNeeded": _pad,
    "CropAndPad": _crop_and_pad,
    "Crop": _crop,
    "CenterCrop": _crop,
    "RandomCrop": _crop,
    "RandomCropFromBorders": _crop,
    "RandomSizedCrop": _crop,
    "RandomResizedCrop": _crop,
    "AtLeastOneBBoxRandomCrop": _crop,
    "BBoxSafeRandomCrop": _crop,
    "RandomSizedBBoxSafeCrop": _crop,
    "ElasticTransform": _field,
    "GridDistortion": _field,
    "OpticalDistortion": _field,
    "ThinPlateSpline": _field,
    "RollingShutter": _field,
}
"""How each transform that moves pixels is read. Those with a name that albumentations lacks are ours."""
