"""Damage on a part: scratches and dents, as changes of its relief with an exact mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from curate.demo.parts import Part, Relief
from curate.demo.shading import Field, noise

_SEARCH = 256


@dataclass(frozen=True)
class Defect:
    """One damaged spot.

    Attributes:
        label: 'scratch' or 'dent'.
        apply: From u, v and the sound relief to the damaged one and the damage's weight in [0, 1] at every point.
    """

    label: str
    apply: Callable[[Field, Field, Relief], tuple[Relief, Field]]


def sample_defect(part: Part, rng: np.random.Generator) -> Defect | None:
    """A scratch or a dent somewhere on a part's body, or None where the part has no room for one."""
    u, v = (rng.uniform(-e, e, (1, _SEARCH)).astype(np.float32) for e in part.extent)
    relief = part.relief(u, v)
    depth = np.where(relief.second > 0.5, 0.0, -relief.edge)[0]
    margin = 0.06 if part.thickness == 0 else 0.10
    inside = np.flatnonzero(depth > margin)
    if len(inside) < 4:
        return None
    if rng.random() < 0.6:
        first, others = inside[0], inside[1:]
        distance = np.hypot(u[0, others] - u[0, first], v[0, others] - v[0, first])
        far = others[np.argmin(np.abs(distance - rng.uniform(0.5, 0.9)))]
        if np.hypot(u[0, far] - u[0, first], v[0, far] - v[0, first]) < 0.3:
            return None
        ends = [float(x) for x in (u[0, first], v[0, first], u[0, far], v[0, far])]
        return _scratch(ends, rng)
    deepest = inside[np.argmax(depth[inside])]
    return _dent(float(u[0, deepest]), float(v[0, deepest]), float(min(1.1 * depth[deepest], 0.17)), rng)


def _scratch(ends: list[float], rng: np.random.Generator) -> Defect:
    """A groove along a slightly bent line, bright where fresh metal shows, with fading ends."""
    u0, v0, u1, v1 = ends
    length = float(np.hypot(u1 - u0, v1 - v0))
    along_u, along_v = (u1 - u0) / length, (v1 - v0) / length
    width = rng.uniform(0.022, 0.034)
    bend = rng.uniform(-0.08, 0.08)
    bright = rng.uniform(1.7, 2.3) if rng.random() < 0.5 else rng.uniform(0.3, 0.42)

    def apply(u: Field, v: Field, relief: Relief) -> tuple[Relief, Field]:
        t = ((u - u0) * along_u + (v - v0) * along_v) / length
        across = (v - v0) * along_u - (u - u0) * along_v - bend * np.sin(np.pi * t)
        across = across + 0.012 * noise(u * 9, v * 9)
        local = width * np.clip(6 * t * (1 - t), 0.35, 1)
        weight = np.clip(1.5 - np.abs(across) / local, 0, 1) * ((t > 0) & (t < 1))
        groove = np.exp(-np.square(across / local)) * ((t > 0) & (t < 1))
        tone = relief.tone * (1 + (bright - 1) * groove)
        return replace(relief, height=relief.height - 0.03 * groove, tone=tone), weight.astype(np.float32)

    return Defect("scratch", apply)


def _dent(u0: float, v0: float, radius: float, rng: np.random.Generator) -> Defect:
    """A shallow elliptical pit with a raised rim."""
    turn = rng.uniform(0, np.pi)
    squash = rng.uniform(1.0, 1.5)
    depth = radius * rng.uniform(0.45, 0.7)
    cos, sin = float(np.cos(turn)), float(np.sin(turn))

    def apply(u: Field, v: Field, relief: Relief) -> tuple[Relief, Field]:
        x = ((u - u0) * cos + (v - v0) * sin) / radius
        y = ((v - v0) * cos - (u - u0) * sin) / radius * squash
        q = np.square(x) + np.square(y)
        pit = np.exp(-1.8 * q) - 0.35 * np.exp(-np.square((np.sqrt(q) - 1.0) / 0.25))
        tone = relief.tone * (1 - 0.3 * np.exp(-1.5 * q))
        weight = np.clip((1.15 - np.sqrt(q)) / 0.1, 0, 1)
        return replace(relief, height=relief.height - depth * pit, tone=tone), weight.astype(np.float32)

    return Defect("dent", apply)
