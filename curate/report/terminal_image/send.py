"""A picture as what a terminal is sent to show it where the cursor is."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.imaging import Pixels
from curate.report.terminal_image.screen import Method, Screen
from curate.report.terminal_image.sixel import encode_sixel

_CHUNK: Final = 4096
"""Characters of base 64 that kitty takes at once."""

_CUBE: Final = np.array([0, 95, 135, 175, 215, 255])
_GREYS: Final = np.arange(8, 239, 10)
_FIRST_CUBE, _FIRST_GREY = 16, 232
"""Numbers of the colors that xterm and all others have: a cube of 6 x 6 x 6, then greys. Those before are the user's own."""


def encode_picture(picture: Image.Image, method: Method, screen: Screen, *, true_color: bool) -> str:
    """A picture for a terminal, with a line break at its end.

    Args:
        picture: RGB; for half-blocks a pixel for each half of a character.
        method: How it is shown.
        screen: What size a character has.
        true_color: Whether half-blocks may have any color, or one of 256.
    """
    if method == "blocks":
        return encode_blocks(np.asarray(picture), true_color=true_color)
    if method == "sixel":
        return encode_sixel(picture) + "\n"
    columns = max(1, round(picture.width / screen.cell[0]))
    return (encode_kitty if method == "kitty" else encode_iterm)(picture, columns) + "\n"


def encode_kitty(picture: Image.Image, columns: int) -> str:
    """A picture by kitty's protocol (https://sw.kovidgoyal.net/kitty/graphics-protocol/).

    Args:
        picture: RGB.
        columns: How many characters wide it is shown; its height follows.
    """
    text = _png(picture)
    parts = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
    # Transmit and show (a=T) a PNG (f=100); no reply (q=2), which would be typed into the shell; m=1 while more follows.
    first = f"a=T,f=100,q=2,c={columns},"
    keys = [f"{first if not number else ''}m={int(number < len(parts) - 1)}" for number in range(len(parts))]
    return "".join(f"\x1b_G{key};{part}\x1b\\" for key, part in zip(keys, parts, strict=True))


def encode_iterm(picture: Image.Image, columns: int) -> str:
    """A picture by iTerm2's protocol (https://iterm2.com/documentation-images.html).

    Args:
        picture: RGB.
        columns: How many characters wide it is shown; its height follows.
    """
    text = _png(picture)
    size = len(base64.b64decode(text))
    return f"\x1b]1337;File=inline=1;size={size};width={columns};preserveAspectRatio=1:{text}\x07"


def encode_blocks(pixels: Pixels, *, true_color: bool) -> str:
    """A picture as characters whose upper half has one color and whose lower half another, a line break after each line.

    Args:
        pixels: Array of shape (height, width, 3); of an odd height the last line has upper halves only.
        true_color: Whether any color may be named, or one of 256.
    """
    codes = _codes(pixels, true_color=true_color)
    lines = []
    for top in range(0, len(codes), 2):
        upper = codes[top]
        lower = codes[top + 1] if top + 1 < len(codes) else [""] * len(upper)
        line, before = "", ("", "")
        for colors in zip(upper, lower, strict=True):
            if colors != before:
                line += f"\x1b[38;{colors[0]}{';48;' if colors[1] else ''}{colors[1]}m"
                before = colors
            line += "▀"
        lines.append(f"{line}\x1b[0m\n")
    return "".join(lines)


def nearest_of_256(pixels: Pixels) -> npt.NDArray[np.int64]:
    """Number of the nearest color of xterm's cube and greys, by distance in RGB.

    Args:
        pixels: Array of shape (..., 3).

    Returns:
        Array of shape (...).
    """
    values = pixels.astype(np.int64)
    steps: npt.NDArray[np.int64] = np.abs(values[..., None] - _CUBE).argmin(axis=-1)
    # Of all greys the one nearest to a color is the one nearest to its mean.
    grey = np.abs(values.mean(axis=-1)[..., None] - _GREYS).argmin(axis=-1)
    off_cube = ((values - _CUBE[steps]) ** 2).sum(axis=-1)
    off_grey = ((values - _GREYS[grey][..., None]) ** 2).sum(axis=-1)
    cube = _FIRST_CUBE + 36 * steps[..., 0] + 6 * steps[..., 1] + steps[..., 2]
    return np.where(off_grey < off_cube, _FIRST_GREY + grey, cube)


def _codes(pixels: Pixels, *, true_color: bool) -> list[list[str]]:
    """What names each pixel's color in a control sequence."""
    if true_color:
        return [[f"2;{red};{green};{blue}" for red, green, blue in line] for line in pixels.tolist()]
    return [[f"5;{number}" for number in line] for line in nearest_of_256(pixels).tolist()]


def _png(picture: Image.Image) -> str:
    """A picture as PNG in base 64."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
