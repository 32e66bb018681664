"""Formulas for surfaces and backgrounds: noise, waves that bend each other, leaves, bricks, fractals, landscapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Rng = np.random.Generator


def palette(rng: Rng, count: int) -> Float:
    """Colours that go together: hues around one or two, lightness apart; float32 of shape (count, 3) in [0, 1]."""
    warm = rng.random() < 0.6  # most of what there is under the sun is yellow to red, or blue
    hue = rng.normal(35, 25) if warm else rng.uniform(0, 360)
    hue = hue + rng.choice([0, 60, 180]) * (rng.random(count) < 0.35) + rng.normal(0, 20, count)
    saturation = np.clip(rng.beta(1.1, 2.5) * rng.uniform(0.4, 1.6, count), 0, 1)
    value = np.clip(rng.permutation(np.linspace(0.12, 1.0, count)) + rng.normal(0, 0.1, count), 0.04, 1)
    hsv = np.stack([hue % 360, saturation, value], axis=1).astype(np.float32)
    return np.asarray(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0])


def texture(rng: Rng, side: int) -> Float:
    """Any texture; float32 of shape (side, side, 3) in [0, 1]."""
    return TEXTURES[int(rng.integers(len(TEXTURES)))](rng, side)


def noise(rng: Rng, side: int, *, falloff: float | None = None) -> Float:
    """Noise whose amplitude falls with frequency as photographs' does, about 1/f; float32 of shape (side, side) in [0, 1]."""
    falloff = rng.uniform(0.7, 2.2) if falloff is None else falloff
    total = np.zeros((side, side), np.float32)
    octaves = int(np.log2(side)) - 1
    for octave in range(octaves):
        cells = 2 ** (octave + 1)
        small = rng.random((cells + 1, cells + 1), np.float32)
        total += cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(0.5 ** (falloff * octave))
    return _stretched(total)


def clouds(rng: Rng, side: int) -> Float:
    """Noise in the colours of a palette."""
    colors = palette(rng, int(rng.integers(2, 5)))
    return colored(noise(rng, side), colors)


def waves(rng: Rng, side: int) -> Float:
    """Sines of sines of place, as short shader programs make them (Baradad et al., NeurIPS 2022)."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    fields = [x, y, np.hypot(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5)), noise(rng, side) - 0.5]
    for _ in range(int(rng.integers(2, 6))):
        a, b = rng.integers(len(fields), size=2)
        kind = rng.integers(4)
        frequency = np.exp(rng.uniform(0.5, 3.2))
        if kind == 0:
            fields.append(np.sin(frequency * fields[a] + rng.uniform(0, 3) * fields[b]))
        elif kind == 1:
            fields.append(fields[a] * rng.uniform(1, 3) + fields[b] * rng.uniform(-3, 3))
        elif kind == 2:
            fields.append(np.abs(fields[a] * frequency % 2 - 1).astype(np.float32))
        else:
            fields.append(np.tanh(frequency * fields[a]) * np.cos(3 * fields[b]))
    chosen = [_stretched(fields[-1 - int(k)].astype(np.float32)) for k in rng.integers(0, 3, 3)]
    if rng.random() < 0.5:
        return colored(chosen[0], palette(rng, int(rng.integers(2, 6))))
    return np.stack(chosen, axis=2)


def leaves(rng: Rng, side: int) -> Float:
    """Opaque shapes of all sizes that cover one another (Lee, Mumford & Huang, IJCV 2001)."""
    colors = palette(rng, 8)
    canvas = np.zeros((side, side, 3), np.float32)
    canvas[:] = colors[0]
    shape = int(rng.integers(3))
    for _ in range(int(rng.integers(25, 90))):
        radius = side * 0.03 / max(rng.random(), 0.02) ** 0.6
        centre = rng.uniform(0, side, 2)
        color = (colors[rng.integers(8)] * rng.uniform(0.7, 1.2)).clip(0, 1).tolist()
        if shape == 0 or (shape == 2 and rng.random() < 0.5):
            size = (radius * 2, radius * rng.uniform(0.6, 2))
            cv2.ellipse(canvas, (centre.tolist(), size, rng.uniform(0, 180)), color, -1, cv2.LINE_AA)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
            corners = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            cv2.fillPoly(canvas, [corners.astype(np.int32)], color, cv2.LINE_AA)
    return canvas


def tiles(rng: Rng, side: int) -> Float:
    """Stripes, checks, bricks, dots or boards, turned and worn."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    bend = 0.1 * rng.random() * noise(rng, side)
    n, ratio = np.exp(rng.uniform(1.0, 3.0)), np.exp(rng.uniform(-1, 1))
    u, v = (u + bend) * n, (v + bend) * n * ratio
    kind = rng.integers(5)
    if kind == 0:
        pattern = (u % 1 < rng.uniform(0.2, 0.8)).astype(np.float32)
    elif kind == 1:
        pattern = ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
    elif kind == 2:
        u = u + 0.5 * (np.floor(v) % 2)
        cell = np.sin(np.floor(u) * 12.9898 + np.floor(v) * 78.233) * 43758.5453 % 1
        pattern = np.where((u % 1 < 0.08) | (v % 1 < 0.12), 0, 0.4 + 0.6 * cell).astype(np.float32)
    elif kind == 3:
        pattern = (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.15, 0.45)).astype(np.float32)
    else:
        pattern = np.sin(2 * np.pi * u).astype(np.float32) * 0.5 + 0.5
    worn = 0.8 + 0.3 * rng.random() * (noise(rng, side) - 0.5)
    return np.asarray(colored(pattern, palette(rng, 3)) * worn[..., None])


