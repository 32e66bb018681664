"""Training of detectors: `create` makes what the trainer trains; see `curate.models.training.base.Learner`.

    fcos/builtin        a light detector on the convolutions of curate's own encoder: offline, learns in minutes on two cores
    fcos/onnx           the same on somebody's detector in ONNX (--weights onnx:PATH), all of whose weights learn on
    fcos/NAME           the same on a network of timm
    ssdlite320          torchvision's SSDlite with MobileNetV3
    rtdetr/ID, dfine/ID RT-DETR and D-FINE of transformers: a hub id, a local folder, or 'scratch'

Images are put into the input top left with their shape kept. Crowds are areas in which nothing is right or wrong; images
without boxes are examples of nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.errors import InputError
from curate.imaging import Pixels
from curate.models.predictors.base import Objects
from curate.models.predictors.postprocess import Limits, best_class, finish
from curate.models.training.augment import Augmentation
from curate.models.training.base import SCRATCH, Example, TrainingSettings
from curate.models.training.detect import data, scoring
from curate.models.training.detect.base import Detector
from curate.models.training.detect.defaults import complete, input_size, shape_of
from curate.models.training.detect.export import NMS_IOU, export_detector
from curate.models.training.detect.models import build
from curate.runner import Placement

LIMITS: Final = Limits(min_score=0.01, nms_iou=NMS_IOU, most_objects=100)
"""Of what is validated: COCO counts a hundred objects of an image."""

_BACKBONE_SHARE: Final = 0.1  # of the head's learning rate, for weights that are trained already
_MOST_FROZEN: Final = 2 / 3  # of the backbone's weights, with freeze 'most'


def create(
    settings: TrainingSettings, classes: tuple[str, ...], examples: Sequence[Example], tell: Callable[[str], None]
) -> DetectLearner:
    """A learner for detection; see `curate.models.training.base.CreateLearner`.

    Raises:
        InputError: There is no box to learn from, a label is no class, or weights do not fit the network.
        UsageError: There is no such model, or settings contradict one another.
        UnavailableError: Weights are not on this disk and cannot be fetched.
    """
    counts = _look(examples, classes, tell)
    settings = complete(settings, examples)
    size = input_size(settings, shape_of(examples))
    module = build(settings, counts, size, tell)
    tell(f"model {settings.model} from {settings.weights}, input {size[1]} x {size[0]} pixels")
    return DetectLearner(settings, classes, module, size)


class DetectLearner:
    """See `curate.models.training.base.Learner`.

    Args:
        settings: With nothing left open.
        classes: Names in the order of class numbers.
        module: The network.
        size: (height, width) of its input.
    """

    metric = "mAP50"

    def __init__(
        self, settings: TrainingSettings, classes: tuple[str, ...], module: Detector, size: tuple[int, int]
    ) -> None:
        self.settings = settings
        self.classes = classes
        self.module: Any = module
        self.size = size
        options = settings.options or {}
        flips = options.get("flips", "horizontal")
        # Nothing turns, since the box around a turned box is too large.
        self._augmentation = Augmentation.of(settings.augment or 0.0, turns=False, flips=flips, min_visible=0.25)
        frozen = {"backbone": 1.0, "most": _MOST_FROZEN, "nothing": 0.0}[settings.freeze or "nothing"]
        backbone = module.backbone_parameters()
        for weight in backbone[: round(frozen * len(backbone))]:
            weight.requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Backbone and head, each with and without decay: what only scales or shifts is not drawn to zero."""
        rate, decay = self.settings.learning_rate or 0.0, self.settings.weight_decay
        slow = rate if self.settings.weights == SCRATCH else rate * _BACKBONE_SHARE
        backbone = {id(weight) for weight in self.module.backbone_parameters()}
        groups: dict[tuple[bool, bool], list[Any]] = {}
        for weight in self.module.parameters():
            if weight.requires_grad:
                groups.setdefault((id(weight) in backbone, weight.ndim > 1), []).append(weight)
        return [
            {"params": weights, "lr": slow if is_backbone else rate, "weight_decay": decay if decays else 0.0}
            for (is_backbone, decays), weights in groups.items()
        ]

    def sample(self, example: Example, pixels: Pixels, rng: np.random.Generator | None) -> data.Sample:
        """One image in the input's size, with its boxes."""
        return data.make_sample(example, pixels, self.size, self._augmentation, rng)

    def collate(self, samples: Sequence[data.Sample]) -> data.Batch:
        """A batch of samples."""
        return data.collate(samples)

    def loss(self, batch: data.Batch, rng: np.random.Generator) -> tuple[Any, dict[str, float]]:
        """The network's own loss."""
        loss: tuple[Any, dict[str, float]] = self.module.loss(batch["images"].float(), data.targets(batch))
        return loss

    def predict(self, batch: data.Batch) -> list[Objects]:
        """What is on each image, in pixels of the full-size image."""
        boxes, scores = self.module(batch["images"].float())
        return [self._found(boxes[row], scores[row], placement) for row, placement in enumerate(batch["placements"])]

    def score(self, predictions: Sequence[Objects], examples: Sequence[Example]) -> dict[str, float]:
        """mAP50 and mAP."""
        return scoring.mean_average_precision(predictions, examples, self.classes)

    def export(self, folder: Path) -> Path:
        """Write `model.onnx` and its sidecar; see `export_detector`."""
        about = {"model": str(self.settings.model), "weights": str(self.settings.weights)}
        return export_detector(self.module, self.size, self.classes, folder, about)

    def _found(self, boxes: Any, scores: Any, placement: Placement) -> Objects:
        """What raw boxes and scores mean, just as the exported file's are read."""
        proposals = best_class(boxes.float().cpu().numpy(), scores.float().cpu().numpy())
        return finish(replace(proposals, has_doubles=self.module.suppress), placement, LIMITS)


def _look(examples: Sequence[Example], classes: Sequence[str], tell: Callable[[str], None]) -> list[int]:
    """Count the objects of each class, and tell of what cannot be learnt.

    Raises:
        InputError: There is nothing to learn, or a label is no class.
    """
    counts = np.zeros(len(classes), dtype=np.int64)
    bad, where = 0, ""
    for example in examples:
        found = data.labelled(example)
        if len(found.labels) and not (found.labels.min() >= 0 and found.labels.max() < len(classes)):
            raise InputError(f"a label is none of the {len(classes)} classes", where=example.path)
        counts += np.bincount(found.labels, minlength=len(classes))
        if found.bad:
            bad, where = bad + found.bad, where or example.path
    if not counts.sum():
        raise InputError(
            f"not one of {len(examples)} images has a box to learn from",
            remedy="import boxes, or choose another --task or --where",
        )
    if bad:
        tell(f"{bad} boxes have no area on their image, or are no numbers, and are left out; the first is on {where}")
    if (counts == 0).any():
        names = ", ".join(name for name, count in zip(classes, counts, strict=True) if not count)
        tell(f"no box in the training images, so it cannot be learnt: {names}")
    return list(counts.tolist())
