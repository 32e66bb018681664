"""Scenes: which parts lie where, under what light, seen by which camera; drawn to a JPEG and exact masks.

Every shot is drawn from generators seeded with the data set's seed and the shot's own numbers, so that it does not matter
who draws it, or after what.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.demo.defects import Defect, sample_defect
from curate.demo.parts import PART_TYPES, Part, sample_part
from curate.demo.pictures import BBox, encode_mask
from curate.demo.shading import LIGHTINGS, MATERIALS, Field, Lighting, sample_lighting
from curate.demo.sprites import Finish, Mask, Pose, Sprite, draw_part
from curate.demo.surfaces import SURFACES, Surface, sample_surface
from curate.imaging import Pixels

PART_LABELS: Final = tuple(PART_TYPES)
DEFECT_LABELS: Final = ("scratch", "dent")
LABELS: Final = PART_LABELS + DEFECT_LABELS

MIN_VISIBLE: Final = 0.5
"""No part is drawn with less of it to be seen, and no part may be covered further."""

_MIN_DEFECT_PIXELS = 14
_BAND = 64


@dataclass(frozen=True)
class Camera:
    """How a camera turns light into a JPEG.

    Attributes:
        width: Pixels.
        height: Pixels.
        blur: Sigma of the lens's blur, pixels.
        noise: Standard deviation of the sensor's noise, of 255, at mid-grey.
        white: Gains of red, green and blue.
        exposure: Gain.
        quality: Of the JPEG, 1 to 100.
    """

    width: int
    height: int
    blur: float
    noise: float
    white: tuple[float, float, float]
    exposure: float
    quality: int


CAMERAS: Final = {
    "cam-a": Camera(640, 480, 0.55, 1.6, (1.02, 1.00, 0.97), 1.0, 91),
    "cam-b": Camera(512, 512, 0.85, 3.2, (0.93, 1.00, 1.10), 0.88, 78),
}


@dataclass(frozen=True)
class Shot:
    """One image to be rendered.

    Attributes:
        index: Its number in the set.
        scene: Number of the scene it shows; the frames of a burst share it.
        frame: Its place in the burst.
        frames: Length of the burst; 1 for a single image.
        split: 'train', 'val' or 'test'.
        camera: Key of `CAMERAS`.
        lighting: One of `shading.LIGHTINGS`.
        background: Key of `surfaces.SURFACES`.
        trouble: None, 'dark' or 'blurry'.
    """

    index: int
    scene: int
    frame: int
    frames: int
    split: str
    camera: str
    lighting: str
    background: str
    trouble: str | None = None


@dataclass(frozen=True)
class Thing:
    """A part or a defect that is to be seen in an image.

    Attributes:
        label: One of `LABELS`.
        bbox: [x, y, width, height], the tightest around the mask.
        counts: The mask's compressed COCO run lengths.
        area: Of the mask, pixels.
        visible: Part of the whole thing that is to be seen, in (0, 1].
        truncated: The image's border cuts it.
    """

    label: str
    bbox: BBox
    counts: str
    area: float
    visible: float
    truncated: bool


@dataclass(frozen=True)
class Rendering:
    """An image's JPEG file, its size in pixels and what is on it."""

    jpeg: bytes
    width: int
    height: int
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class _Placed:
    part: Part
    defects: tuple[Defect, ...]
    pose: Pose
    finish: Finish


def plan_shots(count: int, seed: int) -> list[Shot]:
    """Decide what each image shows: about one scene in five is a burst of two to four frames, kept in one split.

    Args:
        count: How many images.
        seed: Of the data set.

    Returns:
        `count` shots in order; about 70% train, 15% val, 15% test.
    """
    rng = np.random.default_rng([seed, 1])
    shots: list[Shot] = []
    scene = 0
    while len(shots) < count:
        frames = int(rng.integers(2, 5)) if rng.random() < 0.2 else 1
        frames = min(frames, count - len(shots))
        split = ("train", "train", "val", "train", "train", "test", "train")[scene % 7]
        camera, lighting = str(rng.choice(list(CAMERAS))), str(rng.choice(LIGHTINGS, p=[0.34, 0.26, 0.22, 0.18]))
        background = "conveyor" if frames > 1 else str(rng.choice(list(SURFACES)))
        shots += [
            Shot(len(shots) + frame, scene, frame, frames, split, camera, lighting, background)
            for frame in range(frames)
        ]
        scene += 1
    return shots


