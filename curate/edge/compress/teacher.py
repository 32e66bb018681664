"""Learning from a model's answers beside the labels: they say how alike two classes are, and how sure one can be.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015. The teacher is an ONNX file, so any model will do
that knows the same classes; a model that was made smaller learns from what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.edge.compress.images import Parent
from curate.errors import UsageError
from curate.models.predictors.sidecar import BoxesScores, ClassMapLayout, Logits, Sidecar
from curate.models.runtime import Graph, open_graph
from curate.models.training.base import Example, Learner, TrainingSettings

TEMPERATURE: Final = 2.0
"""What logits are divided by: so that small probabilities count."""

_SURE: Final = 0.05
"""Score of a cell from which its box is learnt from."""

_LAYOUTS: Final = {"classify": Logits, "segment": ClassMapLayout, "detect": BoxesScores}


@dataclass(frozen=True)
class Teacher:
    """A model whose answers are learnt from.

    Attributes:
        task: What it gives.
        sidecar: How images become its input, and which output is which.
        order: Place of each of the learner's classes among the teacher's.
    """

    task: str
    sidecar: Sidecar
    order: tuple[int, ...]
    _graph: Graph

    @classmethod
    def of(cls, model: Parent, classes: Sequence[str]) -> Teacher:
        """The teacher of a learner of some classes.

        Raises:
            UsageError: It knows others, or answers in another form.
        """
        sidecar, task = model.predictor.sidecar, str(model.predictor.task)
        if not isinstance(sidecar.output, _LAYOUTS.get(task, ())):
            raise UsageError(
                f"the answers of '{model.spec}' cannot be learnt from",
                where="--teacher",
                remedy="name a model trained here",
            )
        known = tuple(model.predictor.classes)
        if set(known) != set(classes):
            raise UsageError(
                f"the teacher knows other classes: {', '.join(known)}",
                where=model.spec,
                remedy="train it on the same labels",
            )
        return cls(task, sidecar, tuple(known.index(name) for name in classes), open_graph(model.path, threads=1))

    def __call__(self, pixels: Any) -> list[Any]:
        """What it says of images.

        Args:
            pixels: Tensor, 0 to 255, RGB, of shape (n, 3, height, width).

        Returns:
            Its outputs: logits (n, classes) or (n, channels, h, w); or boxes (n, k, 4) and scores (n, k, classes).
        """
        import torch

        images = self._input(pixels.detach().float().cpu())
        names = self._names()
        given = [self._graph.call({self._graph.inputs[0].name: row[None]}, names) for row in images]
        outputs = [np.concatenate([each[place] for each in given]) for place in range(len(names))]
        outputs[-1] = self._reordered(outputs[-1])
        return [torch.from_numpy(each).to(pixels.device) for each in outputs]

    def _input(self, pixels: Any) -> Any:
        import torch

        sidecar = self.sidecar
        size = (sidecar.size, sidecar.size) if isinstance(sidecar.size, int) else sidecar.size
        if size is not None and tuple(pixels.shape[2:]) != tuple(size):
            pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        values = pixels.numpy()
        if sidecar.color == "bgr":
            values = values[:, ::-1]
        mean, std = (
            np.reshape(np.array(each, np.float32), (1, -1, 1, 1))
            for each in (sidecar.mean or (0.0,), sidecar.std or (1.0,))
        )
        values = (values * np.float32(sidecar.scale or 1.0) - mean) / std
        if sidecar.layout == "nhwc":
            values = values.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(values, dtype=np.dtype(self._graph.inputs[0].dtype))

    def _names(self) -> list[str]:
        output = self.sidecar.output
        if isinstance(output, BoxesScores):
            return [str(output.boxes), str(output.scores)]
        assert isinstance(output, Logits | ClassMapLayout)
        return [str(output.output)]

    def _reordered(self, values: Any) -> Any:
        """Classes in the learner's order; a background stays first."""
        if self.task == "classify":
            return values[:, list(self.order)]
        if self.task == "detect":
            return values[..., list(self.order)]
        assert isinstance(self.sidecar.output, ClassMapLayout)
        first = int(self.sidecar.output.background)
        return values[:, [*range(first), *(first + place for place in self.order)]]


