"""Two packages on labelled images: which is better, and how large a share of frames a cascade must give to the heavy one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.augment.scoring.evaluate import evaluate_results
from curate.augment.scoring.truth import Truth
from curate.dataset import Dataset
from curate.edge.package.parity import Packaged, as_prediction
from curate.edge.runner import VOID, Prepared, Result, Runner
from curate.edge.runtime.answers import require_alike
from curate.edge.runtime.compare import Comparison
from curate.edge.runtime.likeness import likeness
from curate.edge.scoring import Exam, Scores, make_exam, score_model
from curate.errors import UsageError
from curate.geometry import decode_rle
from curate.models.passes import Progress
from curate.models.predictors.base import Prediction
from curate.models.predictors.class_names import NOWHERE

FEWEST: Final = 40
"""Images that a threshold is chosen on at least: half of them check it."""

_STEPS: Final = 41


@dataclass(frozen=True)
class Judged:
    """Two packages on the same labelled images.

    Attributes:
        first: Mean likeness of the first to the truth, 0 to 1; see `curate.edge.runtime.likeness`.
        second: Of the second.
        images: How many there were.
        agreement: Mean likeness of both to each other.
        comparison: What the pairs prove.
        notes: What is left out.
    """

    first: float
    second: float
    images: int
    agreement: float
    comparison: Comparison
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        told = {"first": round(self.first, 6), "second": round(self.second, 6), "images": self.images}
        return {"kind": "judged", **told, "agreement": round(self.agreement, 6), **self.comparison.to_json()}


@dataclass(frozen=True)
class Tuned:
    """A cascade's threshold, found on one half of labelled images and checked on the other.

    Attributes:
        threshold: Frames of which the light package is less sure go to the heavy one.
        heavy_share: Of the frames of the half that checks, those that do.
        metric: Which number counts.
        light: Of the light package alone, on the half that checks.
        heavy: Of the heavy one alone.
        cascade: Of both.
        speed_up: Expected: a heavy frame's time over a cascade's, from the times below.
        light_ms: Milliseconds that the light package takes for an image, preparation included: the median.
        heavy_ms: The same of the heavy one.
        images: How many chose, and how many checked.
        notes: What is left out.
    """

    threshold: float
    heavy_share: float
    metric: str
    light: float
    heavy: float
    cascade: float
    speed_up: float
    light_ms: float
    heavy_ms: float
    images: tuple[int, int]
    notes: Sequence[str]

    @property
    def lost(self) -> float:
        """Of the metric, against the heavy package alone."""
        return self.heavy - self.cascade

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        told = {key: round(value, 6) if isinstance(value, float) else value for key, value in vars(self).items()}
        del told["notes"]
        return {"kind": "tuned", **told, "images": list(self.images), "lost": round(self.lost, 6)}


def judge(
    dataset: Dataset,
    first: Runner,
    second: Runner,
    *,
    splits: Sequence[str] | None = None,
    where: str | None = None,
    limit: int = 0,
    alpha: float = 0.05,
    seed: int = 0,
    progress: Progress | None = None,
) -> Judged:
    """Measure two packages, image by image. Images of one group, as the frames of a video are, make one pair.

    Args:
        dataset: With the labels.
        first: One package.
        second: The other, of the same task and classes.
        splits: Of which the images are; None for val and test where there are any.
        where: SQL condition on the images.
        limit: At most so many images; 0 for all.
        alpha: Of the test.
        seed: Of the order of the pairs.
        progress: Told (images done, images to do).
    """
    require_alike(first.package, second.package)
    exam = _exam(dataset, first, splits, where, limit, seed)
    groups = _groups(dataset, exam.image_ids)
    scores = np.zeros((len(exam), 3))
    for row in range(len(exam)):
        pixels = exam.pixels(row)
        true = truth_result(exam.truth(row, (pixels.shape[0], pixels.shape[1])), exam)
        one, other = (runner.run([pixels])[0].above(runner.package.thresholds) for runner in (first, second))
        scores[row] = likeness(one, true), likeness(other, true), likeness(one, other)
        if progress is not None:
            progress(row + 1, len(exam))
    comparison = Comparison(alpha)
    for group in np.random.default_rng(seed).permutation(np.unique(groups)):
        inside = groups == group
        comparison.add(float((scores[inside, 0] - scores[inside, 1]).mean()))
    means = scores.mean(axis=0)
    return Judged(float(means[0]), float(means[1]), len(exam), float(means[2]), comparison, exam.notes)


def tune(
    dataset: Dataset,
    light: Runner,
    heavy: Runner,
    *,
    max_loss: float,
    splits: Sequence[str] | None = None,
    where: str | None = None,
    limit: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuned:
    """Find the threshold that gives the heavy package the fewest frames and loses no more than so much.

    Args:
        dataset: With the labels.
        light: Asked first.
        heavy: Asked for what the light one is unsure of.
        max_loss: Of the task's main metric, against the heavy package alone.
        splits: Of which the images are; None for val and test where there are any.
        where: SQL condition on the images.
        limit: At most so many images; 0 for all.
        seed: Of the halves.
        progress: Told (images done, images to do) for each package.

    Raises:
        UsageError: There are too few images.
    """
    require_alike(light.package, heavy.package)
    exam = _exam(dataset, light, splits, where, limit, seed)
    if len(exam) < FEWEST:
        what = f"{len(exam)} images are too few to choose a threshold on"
        raise UsageError(what, where=dataset.name, remedy=f"label {FEWEST} or more, or name another --where")
    small, large = _Timed(light, exam), _Timed(heavy, exam)
    both = score_model(exam, small, progress), score_model(exam, large, progress)
    uncertain = np.array(small.uncertainty)
    choosing = np.random.default_rng(seed).permutation(len(exam)) % 2 == 0
    threshold = _threshold(exam, both, uncertain, choosing, max_loss)
    checking, asks = ~choosing, uncertain > threshold
    share = float(asks[checking].mean())
    light_ms, heavy_ms = small.milliseconds, large.milliseconds
    return Tuned(
        threshold=threshold,
        heavy_share=share,
        metric=exam.metric,
        light=_metric(exam, both, np.zeros_like(asks), checking),
        heavy=_metric(exam, both, np.ones_like(asks), checking),
        cascade=_metric(exam, both, asks, checking),
        speed_up=heavy_ms / (light_ms + share * heavy_ms),
        light_ms=light_ms,
        heavy_ms=heavy_ms,
        images=(int(choosing.sum()), int(checking.sum())),
        notes=exam.notes,
    )


def truth_result(truth: Truth, exam: Exam) -> Result:
    """What is really on an image, as a package that makes no mistakes would say it."""
    predictor, mapping = exam.subject.predictor, exam.subject.mapping
    count = len(predictor.classes)
    own = np.full(len(mapping.names) + 1, VOID, dtype=np.int64)  # the last stands for what no class of the model is
    for number, target in enumerate(mapping.targets):
        if target != NOWHERE:
            own[target] = number
    labels = own[truth.labels]
    if predictor.task == "classify":
        # `VOID` takes the last row: a class beyond the model's, which it never hits.
        return Result("classify", truth.size, probabilities=np.eye(count + 1, dtype=np.float32)[labels[0]])
    if predictor.task == "detect":
        kept = (labels != VOID) & ~truth.crowd[: len(labels)]
        boxes = truth.boxes[kept]
        return Result("detect", truth.size, boxes=boxes, labels=labels[kept], scores=np.ones(len(boxes)))
    class_map = np.full(truth.size, VOID, np.int16)
    for label, rle in zip(labels.tolist(), truth.rles or (), strict=True):
        class_map[decode_rle(rle, truth.size) > 0] = label
    return Result("segment", truth.size, class_map=class_map, confidence=np.ones(truth.size, np.float32))


class _Timed(Packaged):
    """A package that remembers how unsure it was of each image, and how long it took."""

    def __init__(self, runner: Runner, exam: Exam) -> None:
        super().__init__(runner, exam.subject.predictor.input_size)
        self._timed = runner
        self.uncertainty: list[float] = []
        self._preparing: list[float] = []
        self._running: list[float] = []

    @property
    def milliseconds(self) -> float:
        """For one image: the median of preparing and running it alone, in processor time of one thread."""
        return 1000 * float(np.median(self._preparing) + np.median(self._running))

    def prepare(self, pixels: npt.NDArray[np.uint8]) -> Prepared:
        """One image as the model takes it."""
        begun = time.process_time()
        prepared = self._timed.prepare(pixels)
        self._preparing.append(time.process_time() - begun)
        return prepared

    def predict(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        """What is on n prepared images, one at a time as a camera gives them."""
        results = []
        for each in prepared:
            begun = time.process_time()
            results += self._timed.run_prepared([each])
            self._running.append(time.process_time() - begun)
        self.uncertainty += [result.uncertainty for result in results]
        return [as_prediction(result) for result in results]


def _threshold(
    exam: Exam,
    both: tuple[Scores, Scores],
    uncertain: npt.NDArray[np.float64],
    choosing: npt.NDArray[np.bool_],
    max_loss: float,
) -> float:
    """The highest of some quantiles of uncertainty at which no more than that is lost; 0, nearly all frames, at worst."""
    least = _metric(exam, both, np.ones_like(choosing), choosing) - max_loss
    for part in np.linspace(1, 0, _STEPS):
        threshold = float(np.quantile(uncertain[choosing], part))
        if _metric(exam, both, uncertain > threshold, choosing) >= least:
            return threshold
    return 0.0


def _metric(exam: Exam, both: tuple[Scores, Scores], asks: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_]) -> float:
    """The metric of some rows, of which the light package answers some and the heavy one those that are asked."""
    light, heavy = (scores.results for scores in both)
    mixed = pa.concat_tables([light, heavy]).take(
        pa.array([row + len(exam) * int(asks[row]) for row in np.flatnonzero(rows).tolist()])
    )
    sizes = [None if size is None else (int(size[0]), int(size[1])) for size in mixed["size"].to_pylist()]
    truth = [exam.truth(row, size) for row, size in zip(np.flatnonzero(rows).tolist(), sizes, strict=True)]
    subject = exam.subject
    value = evaluate_results(subject.predictor.task, truth, mixed, subject.mapping.names).metrics[exam.metric]
    return 0.0 if value is None else float(value)


def _exam(
    dataset: Dataset, runner: Runner, splits: Sequence[str] | None, where: str | None, limit: int, seed: int
) -> Exam:
    """Labelled images at full size: packages are given what a camera gives."""
    return make_exam(dataset, Packaged(runner, None), splits=splits, where=where, limit=limit, seed=seed)


def _groups(dataset: Dataset, image_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number for each image, the same for images of one group; shape (n,)."""
    table = dataset.table("images", columns=["image_id", "group"])
    by_id = dict(zip(table["image_id"].to_pylist(), table["group"].to_pylist(), strict=True))
    names = [by_id[image] or f"image {image}" for image in image_ids]
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)