def render(shot: Shot, seed: int) -> Rendering:
    """Draw one image.

    Args:
        shot: What it shows.
        seed: Of the data set.

    Returns:
        The JPEG and every thing of which enough is to be seen; the same for the same shot and seed.
    """
    scene_rng, frame_rng = np.random.default_rng([seed, 2, shot.scene]), np.random.default_rng([seed, 3, shot.index])
    camera = CAMERAS[shot.camera]
    lighting = sample_lighting(shot.lighting, scene_rng)
    surface = sample_surface(shot.background, scene_rng)
    placed = _arrange(camera, scene_rng)
    speed = scene_rng.uniform(45, 90) if shot.frames > 1 else 0.0
    travel = speed * (shot.frame - (shot.frames - 1) / 2 + frame_rng.uniform(-0.1, 0.1))

    canvas = lay_ground(surface, camera, travel, lighting)
    sprites = [
        draw_part(item.part, item.defects, _moved(item.pose, travel, frame_rng), item.finish, lighting)
        for item in placed
    ]
    owner, kept = compose(canvas, sprites, lighting)
    things: list[Thing] = []
    for number in kept:
        things += _things(placed[number].part.label, sprites[number], owner, number)
    pixels = expose(canvas, camera, lighting, shot.trouble, frame_rng)
    return Rendering(encode_jpeg(pixels, camera.quality), camera.width, camera.height, tuple(things))


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """An RGB image, uint8 of shape (h, w, 3), as a JPEG file."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return bytes(data.tobytes())


def _to_thing(label: str, mask: Mask, *, visible: float, truncated: bool) -> Thing:
    """A thing from its mask in the image, bool of shape (height, width), which must not be empty."""
    counts, bbox, area = encode_mask(mask.view(np.uint8))
    return Thing(label, bbox, counts, area, round(visible, 4), truncated)


def _arrange(camera: Camera, rng: np.random.Generator) -> list[_Placed]:
    """Parts with their places; some overlap, some are cut by the border."""
    lean = (rng.uniform(-0.22, 0.22), rng.uniform(-0.22, 0.22))
    tilt, tilt_angle = rng.uniform(0, 0.42), rng.uniform(0, 2 * np.pi)
    zoom = rng.uniform(0.85, 1.12) * min(camera.width, camera.height) / 500
    placed: list[_Placed] = []
    for _ in range(int(rng.integers(4, 9))):
        part = sample_part(str(rng.choice(PART_LABELS)), rng)
        scale = zoom * _sample_scale(part, rng)
        place = _free_place(placed, part, scale, camera, rng)
        finish = sample_finish(part, rng)
        defects = tuple(d for _ in range(_count_defects(rng)) if (d := sample_defect(part, rng)) is not None)
        angle = rng.uniform(0, 2 * np.pi)
        if place is not None:
            view = (
                lean[0] + 0.35 * (place[0] / camera.width - 0.5),
                lean[1] + 0.35 * (place[1] / camera.height - 0.5),
            )
            placed.append(_Placed(part, defects, Pose(*place, scale, angle, tilt, tilt_angle, view), finish))
    return placed


def _sample_scale(part: Part, rng: np.random.Generator) -> float:
    """Pixels per unit in a frame of 500 pixels."""
    if part.variant.endswith("upright"):
        return rng.uniform(20, 50)
    if part.label == "bolt":
        return rng.uniform(52, 98) / math.sqrt(part.extent[0])
    return rng.uniform(25, 62)


def _count_defects(rng: np.random.Generator) -> int:
    return int(rng.choice([0, 1, 2], p=[0.82, 0.15, 0.03]))


def _free_place(
    placed: list[_Placed], part: Part, scale: float, camera: Camera, rng: np.random.Generator
) -> tuple[float, float] | None:
    """A centre where the part overlaps no other, or (one in six) only somewhat."""
    closeness = 0.62 if rng.random() < 0.17 else 1.04
    reach = scale * float(np.sqrt(part.extent[0] * part.extent[1]) * 0.5 + max(part.extent) * 0.5)
    border = rng.uniform(0.2, 0.6) if rng.random() < 0.15 else 1.02
    for _ in range(24):
        x = rng.uniform(border * reach, camera.width - border * reach)
        y = rng.uniform(border * reach, camera.height - border * reach)
        if all(
            np.hypot(x - other.pose.x, y - other.pose.y)
            > closeness * (reach + other.pose.scale * (max(other.part.extent) + min(other.part.extent)) / 2)
            for other in placed
        ):
            return x, y
    return None


def sample_finish(part: Part, rng: np.random.Generator) -> Finish:
    """A material that the part may be made of, as worn as chance has it."""
    material = str(rng.choice(part.materials))
    rusty = MATERIALS[material].rusts and rng.random() < 0.3
    return Finish(
        material=material,
        second=str(rng.choice(part.second)),
        offset=rng.uniform(0, 400),
        grain=rng.uniform(0.05, 0.16),
        rust=rng.uniform(0.35, 0.8) if rusty else 0.0,
        grime=rng.uniform(0.03, 0.16),
    )


def lay_ground(surface: Surface, camera: Camera, travel: float, lighting: Lighting) -> Field:
    """Light from the empty surface, shape (height, width, 3), which has moved `travel` pixels to the right."""
    canvas = np.empty((camera.height, camera.width, 3), np.float32)
    for band in _bands(camera.height):
        # Slopes need the neighbouring row.
        top, bottom = max(band.start - 1, 0), min(band.stop + 1, camera.height)
        x, y = np.meshgrid(
            np.arange(camera.width, dtype=np.float32) - np.float32(travel), np.arange(top, bottom, dtype=np.float32)
        )
        light = surface(x, y, lighting)[:, band.start - top : band.stop - top]
        canvas[band] = cv2.merge(list(light))
    return canvas


def _bands(height: int) -> list[slice]:
    """Rows in bands small enough for the processor's cache: twice as fast as whole images."""
    return [slice(top, min(top + _BAND, height)) for top in range(0, height, _BAND)]


