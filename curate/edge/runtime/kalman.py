"""Where boxes will be: a Kalman filter of constant velocity for many boxes at once.

A box is (middle x, middle y, width, height). None of the four depends on another, so each is a filter of two numbers, value and
velocity, whose 2 x 2 covariance is kept as three numbers; nothing is inverted. Noise grows with the box, as in SORT's successors
(Bewley et al., 2016; Aharon et al., "BoT-SORT", 2022). Time is in frames and need not be whole or even.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_POSITION: Final = (
    1 / 20
)  # standard deviations, as parts of a box's sides: of a measurement, and of what moves it in a frame
_VELOCITY: Final = 1 / 160
_SMALLEST: Final = 1.0  # pixels that a side is taken for at least, or noise would vanish with it


class BoxFilter:
    """The state of n boxes.

    Attributes:
        value: Middle and sides; shape (n, 4).
        velocity: Of each, per frame; shape (n, 4).
    """

    def __init__(self) -> None:
        self.value = np.zeros((0, 4))
        self.velocity = np.zeros((0, 4))
        self._covariance = np.zeros((3, 0, 4))  # of value, of value with velocity, of velocity

    def add(self, measured: FloatArray) -> None:
        """Begin with boxes as (middle x, middle y, width, height), shape (k, 4), at rest."""
        sides = _sides(measured)
        begun = np.stack([(2 * _POSITION * sides) ** 2, np.zeros_like(sides), (10 * _VELOCITY * sides) ** 2])
        self.value = np.concatenate([self.value, measured])
        self.velocity = np.concatenate([self.velocity, np.zeros_like(measured)])
        self._covariance = np.concatenate([self._covariance, begun], axis=1)

    def keep(self, rows: npt.NDArray[np.bool_]) -> None:
        """Forget the others; bool of shape (n,)."""
        self.value, self.velocity = self.value[rows], self.velocity[rows]
        self._covariance = self._covariance[:, rows]

    def predict(self, elapsed: float, *, unseen: npt.NDArray[np.bool_]) -> None:
        """Go on by a time in frames. Boxes that are not seen, bool of shape (n,), keep their sides."""
        self.velocity[unseen, 2:] = 0
        sides = _sides(self.value)
        value, mixed, velocity = self._covariance
        self.value += elapsed * self.velocity
        self.value[:, 2:] = np.maximum(self.value[:, 2:], _SMALLEST)
        value += elapsed * (2 * mixed + elapsed * velocity) + elapsed * (_POSITION * sides) ** 2
        mixed += elapsed * velocity
        velocity += elapsed * (_VELOCITY * sides) ** 2

    def place(self, rows: npt.NDArray[np.int64], value: FloatArray, velocity: FloatArray) -> None:
        """Say where the boxes of the rows (k,) are, and how they move, shapes (k, 4): something else knows it better."""
        self.value[rows], self.velocity[rows] = value, velocity

    def correct(self, rows: npt.NDArray[np.int64], measured: FloatArray) -> None:
        """Take in measured boxes, shape (k, 4), of the rows (k,)."""
        value, mixed, velocity = self._covariance[:, rows]
        total = value + (_POSITION * _sides(self.value[rows])) ** 2
        gain, gain_velocity = value / total, mixed / total
        off = measured - self.value[rows]
        self.value[rows] += gain * off
        self.velocity[rows] += gain_velocity * off
        self._covariance[:, rows] = (1 - gain) * value, (1 - gain) * mixed, velocity - gain_velocity * mixed


def _sides(boxes: FloatArray) -> FloatArray:
    """(width, height, width, height) of each box: what the noise of its four numbers goes by."""
    return np.maximum(np.tile(boxes[:, 2:], 2), _SMALLEST)
