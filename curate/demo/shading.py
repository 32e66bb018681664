"""Light and material: from a surface's slope to what a camera sees of it.

A local reflection model in linear light. Metals mirror an environment made of a key lamp, an optional ring lamp around the
lens, a sky that brightens upwards and a few soft bands; everything else is Lambertian with a faint highlight. The lobe of
the key lamp is the spherical Gaussian approximation of Blinn-Phong (Wang et al., "All-Frequency Rendering of Dynamic,
Spatially-Varying Reflectance", 2009). Axes: x to the right, y down, z towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]
"""A float32 array of shape (height, width); (3, height, width) where it is a colour, (height, width, 3) where an image."""

RGB = tuple[float, float, float]
"""Linear light, 1 is white."""

NOISE_SIZE: Final = 512


@dataclass(frozen=True)
class Material:
    """What something is made of.

    Attributes:
        color: Linear reflectance.
        metal: 1 mirrors its surroundings, 0 is matt.
        roughness: In (0, 1]; small is polished.
        texture: How it was made: 'machined' (fine lines), 'cast' (bumps) or 'spangle' (zinc crystals).
        rusts: Whether rust may be on it.
    """

    color: RGB
    metal: float
    roughness: float
    texture: str = "machined"
    rusts: bool = False


MATERIALS: Final = {
    "steel": Material((0.60, 0.60, 0.61), 0.85, 0.34, "machined", rusts=True),
    "polished": Material((0.70, 0.70, 0.71), 0.95, 0.20),
    "cast": Material((0.36, 0.35, 0.34), 0.60, 0.55, "cast", rusts=True),
    "brass": Material((0.72, 0.50, 0.17), 0.88, 0.30),
    "blackened": Material((0.085, 0.083, 0.086), 0.70, 0.38, rusts=True),
    "galvanised": Material((0.52, 0.55, 0.58), 0.70, 0.50, "spangle"),
    "rubber": Material((0.022, 0.022, 0.025), 0.05, 0.60),
    "rubber_red": Material((0.28, 0.05, 0.03), 0.05, 0.55),
}


@dataclass(frozen=True)
class Lighting:
    """One set-up of lamps, as it is in one scene.

    Attributes:
        name: One of `LIGHTINGS`.
        key: Unit vector towards the key lamp.
        key_color: Its light.
        sky: Light from everywhere.
        ring: Strength of a ring lamp around the lens.
        shadow: How dark a cast shadow is, in [0, 1].
        blur: Softness of its edge, as a part of its length.
        slope: Change of the light from the image's centre to its right and its lower border.
        vignette: Loss of light in the corners.
        bands: Amplitude, frequency x, frequency y and phase of soft bands in the surroundings.
    """

    name: str
    key: RGB
    key_color: RGB
    sky: RGB
    ring: float
    shadow: float
    blur: float
    slope: tuple[float, float]
    vignette: float
    bands: tuple[float, float, float, float]


# name: elevation and azimuth of the key lamp in degrees (azimuth 0 is from the right, 90 from below), key, sky, ring,
# shadow, blur, slope, vignette
_SETUPS: Final[dict[str, tuple[float, float, RGB, RGB, float, float, float, tuple[float, float], float]]] = {
    "ring": (72, 250, (0.58, 0.59, 0.60), (0.50, 0.51, 0.52), 0.9, 0.42, 0.9, (0.0, 0.0), 0.22),
    "side-left": (30, 180, (1.55, 1.50, 1.42), (0.30, 0.31, 0.34), 0.0, 0.72, 0.25, (-0.28, 0.0), 0.12),
    "backlight-warm": (24, 278, (1.60, 1.18, 0.72), (0.36, 0.30, 0.24), 0.0, 0.66, 0.35, (0.0, -0.30), 0.15),
    "dim": (55, 215, (0.34, 0.38, 0.46), (0.17, 0.19, 0.23), 0.0, 0.50, 0.7, (0.1, 0.1), 0.45),
}
LIGHTINGS: Final = tuple(_SETUPS)


def sample_lighting(name: str, rng: np.random.Generator) -> Lighting:
    """One set-up with the small differences between one scene and the next."""
    elevation, azimuth, key_color, sky, ring, shadow, blur, slope, vignette = _SETUPS[name]
    up, around = np.radians([elevation + rng.uniform(-6, 6), azimuth + rng.uniform(-22, 22)])
    gain = rng.uniform(0.85, 1.15)
    return Lighting(
        name=name,
        key=(float(np.cos(up) * np.cos(around)), float(np.cos(up) * np.sin(around)), float(np.sin(up))),
        key_color=(key_color[0] * gain, key_color[1] * gain, key_color[2] * gain),
        sky=sky,
        ring=ring,
        shadow=shadow,
        blur=blur,
        slope=(slope[0] + rng.uniform(-0.08, 0.08), slope[1] + rng.uniform(-0.08, 0.08)),
        vignette=vignette,
        bands=(0.16, rng.uniform(2, 5), rng.uniform(2, 5), rng.uniform(0, 6.3)),
    )


def shade(
    slope_x: Field, slope_y: Field, color: Field, metal: Field | float, roughness: Field | float, lighting: Lighting
) -> Field:
    """Light that a surface sends to a camera straight above it.

    Args:
        slope_x: Rise of the surface per pixel to the right, shape (h, w).
        slope_y: Rise per pixel downwards, shape (h, w).
        color: Linear reflectance, shape (3, h, w).
        metal: 1 mirror-like, 0 matt; number or shape (h, w).
        roughness: In (0, 1]; number or shape (h, w).
        lighting: The lamps.

    Returns:
        Linear light, shape (3, h, w), not clipped.
    """
    nz = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    nx, ny = -slope_x * nz, -slope_y * nz
    lx, ly, lz = lighting.key
    amplitude, fx, fy, phase = lighting.bands

    # The reflected ray is 2 (n . z) n - z.
    twice = 2 * nz
    rx, ry, rz = twice * nx, twice * ny, twice * nz - 1
    towards_key = nx * lx + ny * ly + nz * lz
    sharpness = 1.2 / (roughness * roughness)
    mirrored_key = np.exp(sharpness * (twice * towards_key - (1 + lz))) * (0.9 + 0.12 * sharpness)
    key, sky = np.maximum(towards_key, 0), 0.6 + 0.4 * nz
    gloss = mirrored_key * (0.03 * (1 - metal))
    if np.max(metal) > 0:
        mirrored_sky = 0.72 + 0.34 * rz + amplitude * np.sin(fx * rx + fy * ry + phase)
        if lighting.ring:
            mirrored_sky += lighting.ring * np.exp(-np.square((rz - 0.62) * 5.0))
        key = key + metal * 0.55 * (mirrored_key - key)
        sky = sky + metal * (mirrored_sky - sky)
    return np.stack(
        [
            color[c] * (key * lighting.key_color[c] + sky * lighting.sky[c]) + gloss * lighting.key_color[c]
            for c in range(3)
        ]
    )


def slopes(height: Field) -> tuple[Field, Field]:
    """Rise per pixel to the right and downwards of a height map in pixels; two arrays of its shape."""
    return (
        cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125, borderType=cv2.BORDER_REPLICATE),
        cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125, borderType=cv2.BORDER_REPLICATE),
    )


def tinted(tone: Field, color: RGB) -> Field:
    """A tone of shape (h, w) times a colour; shape (3, h, w)."""
    out: Field = tone * np.asarray(color, np.float32)[:, None, None]
    return out


def noise(x: Field, y: Field, *, octave: int = 0) -> Field:
    """Smooth noise in about [-1, 1] at the given places; the same everywhere and always, repeating after 512.

    Args:
        x: Places, one unit per grain of noise at octave 0, shape (h, w).
        y: Likewise.
        octave: 0 for one size of grain; n adds n larger ones (fractal).
    """
    values: Field = cv2.remap(_noise_tile(octave), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return values


@cache
def _noise_tile(octaves: int) -> Field:
    rng = np.random.default_rng(20240607)
    total = np.zeros((NOISE_SIZE, NOISE_SIZE), np.float32)
    for octave in range(octaves + 1):
        small = rng.standard_normal((NOISE_SIZE >> octave, NOISE_SIZE >> octave)).astype(np.float32)
        wrapped = np.pad(small, 2, mode="wrap")
        size = (NOISE_SIZE >> octave) + 4
        large = cv2.resize(wrapped, (size << octave, size << octave), interpolation=cv2.INTER_CUBIC)
        margin = 2 << octave
        total += large[margin : margin + NOISE_SIZE, margin : margin + NOISE_SIZE] * (
            1.0 if octaves == 0 else 1.4**octave
        )
    tile: Field = total / (2.0 * total.std())
    return tile