def _moved(pose: Pose, travel: float, rng: np.random.Generator) -> Pose:
    """The pose in another frame: carried along, and jolted a little."""
    dx, dy = rng.normal(0, 1.5, 2) if travel else (0.0, 0.0)
    turn = rng.normal(0, 0.04) if travel else 0.0
    return replace(pose, x=pose.x + travel + float(dx), y=pose.y + float(dy), angle=pose.angle + turn)


def compose(canvas: Field, sprites: list[Sprite], lighting: Lighting) -> tuple[npt.NDArray[np.int16], list[int]]:
    """Lay the sprites on the canvas, in place, the later on top; leave out what would hide too much or be hidden.

    Returns:
        The number of the sprite that each pixel shows (-1 for none), shape (h, w); and the numbers of those laid.
    """
    height, width = canvas.shape[:2]
    owner = np.full((height, width), -1, np.int16)
    seen = np.zeros(len(sprites), np.int64)
    kept: list[int] = []
    for number, sprite in enumerate(sprites):
        window, inner = _overlap(sprite, width, height)
        mask = sprite.mask[inner]
        if mask.sum() < MIN_VISIBLE * sprite.mask.sum():
            continue
        below = owner[window]
        hidden = np.bincount(below[mask] + 1, minlength=len(sprites) + 1)[1:]
        if any(seen[k] - hidden[k] < MIN_VISIBLE * sprites[k].mask.sum() for k in np.flatnonzero(hidden)):
            continue
        _cast_shadow(canvas, sprite, lighting)
        canvas[window] = canvas[window] * (1 - sprite.coverage[inner][..., None]) + sprite.light[inner]
        below[mask] = number
        seen -= hidden
        seen[number] = mask.sum()
        kept.append(number)
    return owner, kept


