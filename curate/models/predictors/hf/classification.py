"""Image classifiers. Images are cut and scaled as the model's own image processor does."""

from __future__ import annotations

from typing import Any

import numpy as np

from curate.models.predictors.base import Classes
from curate.models.predictors.hf.detection import to_numpy
from curate.models.predictors.hf.names import ClassNames
from curate.models.predictors.hf.network import Network, Prepared
from curate.models.predictors.hf.predictor import Read


def read_classes(network: Network, names: ClassNames) -> Read:
    """Say what a classifier's outputs mean: classes exclude one another unless its configuration says otherwise."""
    several = network.config.problem_type == "multi_label_classification"

    def read(outputs: Any, prepared: Prepared) -> Classes:
        logits = outputs.logits[0]
        probabilities = to_numpy(logits.sigmoid() if several else logits.softmax(-1))
        return Classes(probabilities[names.kept].astype(np.float32))

    return read
