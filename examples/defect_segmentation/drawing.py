"""What is wrong with masks, and what the line sees, as a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.demo.pictures import decode_mask
from curate.demo.scratched import ScratchedSet
from curate.imaging import Pixels, load_pixels
from examples.common import Row, stacked, tiles

_ZOOM = 3


def draw(masks: Path, suspects: list[Row], plates: ScratchedSet, told: dict[str, Row]) -> Image.Image:
    """The masks that are most surely wrong, and plates as the line sees them."""
    shown = []
    for row in suspects[:6]:
        region = row["evidence"].get("region", {})
        pixels = load_pixels(masks / row["image"])
        if "rle" in region:
            pixels = outlined(pixels, decode_mask(region["rle"], *region["size"]))
        shown.append((pixels, f"{row['kind'].replace('_', ' ')}\n{row['score']:.0%}"))
    seen = []
    for name, row in [(name, row) for name, row in told.items() if row["objects"]][:6]:
        pixels, thing = load_pixels(plates.root / "images" / "test" / name), row["objects"][0]
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[window(thing)] = 1
        asks = "\nask a person" if row["asks"] else f"\nscore {thing['score']:.2f}"
        seen.append((outlined(pixels, mask), f"{thing['label']} {thing['area_mm2']:.2f} mm2{asks}"))
    return stacked(tiles(shown), tiles(seen))


def outlined(pixels: Pixels, mask: npt.NDArray[np.uint8]) -> Pixels:
    drawn = np.kron(pixels, np.ones((_ZOOM, _ZOOM, 1), np.uint8))
    outlines, _ = cv2.findContours(
        np.kron(mask, np.ones((_ZOOM, _ZOOM), np.uint8)), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return np.asarray(cv2.drawContours(drawn, outlines, -1, (255, 40, 40), 2))


def window(thing: Row) -> tuple[slice, slice]:
    x, y, width, height = (round(side) for side in thing["bbox"])
    return slice(y, y + height), slice(x, x + width)
