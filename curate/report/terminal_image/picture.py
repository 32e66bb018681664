"""The picture of a finding: what it is about with the lines on it, and beside it what it compares with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from curate.errors import ImageError
from curate.report.html.cards import GIVEN, REGION, SUGGESTED
from curate.report.html.outlines import CLOSED, POINTS, UNITS, Outline
from curate.report.html.pictures import Wanted, cut_window, open_windows
from curate.report.terminal_image.screen import Method, Screen

COLORS: Final[Mapping[str, tuple[int, int, int]]] = {
    GIVEN: (0xFF, 0xAB, 0x2E),
    SUGGESTED: (0x3F, 0xD7, 0xFF),
    REGION: (0xFF, 0x62, 0xC8),
}
"""Of lines, as in the report's page."""

_DASHES: Final[Mapping[str, tuple[int, int]]] = {SUGGESTED: (3, 2), REGION: (2, 1)}
"""How long dashes and the gaps between them are, in widths of the line; other lines have none."""

_HALO: Final = (20, 20, 20)
_STROKES: Final = 130
"""A picture's shorter side is so many lines wide."""
_SMALLER: Final = 0.75
"""How much lower a picture may become for another one to stand beside it, ..."""
_ENOUGH: Final = 240
"""... and pixels of its height that are enough in any case."""
_GAP: Final = 1 / 80
_MOST: Final = (1280, 800)
"""Pixels that are sent at most."""

Points = npt.NDArray[np.float64]
Drawn = Sequence[tuple[str, Sequence[Outline]]]
"""What outlines stand for, and those."""


@dataclass(frozen=True)
class Tile:
    """One picture of several beside one another.

    Attributes:
        pixels: RGB, at any size.
        outlines: In thousandths of its width.
    """

    pixels: Image.Image
    outlines: Drawn


def room_for(method: Method, screen: Screen) -> tuple[int, int]:
    """Width and height in pixels that a picture may have, so that it is seen together with what is said below it."""
    rows = max(1, 2 * screen.rows // 3)
    if method == "blocks":
        return screen.columns, 2 * rows
    return min(screen.columns * screen.cell[0], _MOST[0]), min(rows * screen.cell[1], _MOST[1])


def read_tile(wanted: Wanted, number: int, outlines: Drawn, side: int) -> Tile:
    """A picture that is wanted.

    Args:
        wanted: The pictures.
        number: Which of them.
        outlines: What is drawn on it.
        side: Pixels that it needs at most.

    Raises:
        ImageError: The image cannot be read.
    """
    image_id, window = wanted.windows[number]
    size = wanted.size(image_id)
    path = wanted.sources[image_id].path
    if size is None or path is None:
        raise ImageError("the image has no file here", where=wanted.sources[image_id].location)
    return Tile(cut_window(open_windows(path, size, [window], side), size, window, side), outlines)


def place_side_by_side(tiles: Sequence[Tile], room: tuple[int, int], *, least: int = 1) -> tuple[Image.Image, int]:
    """Several pictures of one height, as large as there is room for, with their outlines.

    Args:
        tiles: The first one matters most: of the others as many are shown as do not make it much smaller.
        room: Width and height in pixels.
        least: How many are shown in any case.

    Returns:
        The picture, and how many of the tiles are in it.
    """
    gap = max(1, round(room[0] * _GAP))
    ratios = [tile.pixels.width / tile.pixels.height for tile in tiles]
    heights = [
        min(room[1], (room[0] - gap * count) / sum(ratios[: count + 1]) if count else room[0] / ratios[0])
        for count in range(len(tiles))
    ]
    enough = min(_ENOUGH, _SMALLER * heights[0])
    count = max(number for number, height in enumerate(heights, start=1) if number <= least or height >= enough)
    height = max(1, int(heights[count - 1]))
    widths = [max(1, int(ratio * height)) for ratio in ratios[:count]]
    whole = Image.new("RGB", (min(room[0], sum(widths) + gap * (count - 1)), height))
    left = 0
    for tile, width in zip(tiles, widths, strict=False):
        picture = tile.pixels.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        draw_outlines(picture, tile.outlines)
        whole.paste(picture, (left, 0))
        left += width + gap
    return whole, count


def draw_outlines(picture: Image.Image, outlines: Drawn) -> None:
    """Draw lines onto a picture, each with a dark one below where there is room for both, so that it is seen on anything.

    Args:
        picture: RGB; it is changed.
        outlines: In thousandths of its width.
    """
    pen = ImageDraw.Draw(picture)
    stroke = max(1, round(min(picture.size) / _STROKES))
    lines = [
        (what, how, np.array(flat, np.float64).reshape(-1, 2) * (picture.width - 1) / UNITS)
        for what, parts in outlines
        for how, flat in parts
    ]
    if stroke > 1:
        for _, how, points in lines:
            _draw(pen, how, points, _HALO, 2 * stroke, None)
    for what, how, points in lines:
        _draw(pen, how, points, COLORS[what], stroke, _DASHES.get(what))


def _draw(
    pen: ImageDraw.ImageDraw, how: int, points: Points, color: Any, stroke: int, dashes: tuple[int, int] | None
) -> None:
    if how == POINTS:
        for x, y in points.tolist():
            pen.ellipse((x - stroke, y - stroke, x + stroke, y + stroke), outline=color, width=max(1, stroke // 2))
        return
    path = np.concatenate([points, points[:1]]) if how == CLOSED else points
    parts = [path] if dashes is None else _dashed(path, stroke * dashes[0], stroke * dashes[1])
    for part in parts:
        pen.line([tuple(point) for point in part.tolist()], fill=color, width=stroke, joint="curve")


def _dashed(path: Points, dash: float, gap: float) -> list[Points]:
    """Pieces of a line."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    pieces = []
    for start in np.arange(0.0, along[-1], dash + gap):
        end = min(start + dash, along[-1])
        stops = np.concatenate([[start], along[(along > start) & (along < end)], [end]])
        pieces.append(np.stack([np.interp(stops, along, path[:, axis]) for axis in (0, 1)], axis=1))
    return pieces
