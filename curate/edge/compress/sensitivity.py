"""What each layer costs when it alone computes with whole numbers: how far the model's outputs then move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.edge.compress.graph import layers
from curate.edge.compress.quantise import Calibrated, Ranges, Scheme, quantise
from curate.models.passes import Progress

Array = npt.NDArray[Any]


def sensitivities(
    calibrated: Calibrated,
    images: Sequence[Array],
    scheme: Scheme,
    ranges: Ranges,
    progress: Progress | None = None,
) -> dict[str, float]:
    """How far outputs move for each layer, the most sensitive first.

    No labels are needed, so nothing is fitted to the images that judge.

    Args:
        calibrated: The model with its ranges.
        images: Inputs of one row each, of those that calibrate.
        scheme: As it will be quantised.
        ranges: The same.
        progress: Told (layers done, layers to do).

    Returns:
        Root of the mean square of what an output moves, by that of the output, averaged over outputs and images; by the
        layer's name.
    """
    expected = _outputs(calibrated.model, calibrated.entry, images)
    found: dict[str, float] = {}
    each = layers(calibrated.model)
    for done, layer in enumerate(each):
        model = quantise(calibrated, scheme, ranges, only=[layer.name])
        found[layer.name] = distance(expected, _outputs(model, calibrated.entry, images))
        if progress is not None:
            progress(done + 1, len(each))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def distance(expected: Sequence[Sequence[Array]], given: Sequence[Sequence[Array]]) -> float:
    """How far outputs are from those that are expected, of several images, as a part of their size."""
    parts = [
        float(np.sqrt(np.mean((a - b) ** 2)) / max(np.sqrt(np.mean(a**2)), 1e-9))
        for one, other in zip(expected, given, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return float(np.mean(parts))


def _outputs(model: Any, entry: str, images: Sequence[Array]) -> list[list[Array]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [[np.asarray(each, np.float64) for each in session.run(None, {entry: image})] for image in images]
