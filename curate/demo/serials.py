"""Serial numbers: printed on pink labels that stick on pictures of parts, and labels as a reader of text gets them."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from curate.imaging import Pixels

ALPHABET: Final = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ-"
"""Without letters that look like digits."""

LABEL_SIZE: Final = (32, 160)
"""(height, width) in pixels of a label as a reader gets it."""

PINK: Final = (255, 90, 190)
"""Of labels, RGB."""

Plates = npt.NDArray[np.uint8]
"""Grey labels, of shape `LABEL_SIZE`, or (n, *LABEL_SIZE)."""

_LETTERS, _DIGITS = ALPHABET[10:-1], ALPHABET[:10]
_HERSHEY: Final = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
_DRAWN: Final = 2  # times as large as it is seen
_SERIALS: Final = 0.3  # of what is learnt from
_SHORTEST, _LONGEST = 4, 10
_LABEL_WIDTH: Final = (150, 200)  # pixels on a picture of 640
_TILT: Final = 10.0  # degrees
_HUES: Final = ((148, 90, 50), (172, 255, 255))  # of labels, in OpenCV's HSV
_ASPECT: Final = (3.5, 7.0)
_FILLED: Final = 0.8
_INWARD: Final = 0.1  # of half a label's height


def draw_serial(rng: np.random.Generator) -> str:
    """A serial number: two letters, a dash, four to six digits, and for every second one a letter."""
    text = "".join(rng.choice(list(_LETTERS), 2)) + "-" + "".join(rng.choice(list(_DIGITS), int(rng.integers(4, 7))))
    return text + (str(rng.choice(list(_LETTERS))) if rng.random() < 0.5 else "")


def draw_text(rng: np.random.Generator) -> str:
    """What a reader learns from: mostly letters at random, since in serial numbers alone the first two are never seen apart."""
    if rng.random() < _SERIALS:
        return draw_serial(rng)
    return "".join(rng.choice(list(ALPHABET), int(rng.integers(_SHORTEST, _LONGEST + 1))))


def draw_label(text: str, rng: np.random.Generator) -> Pixels:
    """A printed label, clean and upright: RGB, uint8, twice as high and wide as `LABEL_SIZE`."""
    height, width = (_DRAWN * side for side in LABEL_SIZE)
    shade = rng.uniform(0.85, 1.05)
    label = np.clip(np.array(PINK) * shade, 0, 255).astype(np.uint8)
    image = np.broadcast_to(label, (height, width, 3)).copy()
    ink = tuple(int(value) for value in rng.integers(0, 60, 3))
    font = int(rng.integers(len(_HERSHEY) + 1))
    if font == len(_HERSHEY):
        drawing = Image.fromarray(image)
        ImageDraw.Draw(drawing).text(
            (width / 2, height / 2), text, ink, ImageFont.load_default(_fitting(width, height, text)), anchor="mm"
        )
        return np.asarray(drawing)
    thick = int(rng.integers(2, 4))
    (across, down), _ = cv2.getTextSize(text, _HERSHEY[font], 1.0, thick)
    scale = min(0.88 * width / across, 0.62 * height / down)
    (across, down), _ = cv2.getTextSize(text, _HERSHEY[font], scale, thick)
    at = (width - across) // 2, (height + down) // 2
    cv2.putText(image, text, at, _HERSHEY[font], scale, ink, thick, cv2.LINE_AA)
    return image


def seen_by_reader(label: Pixels, rng: np.random.Generator) -> Plates:
    """A label as a reader gets it, cut out not quite straight, blurred and noisy; uint8 of shape `LABEL_SIZE`."""
    height, width = label.shape[:2]
    corners = _corners(width, height)
    off = rng.uniform(-0.06, 0.06, (4, 2)) * [height, height]
    matrix = cv2.getPerspectiveTransform((corners + off).astype(np.float32), corners)
    grey = cv2.warpPerspective(
        cv2.cvtColor(label, cv2.COLOR_RGB2GRAY), matrix, (width, height), borderValue=float(rng.uniform(0, 255))
    )
    blurred = cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.3, 0.9) * _DRAWN)
    small = cv2.resize(blurred, LABEL_SIZE[::-1], interpolation=cv2.INTER_AREA)
    values = small * rng.uniform(0.4, 1.1) + rng.normal(0, rng.uniform(0, 8), small.shape)
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def draw_plates(texts: list[str], rng: np.random.Generator) -> Plates:
    """Labels with n texts, as a reader gets them; uint8 of shape (n, *LABEL_SIZE)."""
    return np.stack([seen_by_reader(draw_label(text, rng), rng) for text in texts])


def stick_label(pixels: Pixels, serial: str, rng: np.random.Generator) -> Pixels:
    """A picture, uint8 of shape (height, width, 3), with a label on it, anywhere and a little tilted."""
    label = draw_label(serial, rng)
    width = rng.uniform(*_LABEL_WIDTH) * pixels.shape[1] / 640
    scale, angle = width / label.shape[1], np.radians(rng.uniform(-_TILT, _TILT))
    across = np.array([np.cos(angle), np.sin(angle)]) * width
    down = np.array([-np.sin(angle), np.cos(angle)]) * scale * label.shape[0]
    corners = np.array([[0, 0], across, across + down, down])
    low, high = -corners.min(axis=0) + 2, np.array(pixels.shape[1::-1]) - corners.max(axis=0) - 2
    corners = (corners + rng.uniform(low, high)).astype(np.float32)
    size = pixels.shape[1], pixels.shape[0]
    matrix = cv2.getPerspectiveTransform(_corners(label.shape[1], label.shape[0]), corners)
    drawn = cv2.warpPerspective(cv2.GaussianBlur(label, (0, 0), 0.4 / scale), matrix, size)
    cover = cv2.warpPerspective(np.ones(label.shape[:2], np.float32), matrix, size)[..., None]
    light = rng.uniform(0.6, 1.0)
    return np.asarray(np.clip(pixels * (1 - cover) + light * drawn * cover, 0, 255).astype(np.uint8))


def find_label(pixels: Pixels) -> Plates | None:
    """The pink label on a picture, cut out straight and grey, uint8 of shape `LABEL_SIZE`; None where there is none."""
    inside = cv2.inRange(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), *(np.array(each) for each in _HUES))
    inside = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, np.ones((11, 11), np.uint8))
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    best, corners = 0.0, None
    for outline in outlines:
        middle, sides, angle = cv2.minAreaRect(outline)
        area, (short, long) = cv2.contourArea(outline), sorted(sides)
        likely = short > 0 and _ASPECT[0] <= long / short <= _ASPECT[1] and area >= _FILLED * short * long
        if likely and area > best:
            best, corners = area, cv2.boxPoints((middle, sides, angle))
    if corners is None:
        return None
    height, width = LABEL_SIZE
    corners = _from_top_left(corners)
    corners += _INWARD * (corners.mean(axis=0) - corners) * [height / width, 1]  # what lies around it is no stroke
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), _corners(width, height))
    return np.asarray(cv2.warpPerspective(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), matrix, (width, height)))


def _fitting(width: int, height: int, text: str) -> float:
    """Size of Pillow's own font at which a text fits."""
    across = ImageFont.load_default(100).getlength(text)
    return float(min(100 * 0.88 * width / across, 0.75 * height))


def _corners(width: int, height: int) -> npt.NDArray[np.float32]:
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def _from_top_left(corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Corners of a lying rectangle, clockwise from the top left one."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:]))
    return np.array([left[0], right[0], right[1], left[1]], np.float32)
