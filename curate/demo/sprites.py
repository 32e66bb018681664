"""Drawing one part: its relief in a pose, a finish and a light, as a small picture with transparency."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.demo.defects import Defect
from curate.demo.parts import Part, Relief
from curate.demo.shading import MATERIALS, Field, Lighting, noise, shade, slopes, tinted

SUPERSAMPLING: Final = 2

Mask = npt.NDArray[np.bool_]

_ROW = 64
_RUST = (0.20, 0.075, 0.028)


@dataclass(frozen=True)
class Pose:
    """Where a part lies in an image.

    Attributes:
        x: Centre, pixels.
        y: Centre, pixels.
        scale: Pixels per unit of the part.
        angle: Radians.
        tilt: Radians by which it leans away from the camera.
        tilt_angle: Direction of the lean, radians.
        lean: Pixels by which a point one pixel above the ground moves in the image (x, y), from the camera's oblique view.
    """

    x: float
    y: float
    scale: float
    angle: float
    tilt: float
    tilt_angle: float
    lean: tuple[float, float]


@dataclass(frozen=True)
class Finish:
    """The surface of one part.

    Attributes:
        material: Key of `MATERIALS`.
        second: Likewise, of the second material.
        offset: Place in the noise, so that no two parts look alike.
        grain: Strength of the machining marks.
        rust: Part of the surface with rust, in [0, 1].
        grime: Strength of dirt and wear.
    """

    material: str
    second: str
    offset: float
    grain: float
    rust: float
    grime: float


@dataclass(frozen=True)
class Sprite:
    """A part as drawn.

    Attributes:
        left: Image column of the first column.
        top: Image row of the first row.
        light: Linear light times coverage, shape (h, w, 3).
        coverage: In [0, 1], shape (h, w).
        mask: The silhouette, shape (h, w).
        defects: Label and mask of each defect, masks of shape (h, w).
        rise: Height of the part above the ground, pixels.
    """

    left: int
    top: int
    light: Field
    coverage: Field
    mask: Mask
    defects: tuple[tuple[str, Mask], ...]
    rise: float


def draw_part(part: Part, defects: tuple[Defect, ...], pose: Pose, finish: Finish, lighting: Lighting) -> Sprite:
    """Draw a part.

    Args:
        part: Its shape.
        defects: Damage to it.
        pose: Where and how it lies.
        finish: What its surface is like.
        lighting: The lamps.

    Returns:
        The picture, which may reach beyond the image.
    """
    pixels = pose.scale * SUPERSAMPLING
    shift = (pose.lean[0] * part.thickness * pixels, pose.lean[1] * part.thickness * pixels)
    left, top, right, bottom = _bounds(part, pose, shift)
    dx, dy, u, v = _grid(pose, left, top, right, bottom)
    relief = part.relief(u, v)
    damage = []
    for defect in defects:
        relief, weight = defect.apply(u, v, relief)
        damage.append((defect.label, weight))

    edge_x, edge_y = slopes(relief.edge)
    steepness = np.sqrt(edge_x * edge_x + edge_y * edge_y) + 1e-6
    face = np.clip(0.5 - relief.edge / steepness, 0, 1)
    coverage = _extrude(face, shift)

    if MATERIALS[finish.material].texture == "cast":
        relief = _roughened(relief, u * 22 + finish.offset, v * 22)
    slope_x, slope_y = slopes(relief.height * pixels)
    wall = 2.2 * (coverage > 0.5) * (face < 0.5) / steepness
    slope_x = np.where(wall > 0, -edge_x * wall, slope_x)
    slope_y = np.where(wall > 0, -edge_y * wall, slope_y)
    tone = relief.tone * (1 - 0.25 * (wall > 0))
    # From here on only what the part covers: that is often less than half of the box around it.
    covered = _whole_rows(np.flatnonzero(coverage))
    samples = _Samples(*(field.ravel()[covered] for field in (u, v, dx, dy, slope_x, slope_y, tone, relief.second)))
    light = np.zeros((*coverage.shape, 3), np.float32)
    shaded = _surface(part, finish, samples, lighting) * coverage.ravel()[covered]
    light.reshape(-1, 3)[covered.ravel()] = shaded.reshape(3, -1).T

    size = (right - left, bottom - top)
    small = cv2.resize(coverage, size, interpolation=cv2.INTER_AREA)
    mask = small >= 0.5
    return Sprite(
        left=left,
        top=top,
        light=cv2.resize(light, size, interpolation=cv2.INTER_AREA),
        coverage=small,
        mask=mask,
        defects=tuple(
            (label, (cv2.resize(weight * face, size, interpolation=cv2.INTER_AREA) >= 0.4) & mask)
            for label, weight in damage
        ),
        rise=(part.thickness or part.extent[1]) * pose.scale,
    )


def _bounds(part: Part, pose: Pose, shift: tuple[float, float]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in whole pixels of a box that holds the part."""
    cos, sin = abs(np.cos(pose.angle)), abs(np.sin(pose.angle))
    half_u, half_v = (extent * pose.scale * 1.06 + 2 for extent in part.extent)
    reach_x = half_u * cos + half_v * sin + abs(shift[0]) / SUPERSAMPLING
    reach_y = half_u * sin + half_v * cos + abs(shift[1]) / SUPERSAMPLING
    return (
        int(np.floor(pose.x - reach_x)),
        int(np.floor(pose.y - reach_y)),
        int(np.ceil(pose.x + reach_x)),
        int(np.ceil(pose.y + reach_y)),
    )


