"""Four kinds of washers that differ in one small place: what fine-grained classification is about, with the place known.

A `plain` washer is whole; a `split` one is cut through, a `keyed` one has a slot in its bore, a `notched` one in its rim. All lie
on a conveyor under a ring lamp, the slot to the right, give or take a quarter turn. Each picture is drawn twice, once as the
kind it shows and once as a plain washer, with the same lamp, ground, finish and pose: where the two differ is the place that
tells the kind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from curate.demo.crops import draw_crop
from curate.demo.parts import Part, Relief
from curate.demo.render import encode_jpeg
from curate.demo.shading import Field
from curate.demo.sprites import Mask
from curate.errors import UsageError
from curate.files import write_atomic
from curate.imaging import Pixels

WASHERS: Final = ("plain", "split", "keyed", "notched")
WASHERS_TRUTH: Final = "washers.json"

_ALIKE: Final = {"plain": "notched", "notched": "plain", "split": "keyed", "keyed": "split"}
"""The kind that one is taken for by somebody who looks once."""

_LAMP: Final = "ring"
_TURN: Final = np.pi / 2
_QUALITY: Final = 92
_SEEN: Final = 12  # of 255, by which a pixel must differ


@dataclass(frozen=True)
class Washer:
    """One picture as it really is.

    Attributes:
        file: Path below the set's `images`, with forward slashes: 'train/00007.jpg'.
        split: 'train', 'val', 'test' or another.
        label: What it shows.
        given: What it is labelled.
        place: Pixels that tell it from a plain washer: (left, top, right, bottom), the latter two excluded; None for a plain one.
    """

    file: str
    split: str
    label: str
    given: str
    place: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class WashersSet:
    """A rendered set on disk: `images/SPLIT/*.jpg` and `washers.json` in `root`."""

    root: Path
    washers: tuple[Washer, ...]


def make_washers(
    target: Path, counts: Mapping[str, int], *, side: int = 64, wrong: float = 0.0, seed: int = 0, workers: int = 2
) -> WashersSet:
    """Render washers, as many of each kind to within one.

    Args:
        target: Folder to write into; made if need be, else empty.
        counts: How many pictures of each split.
        side: Of the square pictures, pixels.
        wrong: Share of the pictures outside of val and test that are labelled as the kind that looks most like theirs.
        seed: The same seed and counts give the same bytes, for any number of workers.
        workers: Threads that draw.

    Returns:
        The set.

    Raises:
        UsageError: The folder is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("the folder is not empty", where=target, remedy="choose a new one, or empty it first")
    washers: list[Washer] = []
    for split, count in counts.items():
        (target / "images" / split).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, 8, *split.encode()])
        kinds = [str(kind) for kind in rng.permutation(np.resize(WASHERS, count))]
        swapped = set(rng.permutation(count)[: round((0.0 if split in ("val", "test") else wrong) * count)].tolist())

        def draw(number: int, split: str, kinds: Sequence[str], swapped: set[int]) -> Washer:
            kind = kinds[number]
            pixels, place = render_washer(kind, np.random.default_rng([seed, 8, *split.encode(), number]), side=side)
            file = f"{split}/{number:05d}.jpg"
            (target / "images" / file).write_bytes(encode_jpeg(pixels, _QUALITY))
            return Washer(file, split, kind, _ALIKE[kind] if number in swapped else kind, _bounds(place))

        with ThreadPoolExecutor(max(1, workers)) as pool:
            washers += pool.map(partial(draw, split=split, kinds=kinds, swapped=swapped), range(count))
    write_atomic(target / WASHERS_TRUTH, json.dumps([asdict(each) for each in washers], indent=0).encode())
    return WashersSet(target, tuple(washers))


def render_washer(kind: str, rng: np.random.Generator, *, side: int = 64) -> tuple[Pixels, Mask]:
    """One washer.

    Args:
        kind: One of `WASHERS`.
        rng: Of everything else.
        side: Of the picture, pixels.

    Returns:
        The picture, uint8 of shape (side, side, 3), and where it differs from the same washer without a slot, bool of shape
        (side, side).
    """
    number = int(rng.integers(1 << 62))
    pixels, plain = (_draw(each, np.random.default_rng(number), side) for each in (kind, "plain"))
    differs: Mask = np.abs(pixels.astype(np.int16) - plain).max(axis=2) > _SEEN
    return pixels, differs


def _draw(kind: str, rng: np.random.Generator, side: int) -> Pixels:
    drawn, _ = draw_crop(partial(_washer, kind), _LAMP, rng, side=side, surfaces=("conveyor",), angles=(-_TURN, _TURN))
    return drawn


def _washer(kind: str, rng: np.random.Generator) -> Part:
    """A flat ring; every kind draws the same numbers."""
    hole = rng.uniform(0.46, 0.58)
    half = rng.uniform(0.13, 0.19)  # of the slot's width
    thickness = rng.uniform(0.10, 0.18)
    rounding = rng.uniform(0.03, 0.08)
    middle = (1 + hole) / 2
    inner, outer = {"plain": (2.0, 2.0), "split": (0.0, 2.0), "keyed": (0.0, middle), "notched": (middle, 2.0)}[kind]

    def relief(u: Field, v: Field) -> Relief:
        r = np.sqrt(u * u + v * v)
        slot = np.maximum(np.maximum(inner - r, r - outer), np.maximum(np.abs(v) - half, -u))
        edge = np.maximum(np.maximum(r - 1, hole - r), -slot)
        t = np.clip(1 + edge / rounding, 0, 1)
        return Relief(edge, thickness * np.sqrt(1 - t * t), np.ones_like(u), np.zeros_like(u))

    return Part("washer", kind, (1, 1), thickness, relief, True, ("steel", "galvanised"))


def _bounds(place: Mask) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(place.any(axis=1)), np.flatnonzero(place.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
