"""Why an object is thought to be of the wrong size, or in the wrong place: in words and in numbers, for a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from curate.checks.depth.unusual import Sized, Trend

_FITS: Final = 2.0
"""Standard deviations from a class's usual size up to which an object may be one of it."""

_NAMED: Final = 3


def size_evidence(
    objects: Sized, row: int, usual: float, trends: Mapping[int, Trend], classes: Sequence[str], *, metric: bool
) -> dict[str, Any]:
    """What speaks against the size of an object.

    Args:
        objects: All objects.
        row: The one in question.
        usual: Size that is usual for its class at its depth, on its image.
        trends: What is usual for each class.
        classes: Their names.
        metric: Whether depths are metres.
    """
    depth, size, number = float(objects.depth[row]), float(objects.size[row]), int(objects.label[row])
    x = np.array([np.log(depth) if metric else depth])
    # What is usual on this image differs from what is usual anywhere by as much for each class.
    image = np.log(usual) - trends[number].at(x)[0]
    apart = {
        classes[each]: abs(np.log(size) - image - trend.at(x)[0]) / trend.sigma(objects.pixels[row : row + 1])[0]
        for each, trend in trends.items()
        if each != number
    }
    fits = sorted((name for name, value in apart.items() if value < _FITS), key=lambda name: apart[name])[:_NAMED]
    factor = size / usual
    where = f"at {depth:.3g} m" if metric else f"at a relative depth of {depth:.2f}"
    also = f"; it would be usual for '{fits[0]}'" if fits else ""
    return {
        "why": f"{factor:.2g} times as large as is usual for '{classes[number]}' {where}: the class, the box or the depth is "
        f"wrong{also}",
        "side": "size at depth",
        "depth": round(depth, 4),
        "metric": metric,
        "size": round(float(objects.pixels[row]), 1),
        "usual_size": round(float(objects.pixels[row]) / factor, 1),
        "objects": trends[number].count,
        "fits": fits,
    }


def distance_evidence(objects: Sized, row: int, classes: Sequence[str]) -> dict[str, Any]:
    """What speaks against the distance, in metres, of an object; arguments as for `size_evidence`."""
    depth, number = float(objects.depth[row]), int(objects.label[row])
    own = objects.depth[objects.label == number]
    low, high = np.quantile(own, [0.05, 0.95]).tolist()
    than = "farther" if depth > float(np.median(own)) else "nearer"
    return {
        "why": f"{depth:.3g} m away, {than} than '{classes[number]}' is ({low:.3g} to {high:.3g} m in nine of ten): the class or "
        "the depth is wrong, or the scene is unlike the others",
        "side": "distance",
        "depth": round(depth, 4),
        "metric": True,
        "usual_depth": [round(low, 4), round(high, 4)],
        "objects": len(own),
    }
