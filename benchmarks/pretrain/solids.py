"""Solids in space, and the flat pieces that a camera sees of them.

Space has x to the right, y down and z away from the camera. A piece is a convex polygon; pieces of one group make up one body,
which is shaded as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Point = Sequence[float] | Array
"""Three numbers: x, y, z."""

_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclass(frozen=True)
class Piece:
    """What the camera sees of one solid.

    Attributes:
        outline: Corners of a polygon, float64 of shape (k, 2).
        depth: Of its middle; larger is farther away.
        group: Which body it belongs to.
        material: Number of its colour.
        light: Of a plane face, the cosine of its normal to the camera, which shades it; None where it is round.
    """

    outline: Array
    depth: float
    group: int
    material: int
    light: float | None = None


class Solid(Protocol):
    """Something with a body."""

    def pieces(self, turn: Array) -> list[Piece]:
        """What is seen after rotation by a matrix of shape (3, 3)."""


@dataclass(frozen=True)
class _TwoEnds:
    start: Point
    end: Point
    start_radius: float
    end_radius: float
    material: int = 0
    group: int = 0


class Limb(_TwoEnds):
    """Two balls and everything between them: an arm, a neck, a trunk, a pipe."""

    def pieces(self, turn: Array) -> list[Piece]:
        """One: the hull of two circles."""
        ends = np.array([self.start, self.end], float) @ turn.T
        circles = [
            _CIRCLE * radius + end[:2] for end, radius in zip(ends, (self.start_radius, self.end_radius), strict=True)
        ]
        return [Piece(hull(np.concatenate(circles)), float(ends[:, 2].mean()), self.group, self.material)]


@dataclass(frozen=True)
class Ball:
    """An ellipsoid whose axes are those of space."""

    centre: Point
    radii: Point
    material: int = 0
    group: int = 0

    def pieces(self, turn: Array) -> list[Piece]:
        """One: an ellipse."""
        centre = turn @ np.array(self.centre, float)
        spread = (turn * np.square(np.array(self.radii, float))) @ turn.T
        values, axes = np.linalg.eigh(spread[:2, :2])
        outline = (_CIRCLE * np.sqrt(np.maximum(values, 1e-9))) @ axes.T + centre[:2]
        return [Piece(outline, float(centre[2]), self.group, self.material)]


@dataclass(frozen=True)
class Prism:
    """A plane outline with a thickness: a wall, a wheel, a gear, a board, a letter.

    Attributes:
        outline: Corners in the plane of x and y, shape (k, 2).
        thickness: Along z.
        centre: Where the middle lies.
        tilt: Rotation about the centre, a matrix of shape (3, 3); None for none.
        material: Number of its colour.
        group: Which body it belongs to.
    """

    outline: Array
    thickness: float
    centre: Point = (0, 0, 0)
    tilt: Array | None = None
    material: int = 0
    group: int = 0

    def pieces(self, turn: Array) -> list[Piece]:
        """The sides that face the camera, and the cover that does."""
        full = turn if self.tilt is None else turn @ self.tilt
        centre = turn @ np.array(self.centre, float)
        half = self.thickness / 2
        covers = [
            np.column_stack([self.outline, np.full(len(self.outline), z)]) @ full.T + centre for z in (-half, half)
        ]
        normal = full[:, 2]
        front, back = (covers[0], covers[1]) if normal[2] > 0 else (covers[1], covers[0])
        depth = float(front[:, 2].mean())
        around = np.concatenate([front[:, :2], back[:, :2]])
        side = (
            hull(around)
            if len(self.outline) <= 4
            else around[cv2.convexHull(around.astype(np.float32), returnPoints=False)[:, 0]]
        )
        sides = (
            [] if self.thickness < 0.03 else [Piece(side, float(back[:, 2].mean()), self.group, self.material, 0.45)]
        )
        return [*sides, Piece(front[:, :2], depth, self.group, self.material, float(abs(normal[2])))]


def box(centre: Point, size: Point, material: int = 0, group: int = 0, tilt: Array | None = None) -> Prism:
    """A cuboid: width, height and depth."""
    width, height, depth = size
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array([width, height]) / 2
    return Prism(corners, depth, centre, tilt, material, group)


def lathe(profile: Array, centre: Point = (0, 0, 0), material: int = 0, group: int = 0) -> list[Solid]:
    """What a lathe makes: radii along a vertical axis, shape (k, 2) as (y, radius)."""
    x, y, z = centre
    solids: list[Solid] = []
    for (top, upper), (bottom, lower) in pairwise(profile):
        solids.append(Turned((x, y + top, z), (x, y + bottom, z), upper, lower, material, group))
    return solids


class Turned(_TwoEnds):
    """A part of a cone: two discs and everything between them."""

    def pieces(self, turn: Array) -> list[Piece]:
        """One: the hull of two ellipses."""
        axis = np.array(self.end, float) - np.array(self.start, float)
        axis /= max(float(np.linalg.norm(axis)), 1e-9)
        across = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
        across /= np.linalg.norm(across)
        ring = _CIRCLE @ np.stack([across, np.cross(axis, across)])
        rings = [
            (ring * radius + end) @ turn.T
            for end, radius in (
                (np.array(self.start, float), self.start_radius),
                (np.array(self.end, float), self.end_radius),
            )
        ]
        points = np.concatenate(rings)
        return [Piece(hull(points[:, :2]), float(points[:, 2].mean()), self.group, self.material)]


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Rotation about y, then x, then z; radians. Matrix of shape (3, 3)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def hull(points: Array) -> Array:
    """The convex hull of points of shape (k, 2)."""
    return np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], dtype=float)
