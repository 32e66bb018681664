"""What terminals do with pictures that they are sent, written from the descriptions and not from what sends them."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.int64]

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Characters that are commands to a terminal rather than text."""

_SIXEL = re.compile(rb"\x1bP[\d;]*q(.*?)\x1b\\", re.DOTALL)
_COMMAND = re.compile(rb'"[\d;]+|#[\d;]+|!\d+.|[$\-]|[?-~]')
_KITTY = re.compile(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\")
_ITERM = re.compile(rb"\x1b\]1337;File=([^:]*):([^\x07]*)\x07")
_STYLE = re.compile(r"\x1b\[([\d;]*)m|(.)")


class Terminal(io.StringIO):
    """Output that takes itself for a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def sixel_pixels(sent: bytes) -> Array:
    """The picture of the only sixel string in what was sent: array of shape (height, width, 3), -1 where nothing was drawn."""
    (body,) = _SIXEL.findall(sent)
    assert b"".join(_COMMAND.findall(body)) == body, "there is something in it that is not sixel"
    colors: dict[int, list[int]] = {}
    canvas = np.full((0, 0, 3), -1, np.int64)
    left = top = register = 0
    for command in _COMMAND.findall(body):
        kind, rest = command[:1], command[1:]
        if kind == b'"':
            _, _, width, height = map(int, rest.split(b";"))
            canvas = np.full((height, width, 3), -1, np.int64)
        elif kind == b"#":
            register, *color = map(int, rest.split(b";"))
            if color:
                assert color[0] == 2
                assert all(0 <= part <= 100 for part in color[1:])
                colors[register] = [round(part * 2.55) for part in color[1:]]
        elif kind == b"$":
            left = 0
        elif kind == b"-":
            left, top = 0, top + 6
        else:
            count, bits = (int(rest[:-1]), rest[-1] - 63) if kind == b"!" else (1, command[0] - 63)
            for row in range(6):
                if bits >> row & 1:
                    assert top + row < len(canvas), "a pixel lies below the picture"
                    canvas[top + row, left : left + count] = colors[register]
            left += count
            assert left <= canvas.shape[1], "a pixel lies right of the picture"
    return canvas


def kitty_pixels(sent: bytes) -> Array:
    """The picture of the only one that kitty was sent."""
    parts = _KITTY.findall(sent)
    keys = [dict(pair.split(b"=") for pair in head.split(b",")) for head, _ in parts]
    assert keys[0][b"a"] == b"T"
    assert keys[0][b"f"] == b"100"
    assert [each[b"m"] for each in keys] == [b"1"] * (len(keys) - 1) + [b"0"]
    assert all(len(each) == 1 for each in keys[1:])
    assert all(0 < len(text) <= 4096 for _, text in parts)
    assert all(len(text) % 4 == 0 for _, text in parts)
    return _pixels(base64.b64decode(b"".join(text for _, text in parts), validate=True))


def iterm_pixels(sent: bytes) -> Array:
    """The picture of the only one that iTerm2 was sent."""
    ((head, text),) = _ITERM.findall(sent)
    keys = dict(pair.split(b"=") for pair in head.split(b";"))
    data = base64.b64decode(text, validate=True)
    assert keys[b"inline"] == b"1"
    assert int(keys[b"size"]) == len(data)
    return _pixels(data)


def block_pixels(sent: str) -> Array:
    """The picture that upper half-blocks make, -1 where the terminal's own background is seen."""
    lines = [line.rstrip("\r") for line in sent.split("\n") if "▀" in line]
    rows = []
    for line in lines:
        upper, lower = [], []
        front, back = (-1, -1, -1), (-1, -1, -1)
        for codes, character in _STYLE.findall(line):
            if character:
                assert character == "▀"
                upper.append(front)
                lower.append(back)
            else:
                front, back = _style([int(code) for code in codes.split(";")], front, back)
        assert (front, back) == ((-1, -1, -1), (-1, -1, -1)), "the style goes on after the line"
        rows += [upper, lower]
    return np.array(rows, np.int64)


def xterm_colors() -> Array:
    """Array of shape (256, 3): the colors that every terminal has from 16 on; those before are far from everything."""
    steps = [0, 95, 135, 175, 215, 255]
    cube = [(red, green, blue) for red in steps for green in steps for blue in steps]
    greys = [(8 + 10 * step,) * 3 for step in range(24)]
    return np.array([(10_000,) * 3] * 16 + cube + greys, np.int64)


Color = tuple[int, int, int]


def _style(codes: list[int], front: Color, back: Color) -> tuple[Color, Color]:
    while codes:
        code = codes.pop(0)
        if code == 0:
            front = back = (-1, -1, -1)
            continue
        assert code in (38, 48)
        if codes.pop(0) == 2:
            color = (codes.pop(0), codes.pop(0), codes.pop(0))
        else:
            red, green, blue = xterm_colors()[codes.pop(0)].tolist()
            color = (red, green, blue)
        front, back = (color, back) if code == 38 else (front, color)
    return front, back


def _pixels(data: bytes) -> Array:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).astype(np.int64)
