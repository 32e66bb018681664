"""A classifier of images as a learner; see `curate.models.training.base.Learner`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels, resize
from curate.models.passes import Progress
from curate.models.predictors.preparation import make_preparation
from curate.models.predictors.sidecar import Sidecar, write_sidecar
from curate.models.training.augment import Augmentation
from curate.models.training.base import Example, TrainingSettings
from curate.models.training.classify.mixing import Mixing
from curate.models.training.runs import MODEL_FILE

Probabilities = npt.NDArray[np.float32]


class Network(Protocol):
    """What a classifier learns with: a backbone and a head, and how they become a file."""

    module: Any
    """torch.nn.Module with all that is learnt."""

    head_parameters: list[Any]
    """The parameters that do not start from trained weights."""

    dtype: Any
    """Of the images that the file takes: float32, or uint8."""

    sidecar: Sidecar
    """How images get there."""

    def logits(self, inputs: Any) -> Any:
        """Of images, or of the features that `features` gave; shape (n, classes)."""

    def features(self, examples: Sequence[Example], folder: Path, progress: Progress | None) -> dict[str, Any] | None:
        """What the frozen part sees, by image_id; None where nothing is frozen, or pixels change at random."""

    def write_graph(self, path: Path) -> None:
        """Write the ONNX file, and see that it gives what the module gives."""


class Classifier:
    """Cross entropy with soft targets, whatever the network is.

    Args:
        settings: With nothing left open.
        classes: Names of what is learnt.
        network: What learns.
        weights: Of each class in the loss; float32 of shape (classes,).
        mixing: How images are mixed.
        smoothing: Part of a target that goes to all classes alike (Szegedy et al., CVPR 2016).
        backbone_rate: What the learning rate of all but the head is multiplied by.
    """

    metric = "balanced_accuracy"

    def __init__(
        self,
        settings: TrainingSettings,
        classes: tuple[str, ...],
        network: Network,
        weights: npt.NDArray[np.float32],
        mixing: Mixing,
        smoothing: float,
        backbone_rate: float,
    ) -> None:
        self.settings = settings
        self.classes = classes
        self.module = network.module
        self._network = network
        self._weights = weights
        self._mixing = mixing
        self._smoothing = smoothing
        self.backbone_rate = backbone_rate
        self._preparation = make_preparation(network.sidecar, network.dtype)
        self._augmentation = Augmentation.of(settings.augment or 0.0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Head and backbone, which learns more slowly where it starts from trained weights. Vectors are not decayed."""
        settings = self.settings
        head = {id(weight) for weight in self._network.head_parameters}
        groups: dict[tuple[bool, bool], list[Any]] = {}
        for weight in self.module.parameters():
            if weight.requires_grad:
                groups.setdefault((id(weight) in head, weight.ndim > 1), []).append(weight)
        rate, decay = settings.learning_rate or 0.0, settings.weight_decay
        return [
            {
                "params": params,
                "lr": rate * (1.0 if is_head else self.backbone_rate),
                "weight_decay": decay if is_matrix else 0.0,
            }
            for (is_head, is_matrix), params in groups.items()
        ]

    def precompute(self, examples: Sequence[Example], folder: Path, progress: Progress | None) -> dict[str, Any] | None:
        """Features and labels where the frozen part sees the same in every epoch; see `Precomputing`."""
        import torch

        found = None if self.settings.augment else self._network.features(examples, folder, progress)
        if found is None:
            return None
        labels = {example.image_id: example.label for example in examples}
        return {name: (torch.from_numpy(row.copy()), labels[name]) for name, row in found.items()}

    def sample(self, example: Example, pixels: Pixels, rng: np.random.Generator | None) -> Any:
        """The network's input of one image, and its label."""
        import torch

        if rng is not None:
            side = self.settings.image_size or 0
            pixels = self._augmentation(resize(pixels, (side, side)), rng).pixels
        return torch.from_numpy(self._preparation(pixels).array), example.label

    def collate(self, samples: Sequence[Any]) -> Any:
        """Inputs of shape (n, ...) and labels of shape (n,)."""
        import torch

        inputs, labels = zip(*samples, strict=True)
        return torch.stack(inputs), torch.tensor(labels, dtype=torch.int64)

    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Any, dict[str, float]]:
        """Weighted cross entropy of the batch."""
        import torch

        inputs, labels = batch
        count = len(self.classes)
        targets = torch.nn.functional.one_hot(labels, count).to(torch.float32)
        targets = targets * (1 - self._smoothing) + self._smoothing / count
        inputs, targets = self._mixing(inputs, targets, rng)
        weights = torch.from_numpy(self._weights).to(targets.device)
        logs = torch.log_softmax(self._network.logits(inputs).float(), dim=1)
        return -(weights * targets * logs).sum(dim=1).mean(), {}

    def predict(self, batch: Any) -> list[Probabilities]:
        """Class probabilities of each image."""
        import torch

        probabilities = torch.softmax(self._network.logits(batch[0]).float(), dim=1)
        return list(probabilities.cpu().numpy())

    def score(self, predictions: Sequence[Probabilities], examples: Sequence[Example]) -> dict[str, float]:
        """Mean recall over the classes that there are, share of right images, and the mean negative log likelihood."""
        found = np.stack(predictions)
        labels = np.array([example.label for example in examples])
        right = found.argmax(axis=1) == labels
        recalls = np.bincount(labels, weights=right) / np.maximum(np.bincount(labels), 1)
        of_label = found[np.arange(len(labels)), labels].astype(np.float64)
        return {
            "balanced_accuracy": float(recalls[np.unique(labels)].mean()),
            "top1": float(right.mean()),
            "log_loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        }

    def export(self, folder: Path) -> Path:
        """Write `model.onnx` and its sidecar."""
        path = folder / MODEL_FILE
        self._network.write_graph(path)
        write_sidecar(path, self._network.sidecar)
        return path