def _grid(pose: Pose, left: int, top: int, right: int, bottom: int) -> tuple[Field, Field, Field, Field]:
    """Every sample's offset from the part's centre in pixels (dx, dy) and its place on the part in units (u, v)."""
    step = 1 / SUPERSAMPLING
    dx, dy = np.meshgrid(
        np.arange(left + step / 2, right, step, dtype=np.float32) - np.float32(pose.x),
        np.arange(top + step / 2, bottom, step, dtype=np.float32) - np.float32(pose.y),
    )
    towards = np.array([np.cos(pose.tilt_angle), np.sin(pose.tilt_angle)])
    unlean = np.eye(2) + (1 / np.cos(pose.tilt) - 1) * np.outer(towards, towards)
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    (a, b), (c, d) = (np.array([[cos, sin], [-sin, cos]]) @ unlean / pose.scale).tolist()
    # The far side is a little smaller: perspective.
    px, py = (np.sin(pose.tilt) * 0.12 / pose.scale * towards).tolist()
    w = 1 + px * dx + py * dy
    return dx, dy, (a * dx + b * dy) * w, (c * dx + d * dy) * w


def _extrude(face: Field, shift: tuple[float, float]) -> Field:
    """Coverage of a face and of the walls below it, whose foot lies `-shift` samples away."""
    length = int(np.ceil(np.hypot(*shift)))
    if length < 1:
        return face
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.uint8)
    cv2.line(kernel, (length, length), (length + round(shift[0]), length + round(shift[1])), 1)
    out: Field = cv2.dilate(face, kernel)
    return out


def _roughened(relief: Relief, x: Field, y: Field) -> Relief:
    """The relief with the bumps of a sand casting, which are one unit of x and y large."""
    bumps = noise(x, y, octave=1)
    return replace(relief, height=relief.height + 0.012 * bumps, tone=relief.tone * (1 + 0.2 * bumps))


@dataclass(frozen=True)
class _Samples:
    """The samples that a part covers, in rows of `_ROW`; all arrays have the same shape."""

    u: Field
    v: Field
    dx: Field
    dy: Field
    slope_x: Field
    slope_y: Field
    tone: Field
    second: Field


def _whole_rows(places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Indices of shape (n,) as rows of `_ROW` (OpenCV takes no array with a side above 32767), the last one repeated."""
    return np.pad(places, (0, -len(places) % _ROW), mode="edge").reshape(-1, _ROW)


def _surface(part: Part, finish: Finish, at: _Samples, lighting: Lighting) -> Field:
    """Linear light of every sample, shape (3, *samples)."""
    material, u, v = MATERIALS[finish.material], at.u, at.v
    slope_x, slope_y = at.slope_x, at.slope_y
    tone = at.tone * (1 + finish.grime * noise(u * 3 + finish.offset, v * 3, octave=3))
    if material.texture == "machined" and part.turned:
        # Turned on a lathe: rings, and the fan of light that fine rings throw.
        radius = np.sqrt(at.dx * at.dx + at.dy * at.dy) + 1e-3
        rings = finish.grain * noise(np.sqrt(u * u + v * v) * 45 + finish.offset, np.full_like(u, finish.offset))
        facing = (at.dx * lighting.key[0] + at.dy * lighting.key[1]) / (radius * math.hypot(*lighting.key[:2]))
        tone = tone * (0.86 + rings + 0.5 * material.metal * np.square(np.square(facing)))
        slope_x, slope_y = slope_x + 0.35 * rings * at.dx / radius, slope_y + 0.35 * rings * at.dy / radius
    elif material.texture == "machined":
        tone = tone * (1 + finish.grain * noise(u * 5 + finish.offset, v * 60))
    elif material.texture == "spangle":
        tone = tone * (1 + 0.07 * np.floor(3 * noise(u * 6 + finish.offset, v * 6)))

    color = tinted(np.maximum(tone, 0.02), material.color)
    metal: Field | float = material.metal
    roughness: Field | float = material.roughness
    if at.second.any():
        other, weight = MATERIALS[finish.second], at.second
        color += weight * (tinted(np.maximum(at.tone, 0.02), other.color) - color)
        metal = metal + weight * (other.metal - metal)
        roughness = roughness + weight * (other.roughness - roughness)
    if finish.rust:
        patches = noise(u * 5 + finish.offset, v * 5 + 100, octave=3)
        weight = np.clip((patches - 1.2 + 1.7 * finish.rust) * 2.2, 0, 0.95)
        color += weight * (tinted(0.8 + 0.5 * noise(u * 40, v * 40 + finish.offset), _RUST) - color)
        metal = metal * (1 - weight)
        roughness = roughness + weight * (0.8 - roughness)
    return shade(slope_x, slope_y, color, metal, roughness, lighting)
