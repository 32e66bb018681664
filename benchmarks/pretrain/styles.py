"""A thing in front of a background as a photograph, a painting, a cartoon, a drawing, a sketch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.pretrain import textures
from benchmarks.pretrain.solids import Array, Piece
from benchmarks.pretrain.textures import Float, Rng

Mask = npt.NDArray[np.uint8]

_SHIFT: Final = 4  # sub-pixel bits of OpenCV's drawing


@dataclass(frozen=True)
class Body:
    """The pieces of one group, on the canvas in pixels.

    Attributes:
        outlines: One per piece, float64 of shape (k, 2).
        materials: One per piece.
        lights: One per piece: its own shade, or None where it is round.
    """

    outlines: list[Array]
    materials: list[int]
    lights: list[float | None]


Style = Callable[[Rng, Sequence[Body], Float, int], Float]


def bodies_of(pieces: Sequence[Piece], place: Callable[[Array], Array]) -> list[Body]:
    """Pieces by their groups, farthest first."""
    groups: dict[int, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.group, []).append(piece)
    ordered = sorted(groups.values(), key=lambda group: -float(np.mean([piece.depth for piece in group])))
    bodies = []
    for group in ordered:
        group.sort(key=lambda piece: -piece.depth)
        bodies.append(
            Body([place(piece.outline) for piece in group], [p.material for p in group], [p.light for p in group])
        )
    return bodies


def photograph(rng: Rng, bodies: Sequence[Body], colors: Float, side: int) -> Float:
    """Round bodies under a lamp, with a shadow, some texture and some gloss, in front of a textured background."""
    canvas = _backdrop(rng, side)
    light = rng.normal(0, 0.7, 2) + np.array([0, -0.6])
    _cast_shadow(rng, canvas, bodies, light, side)
    ambient, gloss = rng.uniform(0.25, 0.75), rng.random() * (rng.random() < 0.5)
    grain = textures.texture(rng, side) if rng.random() < 0.4 else None
    for body in bodies:
        _shade(canvas, body, colors, light, ambient, gloss, grain)
    return canvas


def studio(rng: Rng, bodies: Sequence[Body], colors: Float, side: int) -> Float:
    """As a photograph, in front of an even backdrop."""
    canvas = textures.gradient(rng, side)
    if rng.random() < 0.3:
        canvas = np.ones_like(canvas) * np.float32(rng.choice([1.0, 0.95, 0.05]))
    light = rng.normal(0, 0.7, 2) + np.array([0, -0.6])
    _cast_shadow(rng, canvas, bodies, light, side)
    ambient, gloss = rng.uniform(0.2, 0.7), rng.random()
    for body in bodies:
        _shade(canvas, body, colors, light, ambient, gloss, None)
    return canvas


def painting(rng: Rng, bodies: Sequence[Body], colors: Float, side: int) -> Float:
    """A photograph in brush strokes: smeared along a field of directions, with the relief of paint."""
    image = photograph(rng, bodies, colors, side)
    bytes_ = (image.clip(0, 1) * 255).astype(np.uint8)
    width = int(rng.choice([3, 5, 7]))
    bytes_ = cv2.medianBlur(bytes_, width)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    angle = textures.noise(rng, side, falloff=2) * 4 * np.pi
    strokes = rng.random((side, side), np.float32)
    smear, count = bytes_.astype(np.float32), 3
    for step in range(1, count + 1):
        dx, dy = np.cos(angle) * step * width / 4, np.sin(angle) * step * width / 4
        smear = smear + cv2.remap(bytes_, x + dx, y + dy, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
        strokes = strokes + cv2.remap(strokes, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    smear = smear / ((count + 1) * 255)
    relief = cv2.GaussianBlur(strokes, (0, 0), 0.7)
    relief = (relief - relief.mean()) / (relief.std() + 1e-6)
    levels = rng.integers(5, 14)
    stepped = np.round(smear * levels) / levels
    smear = smear + rng.uniform(0, 1) * (stepped - smear)
    tint = textures.palette(rng, 1)[0]
    smear = smear * (1 - 0.25 * rng.random()) + tint * 0.25 * rng.random()
    return np.asarray(smear * (1 + rng.uniform(0.02, 0.12) * relief[..., None]), dtype=np.float32)


def cartoon(rng: Rng, bodies: Sequence[Body], colors: Float, side: int) -> Float:
    """Flat colours in dark outlines, on a plain or simply drawn background."""
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = textures.palette(rng, 1)[0] if rng.random() < 0.6 else 1.0
    if rng.random() < 0.3:
        scene = textures.landscape(rng, side) if rng.random() < 0.5 else textures.leaves(rng, side)
        canvas = np.asarray(
            np.round(cv2.medianBlur((scene.clip(0, 1) * 255).astype(np.uint8), 7) / 255 * 4) / 4, dtype=np.float32
        )
    bright = np.clip(colors + (colors - colors.mean(axis=1, keepdims=True)) * rng.uniform(0, 1.5), 0, 1)
    outline = rng.random() < 0.8
    ink, width = np.float32(rng.uniform(0, 0.25)), int(rng.integers(1, 5))
    for body in bodies:
        if outline:
            for points in body.outlines:
                cv2.polylines(canvas, [_fixed(points)], True, [float(ink)] * 3, 2 * width, cv2.LINE_AA, _SHIFT)
        for points, material, lit in zip(body.outlines, body.materials, body.lights, strict=True):
            shade = 1.0 if lit is None else 0.75 + 0.25 * lit
            cv2.fillPoly(canvas, [_fixed(points)], (bright[material] * shade).tolist(), cv2.LINE_AA, _SHIFT)
    if rng.random() < 0.3:
        light = (textures.coordinates(side)[1] > rng.uniform(-0.2, 0.3)).astype(np.float32)
        canvas *= (1 - 0.15 * light)[..., None]
    return canvas


def drawing(rng: Rng, bodies: Sequence[Body], colors: Float, side: int) -> Float:
    """Ink lines on paper, drawn by an unsteady hand, sometimes over and over, sometimes hatched."""
    del colors
    paper = np.float32(rng.uniform(0.8, 1.0) if rng.random() < 0.92 else rng.uniform(0, 0.15))
    ink = float(rng.uniform(0, 0.45) if paper > 0.5 else rng.uniform(0.7, 1.0))
    canvas = np.full((side, side), paper, np.float32)
    width, unsteady, repeats = int(rng.integers(1, 4)), rng.uniform(0, 1.6), int(rng.choice([1, 1, 2, 3]))
    hatching = rng.random() < 0.3
    see_through = rng.random() < 0.15
    y, x = textures.coordinates(side)
    slant = rng.uniform(0, np.pi)
    stripes = np.sin(rng.uniform(0.5, 1.2) * side * (x * np.cos(slant) + y * np.sin(slant))) > 0
    for body in bodies:
        for points in body.outlines:
            for _ in range(repeats):
                shaken = (
                    points + np.repeat(rng.normal(0, unsteady, (len(points) // 2 + 1, 2)), 2, axis=0)[: len(points)]
                )
                cv2.polylines(canvas, [_fixed(shaken)], True, ink, width + 1, cv2.LINE_AA, _SHIFT)
        if see_through:
            continue
        mask = _mask(body, side, shrink=width / 2)
        fill: npt.ArrayLike = paper
        if hatching and body.materials[0] in (0, 2, 3):
            fill = paper + (ink - paper) * 0.6 * stripes
        elif body.materials[0] == 3 and rng.random() < 0.5:
            fill = ink
        canvas = np.where(mask > 0, fill, canvas).astype(np.float32)
    if rng.random() < 0.4:
        canvas += np.float32(0.15 * rng.random()) * (textures.noise(rng, side, falloff=0.5) - 0.5)
    tint = 1 - 0.15 * rng.random(3, np.float32) * (rng.random() < 0.4)
    return np.asarray(canvas[..., None] * tint, dtype=np.float32)


def traced(rng: Rng, bodies: Sequence[Body], colors: Float, side: int) -> Float:
    """The edges of a photograph as pencil strokes."""
    image = studio(rng, bodies, colors, side)
    gray = cv2.cvtColor(image.clip(0, 1), cv2.COLOR_RGB2GRAY)
    fine, coarse = (cv2.GaussianBlur(gray, (0, 0), sigma) for sigma in (0.8, rng.uniform(1.5, 3)))
    ridge = 1 - (np.abs(fine - coarse) * rng.uniform(6, 20)).clip(0, 1)
    if rng.random() < 0.5:
        ridge = 0.75 * ridge + 0.25 * gray
    return np.repeat(ridge[..., None], 3, axis=2).astype(np.float32)


def silhouette(rng: Rng, bodies: Sequence[Body], colors: Float, side: int) -> Float:
    """One colour before another: a shadow, a stencil, an icon."""
    canvas = np.empty((side, side, 3), np.float32)
    back, front = textures.palette(rng, 2)
    canvas[:] = back if rng.random() < 0.6 else 1.0
    if rng.random() < 0.3:
        canvas = textures.gradient(rng, side)
    for body in bodies:
        lighter = 0 if body.materials[0] in (0, 1, 2, 4) else 0.8
        canvas[_mask(body, side) > 0] = front + (back - front) * lighter
    return canvas


def sensor(rng: Rng, bodies: Sequence[Body], colors: Float, side: int) -> Float:
    """Bodies that absorb, added up, as X-ray, thermal, depth or microscope pictures have them."""
    total = 0.4 * rng.random() * textures.noise(rng, side)
    for body in bodies:
        mask = _mask(body, side)
        thick = np.sqrt(cv2.distanceTransform(mask, cv2.DIST_L2, 3) / side)
        total = total + thick * (0.3 + float(colors[body.materials[0]].mean()))
    field = (total / max(float(total.max()), 1e-6)).astype(np.float32)
    if rng.random() < 0.6:
        gray = field if rng.random() < 0.5 else 1 - field
        return np.repeat(gray[..., None], 3, axis=2)
    return textures.colored(field, textures.palette(rng, 4))


STYLES: Final[tuple[tuple[str, Style, float], ...]] = (
    ("photograph", photograph, 0.36),
    ("studio", studio, 0.12),
    ("painting", painting, 0.14),
    ("cartoon", cartoon, 0.14),
    ("drawing", drawing, 0.13),
    ("traced", traced, 0.04),
    ("silhouette", silhouette, 0.04),
    ("sensor", sensor, 0.03),
)
"""Name, how it is made, and its share of the pictures."""


def _backdrop(rng: Rng, side: int) -> Float:
    kind = rng.random()
    if kind < 0.3:
        return textures.landscape(rng, side)
    canvas = textures.texture(rng, side) if kind < 0.8 else textures.gradient(rng, side)
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 4))
    if rng.random() < 0.4:  # calmer than what stands in front
        canvas = canvas.mean(axis=(0, 1)) + (canvas - canvas.mean(axis=(0, 1))) * np.float32(rng.uniform(0.2, 0.7))
    return np.ascontiguousarray(canvas, dtype=np.float32)


def _cast_shadow(rng: Rng, canvas: Float, bodies: Sequence[Body], light: Array, side: int) -> None:
    if rng.random() < 0.4:
        return
    mask = np.zeros((side, side), np.uint8)
    moved = -light * side * rng.uniform(0.03, 0.1)
    for body in bodies:
        for points in body.outlines:
            cv2.fillPoly(mask, [_fixed(points + moved)], 255, cv2.LINE_8, _SHIFT)
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(1, 5)).astype(np.float32) / 255
    canvas *= (1 - rng.uniform(0.2, 0.7) * soft)[..., None]


def _shade(
    canvas: Float, body: Body, colors: Float, light: Array, ambient: float, gloss: float, grain: Float | None
) -> None:
    """Draw a body: its pieces' colours, rounded where they are round (by the distance from its edge), under a light."""
    side = len(canvas)
    points = np.concatenate(body.outlines)
    x0, y0 = np.maximum(np.floor(points.min(axis=0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 3, side)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    corner = np.array([x0, y0])
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    paint = np.zeros((y1 - y0, x1 - x0, 3), np.float32)
    flat = np.zeros((y1 - y0, x1 - x0), np.float32)
    for outline, material, lit in zip(body.outlines, body.materials, body.lights, strict=True):
        fixed = [_fixed(outline - corner)]
        cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(paint, fixed, colors[material].tolist(), cv2.LINE_8, _SHIFT)
        cv2.fillPoly(flat, fixed, 0.0 if lit is None else lit, cv2.LINE_8, _SHIFT)
    distance = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 3)
    deepest = max(float(distance.max()), 1.0)
    height = np.sqrt(np.maximum(1 - np.square(1 - np.minimum(distance / deepest, 1)), 0)) * deepest
    height = cv2.GaussianBlur(height, (0, 0), max(deepest / 8, 0.6))
    slope_x, slope_y = (
        cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125),
        cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125),
    )
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    towards = np.array([light[0], light[1], 1.0]) / np.sqrt(1 + light @ light)
    facing = ((towards[2] - slope_x * towards[0] - slope_y * towards[1]) / length).clip(0, 1)
    facing = np.where(flat > 0, flat, facing)
    shade = (ambient + (1.1 - ambient) * facing)[..., None]
    color = paint * shade
    if grain is not None:
        color *= 0.45 + 0.9 * grain[y0:y1, x0:x1]
    if gloss > 0.2:
        color += (gloss * np.power(facing, 24) * (flat == 0))[..., None].astype(np.float32)
    cover = (mask.astype(np.float32) / 255)[..., None]
    region = canvas[y0:y1, x0:x1]
    region += (color - region) * cover


def _mask(body: Body, side: int, *, shrink: float = 0.0) -> Mask:
    mask = np.zeros((side, side), np.uint8)
    for points in body.outlines:
        if shrink:
            middle = points.mean(axis=0)
            away = points - middle
            reach = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
            points = middle + away * np.maximum(1 - shrink / reach, 0)
        cv2.fillPoly(mask, [_fixed(points)], 255, cv2.LINE_8, _SHIFT)
    return mask


def _fixed(points: Array) -> npt.NDArray[np.int32]:
    return np.round(points * 2**_SHIFT).astype(np.int32)
