"""What the parts lie on: a conveyor belt, a workbench, a tray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from curate.demo.shading import RGB, Field, Lighting, noise, shade, slopes, tinted

Surface = Callable[[Field, Field, Lighting], Field]
"""From the x and y of every pixel, arrays of shape (h, w), and the lamps to linear light of shape (3, h, w)."""


_FAR_RAIL = 475.0
"""Where the lower rail ends, pixels from the top."""


def sample_surface(name: str, rng: np.random.Generator) -> Surface:
    """One of `SURFACES`, its colour and texture drawn at random."""
    return SURFACES[name](rng)


def conveyor(rng: np.random.Generator) -> Surface:
    """A belt: woven rubber or smooth PVC with streaks along its run; often with a steel rail at its edge."""
    colors: list[RGB] = [(0.035, 0.036, 0.038), (0.06, 0.062, 0.06), (0.025, 0.075, 0.055), (0.30, 0.31, 0.30)]
    color = colors[int(rng.integers(len(colors)))]
    period = rng.uniform(5, 8)
    weave = rng.uniform(0.0, 0.25)
    offset = rng.uniform(0, 512)
    rail = rng.uniform(10, 26) if rng.random() < 0.5 else 0.0
    above = bool(rng.random() < 0.5)

    def surface(x: Field, y: Field, lighting: Lighting) -> Field:
        threads = np.sin(x * (2 * np.pi / period)) * np.sin(y * (2 * np.pi / period))
        streaks = noise(x / 90, y / 2.5 + offset, octave=1)
        spots = noise(x / 14 + offset, y / 14, octave=3)
        dust = np.maximum(noise(x / 1.5, y / 1.5 + offset) - 0.95, 0)
        tone = 1 + 0.16 * streaks + 0.22 * spots + 1.2 * dust
        slope_x, slope_y = slopes(weave * threads + 0.12 * noise(x / 2, y / 2))
        edge = y if above else _FAR_RAIL - y
        on_rail = np.clip(rail - edge, 0, 1)
        pixels = tinted(tone, color)
        if not rail:
            return shade(slope_x, slope_y, pixels, 0.0, 0.55, lighting)
        gap = 1 - 0.8 * np.exp(-np.square((edge - rail - 3) / 2.5))
        pixels = gap * (pixels + on_rail * (0.5 + 0.05 * streaks - pixels))
        return shade(slope_x, slope_y, pixels, 0.8 * on_rail, 0.55, lighting)

    return surface


def bench(rng: np.random.Generator) -> Surface:
    """A workbench: oiled planks, a brushed steel plate or painted sheet, worn and stained."""
    kind = str(rng.choice(["wood", "steel", "paint"]))
    paints: list[RGB] = [(0.08, 0.17, 0.15), (0.20, 0.23, 0.26), (0.09, 0.13, 0.22)]
    base: dict[str, RGB] = {
        "wood": (0.34, 0.20, 0.10),
        "steel": (0.34, 0.35, 0.36),
        "paint": paints[int(rng.integers(len(paints)))],
    }
    red, green, blue = base[kind]
    gain = rng.uniform(0.75, 1.15)
    color = (red * gain, green * gain, blue * gain)
    offset, turn = rng.uniform(0, 512), rng.uniform(0, np.pi)
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    plank = rng.uniform(130, 190)

    def surface(x: Field, y: Field, lighting: Lighting) -> Field:
        along, across = x * cos + y * sin, y * cos - x * sin
        stains = noise(x / 40 + offset, y / 40, octave=4)
        tone = 1 - 0.35 * np.clip(stains - 0.25, 0, 1)
        if kind == "wood":
            board = np.floor(across / plank)
            bent = across + 5 * noise(along / 120 + offset, across / 60 + board * 17, octave=1)
            fibres = noise(along / 40 + board * 31, bent / 1.6 + offset)
            growth = np.sin(bent / 4.5 + 2.5 * noise(along / 150, bent / 30 + offset + board * 9))
            seam = np.exp(-np.square((across / plank - board - 0.5) / 0.008))
            tone = tone * (1 + 0.10 * fibres + 0.13 * growth) * (1 - 0.75 * seam)
            relief = 0.12 * fibres - 1.5 * seam
        else:
            lines = noise(along / 60 + offset, across / 0.9)
            nicks = np.clip(noise(along / 35, across / 1.4 + offset, octave=1) - 0.95, 0, 1)
            tone = tone * (1 + (0.12 if kind == "steel" else 0.02) * lines + 0.9 * nicks)
            relief = 0.10 * noise(x / 2.2 + offset, y / 2.2) + 0.15 * stains
        slope_x, slope_y = slopes(relief)
        return shade(slope_x, slope_y, tinted(tone, color), 0.55 if kind == "steel" else 0.0, 0.6, lighting)

    return surface


def tray(rng: np.random.Generator) -> Surface:
    """A moulded plastic tray with ribs or dimples."""
    colors: list[RGB] = [
        (0.035, 0.09, 0.26),
        (0.20, 0.21, 0.22),
        (0.40, 0.15, 0.03),
        (0.05, 0.055, 0.06),
        (0.10, 0.22, 0.10),
    ]
    color = colors[int(rng.integers(len(colors)))]
    pattern = str(rng.choice(["ribs", "dimples", "grid"]))
    pitch = rng.uniform(26, 46) if pattern != "grid" else rng.uniform(90, 140)
    offset, turn = rng.uniform(0, 512), rng.uniform(-0.2, 0.2)
    cos, sin = float(np.cos(turn)), float(np.sin(turn))

    def surface(x: Field, y: Field, lighting: Lighting) -> Field:
        p, q = (x * cos + y * sin + offset) / pitch, (y * cos - x * sin + offset) / pitch
        p, q = p - np.round(p), q - np.round(q)
        if pattern == "ribs":
            relief = 2.2 * np.clip((0.16 - np.abs(p)) * 18, 0, 1)
        elif pattern == "dimples":
            relief = -2.5 * np.clip((0.22 - np.hypot(p, q)) * 9, 0, 1)
        else:
            relief = 3.0 * np.clip((0.03 - np.minimum(np.abs(p), np.abs(q))) * 45, 0, 1)
        grain = noise(x / 1.3 + offset, y / 1.3)
        scuffs = np.clip(noise(x / 30, y / 3 + offset, octave=1) - 0.7, 0, 1)
        dirt = noise(x / 25 + offset, y / 25, octave=3)
        slope_x, slope_y = slopes(relief + 0.10 * grain)
        tone = 1 + 0.10 * dirt + 0.5 * scuffs
        return shade(slope_x, slope_y, tinted(tone, color), 0.0, 0.42, lighting)

    return surface


SURFACES: Final = {"conveyor": conveyor, "bench": bench, "tray": tray}
