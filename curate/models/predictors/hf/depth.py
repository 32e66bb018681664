"""Depth estimators, each with its own `post_process_depth_estimation`; larger is farther in what is given here."""

from __future__ import annotations

import inspect
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.models.predictors.base import DepthMap
from curate.models.predictors.hf.detection import to_numpy
from curate.models.predictors.hf.network import Network, Prepared
from curate.models.predictors.hf.predictor import Read

Meaning = Literal["metres", "nearness"]
"""What a network's numbers are: metres; or larger for what is nearer, with a scale that differs from image to image."""

_MEANINGS: Final[dict[str, Meaning]] = {
    "depth_pro": "metres",
    "dpt": "nearness",  # MiDaS (Ranftl et al., 2022)
    "glpn": "metres",
    "tipsv2_dpt": "metres",
    "zoedepth": "metres",
}
_TOLD_BY_CONFIG: Final = "depth_anything"
_ROUNDING: Final = 1e-5


def read_depth(network: Network) -> Read:
    """Say what a depth estimator's outputs mean.

    Raises:
        UsageError: It is not known what its numbers are.
    """
    meaning = _meaning(network)
    post_process = network.post_process("post_process_depth_estimation")
    takes_source = "source_sizes" in inspect.signature(post_process).parameters

    def read(outputs: Any, prepared: Prepared) -> DepthMap:
        source = {"source_sizes": [prepared.size]} if takes_source else {}
        result = post_process(outputs, target_sizes=[prepared.size], **source)[0]
        values = to_numpy(result["predicted_depth"]).astype(np.float32).reshape(prepared.size)
        values = np.where(np.isfinite(values), values, np.float32(np.nan))
        if meaning == "nearness":
            return DepthMap(_farness(values), metric=False)
        return DepthMap(np.maximum(values, 0), metric=True)  # scaling overshoots at edges

    return read


def _meaning(network: Network) -> Meaning:
    kind = network.config.model_type
    if kind == _TOLD_BY_CONFIG:
        return "metres" if network.config.depth_estimation_type == "metric" else "nearness"
    if kind not in _MEANINGS:
        raise UsageError(
            f"what the depths of a model of type '{kind}' stand for is not known",
            where=network.snapshot.source,
            remedy=f"use one of type {', '.join(sorted([*_MEANINGS, _TOLD_BY_CONFIG]))}",
        )
    return _MEANINGS[kind]


def _farness(nearness: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turned round, and scaled to [0, 1] within the image; zeros where everything is equally near."""
    if np.isnan(nearness).all():
        return nearness
    nearest, farthest = np.nanmax(nearness), np.nanmin(nearness)
    if nearest - farthest <= _ROUNDING * np.nanmax(np.abs(nearness)):
        return np.where(np.isnan(nearness), nearness, np.float32(0))
    return np.asarray((nearest - nearness) / (nearest - farthest), np.float32)
