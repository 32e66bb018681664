"""Detectors: DETR and its kin, each with its own `post_process_object_detection`.

That function says which boxes there are, but not what else the model thought of them. So it is asked a second time, with the
number of each query in place of its box: then it says which query each result came from, and the query's logits give the
probabilities of all classes.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.models.predictors.base import VOID, Objects, Options, Size
from curate.models.predictors.hf.names import ClassNames
from curate.models.predictors.hf.network import Network, Prepared
from curate.models.predictors.hf.predictor import Read

Activation = Literal["softmax", "sigmoid"]

_EVERYTHING: Final = -1.0  # a threshold below all scores


def read_objects(network: Network, names: ClassNames, options: Options) -> Read:
    """Say what a detector's outputs mean.

    Raises:
        UsageError: It is not of DETR's kind: its boxes are not those of queries with a logit for each class.
    """
    post_process = network.post_process("post_process_object_detection")
    activation = _activation(post_process)
    if activation is None:
        raise UsageError(
            f"detectors of type '{network.config.model_type}' are not supported",
            where=network.snapshot.source,
            remedy="use one of DETR's kind (RT-DETR, D-FINE, YOLOS, ...), or export it to ONNX and write onnx:PATH",
        )
    how: dict[str, Any] = {"threshold": options.min_score}
    if "top_k" in inspect.signature(post_process).parameters:  # else the best 100
        how["top_k"] = options.most_objects

    def read(outputs: Any, prepared: Prepared) -> Objects:
        result = post_process(outputs, target_sizes=[prepared.size], **how)[0]
        queries = post_process(_with_numbers_for_boxes(outputs), **how)[0]["boxes"][:, 0].round().long()
        return keep_objects(
            prepared.size,
            to_numpy(result["boxes"]),
            to_numpy(result["labels"]).astype(np.int64),
            to_numpy(result["scores"]),
            to_numpy(to_probabilities(outputs.logits[0, queries], activation)),
            names,
            options,
        )

    return read


def keep_objects(
    size: Size,
    corners: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    scores: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    names: ClassNames,
    options: Options,
) -> Objects:
    """Objects as they are kept: boxes inside the image, classes that count, surest first, no more than wanted.

    Args:
        size: (height, width) of the image.
        corners: [left, top, right, bottom] in pixels; shape (k, 4).
        labels: The model's class numbers; shape (k,).
        scores: Shape (k,).
        probabilities: Of the model's classes; shape (k, m).
        names: Which of the classes count.
        options: How many are wanted.
    """
    height, width = size
    corners = np.clip(corners.astype(np.float64), 0, [width, height, width, height])
    numbers = np.full(max(len(names.numbers), labels.max(initial=-1) + 1), VOID)
    numbers[: len(names.numbers)] = names.numbers
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    fit = np.flatnonzero((boxes[:, 2:] > 0).all(axis=1) & (numbers[labels] != VOID))
    best = fit[np.argsort(-scores[fit], kind="stable")][: options.most_objects]
    return Objects(
        size=size,
        boxes=boxes[best],
        labels=numbers[labels[best]],
        scores=scores[best].astype(np.float64),
        probabilities=probabilities[best][:, names.kept].astype(np.float32),
    )


def to_probabilities(logits: Any, activation: Activation) -> Any:
    """Probabilities of the classes, without that of 'no object', which is the last where they exclude one another.

    Args:
        logits: Tensor of shape (..., m) or (with softmax) (..., m + 1).
        activation: How.
    """
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)[..., :-1]


def to_numpy(tensor: Any) -> npt.NDArray[Any]:
    """A tensor from any device."""
    return np.asarray(tensor.detach().cpu())


def _with_numbers_for_boxes(outputs: Any) -> Any:
    """The outputs, with a box for each query whose left side is the query's number."""
    import torch

    boxes = torch.zeros_like(outputs.pred_boxes, dtype=torch.float32)
    boxes[..., 0] = torch.arange(boxes.shape[1], device=boxes.device)
    return SimpleNamespace(**{**vars(outputs), "pred_boxes": boxes})


def _activation(post_process: Any) -> Activation | None:
    """How a model's post-processing turns logits into scores; None if it is not of DETR's kind.

    Found by trying: of logits 2, 0 and 0 a softmax makes 0.787, and a sigmoid 0.881.
    """
    import torch

    logits, boxes = torch.tensor([[[2.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 0.0, 0.0]]])
    example = SimpleNamespace(logits=logits, pred_boxes=boxes)
    try:
        score = float(post_process(example, threshold=_EVERYTHING)[0]["scores"].max())
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
        return None
    kinds: tuple[Activation, ...] = ("softmax", "sigmoid")
    return next((kind for kind in kinds if abs(float(to_probabilities(logits, kind).max()) - score) < 1e-4), None)