@dataclass
class Taught:
    """A learner that learns from a teacher too; see `curate.models.training.base.Learner`.

    Attributes:
        learner: What learns.
        teacher: Whose answers it learns from.
        weight: Of the teacher's part of the loss.
    """

    learner: Learner
    teacher: Teacher
    weight: float = 1.0

    def __post_init__(self) -> None:
        self.settings: TrainingSettings = self.learner.settings
        self.classes, self.module, self.metric = self.learner.classes, self.learner.module, self.learner.metric

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The learner's."""
        return self.learner.parameter_groups()

    def sample(self, example: Example, pixels: Any, rng: np.random.Generator | None) -> Any:
        """The learner's."""
        return self.learner.sample(example, pixels, rng)

    def collate(self, samples: Sequence[Any]) -> Any:
        """The learner's."""
        return self.learner.collate(samples)

    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Any, dict[str, float]]:
        """Of the labels, and of the teacher's answers."""
        own, parts = self.learner.loss(batch, rng)
        pixels, inputs = self._images(batch)
        taught = imitation(self.teacher.task, _listed(self.module(inputs)), self.teacher(pixels))
        return own + self.weight * taught, {**parts, "teacher": float(taught.detach())}

    def predict(self, batch: Any) -> list[Any]:
        """The learner's."""
        return self.learner.predict(batch)

    def score(self, predictions: Sequence[Any], examples: Sequence[Example]) -> dict[str, float]:
        """The learner's."""
        return self.learner.score(predictions, examples)

    def export(self, folder: Path) -> Path:
        """The learner's."""
        return self.learner.export(folder)

    def _images(self, batch: Any) -> tuple[Any, Any]:
        """Pixels (0 to 255, RGB, channels first) of a batch, and what the module takes."""
        if self.teacher.task == "detect":
            images = batch["images"].float()
            return images, images
        sidecar = sidecar_of(self.learner)
        mean, std = (_per_channel(each) for each in (sidecar.mean or (0.0,), sidecar.std or (1.0,)))
        scale = sidecar.scale or 1.0
        if isinstance(batch, dict):  # the segmenter's: pixels as they are, channels last
            pixels = batch["image"].permute(0, 3, 1, 2).float()
            return pixels, (pixels * scale - mean.to(pixels.device)) / std.to(pixels.device)
        inputs = batch[0]
        return (inputs * std.to(inputs.device) + mean.to(inputs.device)) / scale, inputs


def imitation(task: str, given: Sequence[Any], wanted: Sequence[Any]) -> Any:
    """How far a learner's answers are from a teacher's; a scalar tensor with a gradient.

    Args:
        task: 'classify', 'segment' or 'detect'.
        given: The learner's outputs, as `Teacher` gives them.
        wanted: The teacher's.

    Raises:
        UsageError: A detector's cells are not the teacher's.
    """
    import torch
    from torch.nn import functional

    if task != "detect":
        learnt, taught = given[0].float(), wanted[0].float()
        if task == "segment" and taught.shape[2:] != learnt.shape[2:]:
            taught = functional.interpolate(taught, learnt.shape[2:], mode="bilinear", antialias=True)
        target = functional.softmax(taught / TEMPERATURE, dim=1)
        apart = functional.kl_div(functional.log_softmax(learnt / TEMPERATURE, dim=1), target, reduction="none")
        return apart.sum(dim=1).mean() * TEMPERATURE**2
    (boxes, scores), (wanted_boxes, wanted_scores) = given, wanted
    if boxes.shape != wanted_boxes.shape or scores.shape != wanted_scores.shape:
        raise UsageError(
            "the teacher looks at other cells of an image than the learner",
            where="--teacher",
            remedy="train it with the same --image-size and the same kind of head",
        )
    learnt = scores.float().clamp(1e-4, 1 - 1e-4)
    surest = wanted_scores.max(dim=2).values
    total = surest[surest > _SURE].sum().clamp(min=1.0)
    # Cells that both call empty are nearly all, and would drown the others (Li et al., "Generalized Focal Loss", 2020).
    classes = (
        (wanted_scores - learnt) ** 2 * functional.binary_cross_entropy(learnt, wanted_scores, reduction="none")
    ).sum()
    sides = (wanted_boxes[..., 2:] - wanted_boxes[..., :2]).clamp(min=1.0).repeat(1, 1, 2)
    off = ((boxes - wanted_boxes).abs() / sides).mean(dim=2)
    return (classes + (off * torch.where(surest > _SURE, surest, 0.0)).sum()) / total


def sidecar_of(learner: Learner) -> Sidecar:
    """How images become the input of a classifier's or segmenter's module."""
    found = getattr(learner, "sidecar", None) or getattr(getattr(learner, "_network", None), "sidecar", None)
    assert isinstance(found, Sidecar)
    return found


def _listed(outputs: Any) -> list[Any]:
    import torch

    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def _per_channel(values: Sequence[float]) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
