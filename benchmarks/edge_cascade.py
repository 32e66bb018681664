"""A cascade of two classifiers against its heavy one alone, on images that neither has learnt from.

The threshold is chosen on one part of them, and all is measured on the rest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from curate.dataset import open_dataset
from curate.edge.package.parity import as_prediction
from curate.edge.runtime.answers import Cascade, Model, Single
from curate.edge.runtime.judging import tune
from curate.edge.scoring import make_exam, score_model
from curate.imaging import Pixels
from curate.models.predictors.base import Prediction, Task
from curate.runner import Runner

MAX_LOSS: Final = 0.005

_CHOOSING: Final = "split = 'val'"


class Answering:
    """What answers in a run, as a model that can be measured."""

    def __init__(self, name: str, model: Model) -> None:
        self.name, self._model = name, model
        self.task: Task = model.package.task  # type: ignore[assignment]  # one that can be packaged
        self.classes = model.package.classes
        self.input_size: int | None = None
        self.heavy = 0

    def prepare(self, pixels: Pixels) -> Any:
        """One image as the model takes it."""
        return self._model.prepare(pixels)

    def predict(self, prepared: Sequence[Any]) -> list[Prediction]:
        """What is on n prepared images."""
        answers = self._model.answer(prepared)
        self.heavy += sum(answer.is_heavy for answer in answers)
        return [as_prediction(answer.result) for answer in answers]


def measure_cascade(dataset: str, light: Path, heavy: Path, *, rounds: int) -> dict[str, Any]:
    """Accuracy and processor time of the light package, the heavy one, and both in a cascade.

    Args:
        dataset: Of which no model has learnt anything: its split val chooses the threshold, test measures.
        light: A package.
        heavy: Another of the same classes.
        rounds: How often every image is timed; all three take turns with each.
    """
    small, large = Runner(light), Runner(heavy)
    tuned = tune(open_dataset(dataset), small, large, max_loss=MAX_LOSS, where=_CHOOSING)
    models = {
        "light": Answering("light", Single(small)),
        "heavy": Answering("heavy", Single(large)),
        "cascade": Answering("cascade", Cascade(small, large, tuned.threshold)),
    }
    exam = make_exam(open_dataset(dataset), models["heavy"], splits=["test"], limit=0)
    scores = {name: score_model(exam, model) for name, model in models.items()}
    share = models["cascade"].heavy / len(exam)
    images = [exam.pixels(row) for row in range(len(exam))]
    seconds = dict.fromkeys(models, 0.0)
    for _ in range(rounds):
        for pixels in images:
            for name, model in models.items():
                at = time.process_time()
                model.predict([model.prepare(pixels)])
                seconds[name] += time.process_time() - at
    each = {name: 1000 * total / (rounds * len(exam)) for name, total in seconds.items()}
    return {
        "part": "cascade",
        "images": len(exam),
        "metric": scores["heavy"].metric,
        "accuracy": {name: found.overall for name, found in scores.items()},
        "lost": (scores["heavy"].overall or 0.0) - (scores["cascade"].overall or 0.0),
        "ms": each,
        "faster": each["heavy"] / each["cascade"],
        "heavy_share": share,
        "tuned": tuned.to_json(),
    }
