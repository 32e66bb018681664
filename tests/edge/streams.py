"""A camera in the network that shows what a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from curate.demo import NetworkCamera, network_camera


@contextmanager
def serving_mjpeg(pictures: list[npt.NDArray[np.uint8]] | None = None) -> Iterator[NetworkCamera]:
    """A camera that shows RGB pictures, 50 a second; without any, grey ones that get lighter by 4 each."""
    with network_camera(
        pictures or [np.full((48, 64, 3), 4 * number, np.uint8) for number in range(60)], rate=50
    ) as camera:
        yield camera