def fractal(rng: Rng, side: int) -> Float:
    """The attractor of random affine maps (Kataoka et al., 'Pre-training without natural images', IJCV 2022)."""
    maps = int(rng.integers(2, 6))
    turns = rng.uniform(0, 2 * np.pi, (maps, 2))
    sizes = rng.uniform(0.25, 0.8, (maps, 2))
    c, s = np.cos(turns), np.sin(turns)
    left = np.stack([np.stack([c[:, 0], -s[:, 0]], 1), np.stack([s[:, 0], c[:, 0]], 1)], 1)
    right = np.stack([np.stack([c[:, 1], -s[:, 1]], 1), np.stack([s[:, 1], c[:, 1]], 1)], 1)
    linear = left @ (sizes[:, :, None] * right)
    shift = rng.uniform(-1, 1, (maps, 2))
    points = rng.uniform(-1, 1, (600, 2))
    seen = []
    for step in range(24):
        choice = rng.integers(maps, size=len(points))
        points = np.einsum("nij,nj->ni", linear[choice], points) + shift[choice]
        if step > 8:
            seen.append(points)
    cloud = np.concatenate(seen)
    low, high = np.percentile(cloud, 1, axis=0), np.percentile(cloud, 99, axis=0)
    places = ((cloud - low) / np.maximum(high - low, 1e-6) * (side - 1)).astype(int)
    inside = ((places >= 0) & (places < side)).all(axis=1)
    counts = np.bincount(places[inside, 1] * side + places[inside, 0], minlength=side * side).reshape(side, side)
    density = cv2.GaussianBlur(np.log1p(counts).astype(np.float32), (0, 0), rng.uniform(0.4, 1.2))
    return colored(_stretched(density), palette(rng, int(rng.integers(2, 6))))


def landscape(rng: Rng, side: int) -> Float:
    """A sky over a ground, with ridges between them; or a wall over a floor."""
    horizon = rng.uniform(0.25, 0.75)
    y = np.arange(side, dtype=np.float32) / side
    sky, ground = palette(rng, 3), palette(rng, 4)
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = (sky[0] + (sky[1] - sky[0]) * (y[:, None] / horizon))[:, None]
    if rng.random() < 0.5:
        canvas += 0.35 * (noise(rng, side) - 0.5)[..., None]
    for level in range(int(rng.integers(0, 4))):
        ridge = horizon - 0.25 * rng.random() * noise(rng, side, falloff=rng.uniform(0.6, 1.6))[0] + 0.03 * level
        canvas[y[:, None] > ridge[None]] = ground[level % 4] * 0.6 + sky[0] * 0.4
    below = np.broadcast_to(y[:, None] > horizon, (side, side))
    floor = texture_of_ground(rng, side)
    far = ((y - horizon) / max(1 - horizon, 0.05)).clip(0, 1)[:, None, None]
    canvas[below] = (floor * (0.55 + 0.45 * far))[below]
    return canvas


def texture_of_ground(rng: Rng, side: int) -> Float:
    """A texture seen at a slant: compressed towards the top."""
    flat = (clouds, tiles, leaves, clouds)[int(rng.integers(4))](rng, side)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    depth = 1 / (0.35 + y)
    return np.asarray(
        cv2.remap(flat, ((x - 0.5) * depth + 0.5) % 1 * (side - 1), (depth * 0.8) % 1 * (side - 1), cv2.INTER_LINEAR)
    )


def gradient(rng: Rng, side: int) -> Float:
    """One colour that runs into another: the backdrop of a studio."""
    a, b = palette(rng, 2)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    along = np.hypot(x, y) * 1.4 if rng.random() < 0.3 else x * np.cos(angle) + y * np.sin(angle) + 0.5
    return np.asarray(a + (b - a) * rng.uniform(0, 1) * along[..., None], dtype=np.float32)


def colored(field: Float, colors: Float) -> Float:
    """A field of values in [0, 1] in the colours of a palette, with soft steps; shape (side, side, 3)."""
    stops = np.linspace(0, 1, len(colors))
    table = np.stack([np.interp(np.linspace(0, 1, 256), stops, channel) for channel in colors.T], axis=1)
    return np.asarray(table.astype(np.float32)[(field * 255).clip(0, 255).astype(np.uint8)])


def _stretched(field: Float) -> Float:
    low, high = float(field.min()), float(field.max())
    return np.asarray((field - low) / max(high - low, 1e-6), dtype=np.float32)


@cache
def coordinates(side: int) -> tuple[Float, Float]:
    """Rows and columns of pixels in [-0.5, 0.5), each of shape (side, side)."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    return y, x


TEXTURES: Final[tuple[Callable[[Rng, int], Float], ...]] = (clouds, waves, leaves, tiles, fractal, clouds, waves)