def _overlap(sprite: Sprite, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the image that a sprite covers, and the part of the sprite that is in the image."""
    h, w = sprite.mask.shape
    left, top = max(sprite.left, 0), max(sprite.top, 0)
    right, bottom = max(left, min(sprite.left + w, width)), max(top, min(sprite.top + h, height))
    window = (slice(top, bottom), slice(left, right))
    return window, (slice(top - sprite.top, bottom - sprite.top), slice(left - sprite.left, right - sprite.left))


def _cast_shadow(canvas: Field, sprite: Sprite, lighting: Lighting) -> None:
    """Darken the canvas, in place, away from the key lamp and close around the part."""
    lx, ly, lz = lighting.key
    reach = min(sprite.rise, 40.0) / max(lz, 0.2)
    dx, dy = -lx * reach, -ly * reach
    sigma = 1.2 + lighting.blur * 0.22 * reach
    pad = int(max(abs(dx), abs(dy)) + 3 * sigma) + 4
    coverage = cv2.copyMakeBorder(sprite.coverage, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    length = int(np.ceil(np.hypot(dx, dy)))
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.uint8)
    cv2.line(kernel, (length, length), (length - round(dx), length - round(dy)), 1)
    cast = cv2.GaussianBlur(cv2.dilate(coverage, kernel), (0, 0), sigma)
    near = cv2.GaussianBlur(coverage, (0, 0), 2.0 + 0.12 * sprite.rise)
    left, top = sprite.left - pad, sprite.top - pad
    height, width = canvas.shape[:2]
    rows = slice(max(top, 0), max(0, min(top + cast.shape[0], height)))
    columns = slice(max(left, 0), max(0, min(left + cast.shape[1], width)))
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    canvas[rows, columns] *= ((1 - lighting.shadow * cast[inner]) * (1 - 0.4 * near[inner]))[..., None]


def _things(label: str, sprite: Sprite, owner: npt.NDArray[np.int16], number: int) -> list[Thing]:
    """The part itself, then its defects, each as far as it is to be seen."""
    height, width = owner.shape
    window, inner = _overlap(sprite, width, height)
    shown = owner[window] == number
    things = []
    for name, whole in ((label, sprite.mask), *sprite.defects):
        is_part = whole is sprite.mask
        inside = whole[inner]
        visible = shown & inside
        seen = int(visible.sum())
        if not is_part and (seen < _MIN_DEFECT_PIXELS or seen < MIN_VISIBLE * whole.sum()):
            continue
        mask = np.zeros((height, width), bool)
        mask[window] = visible
        truncated = bool(inside.sum() < whole.sum())
        things.append(_to_thing(name, mask, visible=seen / float(whole.sum()), truncated=truncated))
    return things


def expose(canvas: Field, camera: Camera, lighting: Lighting, trouble: str | None, rng: np.random.Generator) -> Pixels:
    """What the sensor makes of the light: uneven illumination, lens blur, tone curve, white balance, noise.

    Args:
        canvas: Linear light, shape (h, w, 3).
        camera: Of which blur, noise, white and exposure count.
        lighting: Of which the unevenness counts.
        trouble: None, 'dark' or 'blurry'.
        rng: Of the exposure and the noise.

    Returns:
        RGB, uint8 of shape (h, w, 3).
    """
    height, width = canvas.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    gain = (1 + lighting.slope[0] * x + lighting.slope[1] * y) * (1 - lighting.vignette * 0.5 * (x * x + y * y))
    exposure = camera.exposure * rng.uniform(0.94, 1.06)
    if trouble == "dark":
        exposure *= rng.uniform(0.03, 0.055)
    sigma = camera.blur if trouble != "blurry" else rng.uniform(2.8, 3.8)
    blurred = cv2.GaussianBlur(canvas, (0, 0), sigma)
    pixels = np.empty(canvas.shape, np.uint8)
    for band in _bands(height):
        light = cv2.merge([gain[band] * np.float32(exposure * white) for white in camera.white]) * blurred[band]
        # A filmic shoulder, then a gamma of 2.
        tone = np.sqrt(light * (1 + 0.10 * light) / (1 + 0.55 * light)) * np.float32(255 * 1.12)
        grain = rng.standard_normal(tone.shape[:2], dtype=np.float32) * np.float32(camera.noise)
        tone += cv2.merge([grain, grain, grain])
        pixels[band] = np.clip(tone + 0.5, 0, 255)
    return pixels
