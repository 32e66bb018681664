"""A numbered picture from a seed, and many of them as one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.pretrain import textures
from benchmarks.pretrain.solids import Array, Piece, rotation
from benchmarks.pretrain.styles import STYLES, Body, bodies_of
from benchmarks.pretrain.things import CATEGORIES, FAMILIES, extent, thing
from curate.imaging import Pixels

SIDE: Final = 96
"""Width and height of a picture in pixels."""

_DRAWN: Final = 128
TEXTURE: Final = -1
"""The category of pictures without a thing."""

_EMPTY_SHARE: Final = 0.08
_SHARES: Final = np.array([share for _, _, share in STYLES])


@dataclass(frozen=True)
class Pictures:
    """Many pictures.

    Attributes:
        pixels: uint8 of shape (n, SIDE, SIDE, 3).
        category: int16 of shape (n,), in [0, CATEGORIES) or TEXTURE.
        style: int16 of shape (n,), a position in `STYLES`.
    """

    pixels: npt.NDArray[np.uint8]
    category: npt.NDArray[np.int16]
    style: npt.NDArray[np.int16]


def pictures(seed: int, numbers: Sequence[int]) -> Pictures:
    """The pictures of some numbers: the same for the same seed and numbers."""
    made = [picture(seed, number) for number in numbers]
    return Pictures(
        np.stack([pixels for pixels, _, _ in made]),
        np.array([category for _, category, _ in made], np.int16),
        np.array([style for _, _, style in made], np.int16),
    )


def picture(seed: int, number: int) -> tuple[Pixels, int, int]:
    """A picture, its category and its style."""
    rng = np.random.default_rng([seed, 2, number])
    style = int(rng.choice(len(STYLES), p=_SHARES / _SHARES.sum()))
    if rng.random() < _EMPTY_SHARE:
        canvas = textures.texture(rng, _DRAWN) if rng.random() < 0.6 else textures.landscape(rng, _DRAWN)
        return _finished(canvas), TEXTURE, 0
    category = int(rng.integers(CATEGORIES))
    bodies: list[Body] = []
    if rng.random() < 0.15:  # something else behind
        bodies += _scene(rng, int(rng.integers(CATEGORIES)), seed, largest=0.4)
    several = int(rng.choice([1, 1, 1, 1, 1, 1, 2, 3]))
    for _ in range(several):
        bodies += _scene(rng, category, seed, largest=1.15 if several == 1 else 0.6)
    canvas = STYLES[style][1](rng, bodies, textures.palette(rng, 6), _DRAWN)
    return _finished(canvas), category, style


def _scene(rng: np.random.Generator, category: int, seed: int, *, largest: float) -> list[Body]:
    """A variation of a category somewhere on the canvas."""
    solids, family = thing(category, rng, seed=seed)
    yaw = rng.uniform(-family.yaw, family.yaw)
    if family.upright:
        turn = rotation(yaw, rng.normal(-0.12, 0.12), rng.normal(0, 0.08))
    else:
        turn = rotation(
            yaw, rng.normal(0, 0.4), rng.uniform(-np.pi, np.pi) if rng.random() < 0.6 else rng.normal(0, 0.2)
        )
    found: list[Piece] = [piece for solid in solids for piece in solid.pieces(turn)]
    low, high = extent([piece.outline for piece in found])
    size = _DRAWN * largest * rng.uniform(0.55, 1.0) / max(float((high - low).max()), 1e-6)
    middle = (low + high) / 2
    room = np.maximum(_DRAWN - (high - low) * size, 0.15 * _DRAWN) / 2
    at = _DRAWN / 2 + rng.uniform(-1, 1, 2) * room
    squeeze = np.exp(rng.normal(0, 0.08, 2))
    flip = np.array([rng.choice([-1, 1]), 1])

    def place(outline: Array) -> Array:
        return np.asarray((outline - middle) * size * squeeze * flip + at)

    return bodies_of(found, place)


def _finished(canvas: textures.Float) -> Pixels:
    small = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray((small.clip(0, 1) * 255).round().astype(np.uint8))


def category_name(category: int) -> str:
    """Of a person's words for it: its family and number."""
    return (
        "texture" if category == TEXTURE else f"{FAMILIES[category % len(FAMILIES)].name} {category // len(FAMILIES)}"
    )
