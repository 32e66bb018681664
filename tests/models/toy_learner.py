"""A learner that is as small as one can be: a linear layer with dropout on an image's mean colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from curate.imaging import Pixels
from curate.models.training.base import Example, TrainingSettings

COLOURS = ((200, 60, 60), (60, 200, 60))


def paint(folder: Path, count: int, seed: int = 0) -> list[Example]:
    """Images of one colour each, with a little noise."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    examples = []
    for number in range(count):
        label = number % len(COLOURS)
        pixels = np.clip(np.array(COLOURS[label]) + rng.normal(0, 60, (8, 8, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{number:03d}.png"
        Image.fromarray(pixels).save(path)
        examples.append(Example(f"{number:016x}", str(path), None, label=label))
    return examples


class ToyLearner:
    """See the module's docstring, and `curate.models.training.base.Learner`."""

    metric = "right"

    def __init__(self, settings: TrainingSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.classes: tuple[str, ...] = ("red", "green")
        self.module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
        self.told: list[float] = []

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": self.settings.learning_rate, "weight_decay": 0.01}]

    def sample(self, example: Example, pixels: Pixels, rng: np.random.Generator | None) -> Any:
        assert example.size == (8, 8)
        mean = pixels.mean(axis=(0, 1)) / 255
        if rng is not None:
            mean = mean + rng.normal(0, 0.1, 3)
        return torch.tensor(mean, dtype=torch.float32), example.label

    def collate(self, samples: Sequence[Any]) -> Any:
        means, labels = zip(*samples, strict=True)
        return {"means": torch.stack(means), "labels": torch.tensor(labels)}

    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Any, dict[str, float]]:
        noise = torch.from_numpy(rng.normal(0, 0.05, 3).astype(np.float32))
        loss = torch.nn.functional.cross_entropy(self.module(batch["means"] + noise), batch["labels"])
        return loss, {"twice": 2 * float(loss.detach())}

    def predict(self, batch: Any) -> list[int]:
        return list(self.module(batch["means"]).argmax(dim=1).tolist())

    def score(self, predictions: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
        right = float(np.mean([said == example.label for said, example in zip(predictions, examples, strict=True)]))
        return {"right": self.told.pop(0) if self.told else right, "count": float(len(examples))}

    def export(self, folder: Path) -> Path:
        raise NotImplementedError
