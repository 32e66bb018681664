"""Two packages on labelled images: which is better, and how large a share of frames a cascade must give to the heavy one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.augment.scoring.evaluate import evaluate_results
from curate.augment.scoring.truth import Truth
from curate.checks.evaluation.base import Evaluation
from curate.checks.evaluation.bootstrap import draw, percentiles, resample
from curate.dataset import Dataset
from curate.edge.package.parity import Packaged
from curate.edge.runtime.answers import Cascade, Model, Single, require_alike
from curate.edge.runtime.compare import Comparison
from curate.edge.runtime.likeness import likeness
from curate.edge.runtime.record import Pair, Record, in_order
from curate.edge.scoring import Exam, Scores, make_exam, score_model
from curate.errors import UsageError
from curate.geometry import decode_rle
from curate.models.passes import Progress
from curate.models.predictors.class_names import NOWHERE
from curate.models.training.examples import image_groups
from curate.models.training.folds import hold_out
from curate.runner import VOID, Result, Runner
from curate.wording import counted

FEWEST: Final = 40
"""Images that a threshold is chosen on at least: half of them check it."""

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_ROUNDING: Final = 1e-6
_RESAMPLES: Final = 1000
_FEWEST_HALF: Final = FEWEST // 4
_STEPS: Final = 41
_TWO_SIDED: Final = 0.9
"""Level of an interval whose upper end 95% of the draws do not exceed."""
_RULE_OF_THREE: Final = 3.0
"""By the number of groups of which none shows a loss: what may be lost all the same, with 95% confidence (Hanley 1983)."""


@dataclass(frozen=True)
class Judged:
    """Two packages on the same labelled images.

    Attributes:
        first: Mean likeness of the first to the truth, 0 to 1; see `curate.edge.runtime.likeness`.
        second: Of the second.
        images: How many there were.
        agreement: Mean likeness of both to each other.
        comparison: What the pairs prove: those of earlier looks, and after them what was labelled since.
        new: How many of the pairs this look has added.
        notes: What is left out, and what has changed since it was counted.
    """

    first: float
    second: float
    images: int
    agreement: float
    comparison: Comparison
    new: int
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        told = {"first": round(self.first, 6), "second": round(self.second, 6), "images": self.images}
        shown = {"agreement": round(self.agreement, 6), "new_pairs": self.new}
        return {"kind": "judged", **told, **shown, **self.comparison.to_json()}


@dataclass(frozen=True)
class Cost:
    """What an image costs from its pixels to the answer, one at a time as a camera gives them: the mean, in milliseconds.

    Attributes:
        wall_ms: By the clock on the wall.
        processor_ms: Of all threads together.
    """

    wall_ms: float
    processor_ms: float

    def to_json(self) -> dict[str, float]:
        """JSON-ready."""
        return {name: round(value, 6) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Tuned:
    """A cascade's threshold, found on one half of labelled images and checked on the other.

    Attributes:
        threshold: Frames of which the light package is less sure go to the heavy one. No advice where `refusals` has anything.
        held: Whether any threshold was likely to lose no more than allowed, on the half that chooses.
        heavy_share: Of the frames of the half that checks, those that do.
        metric: Which number counts.
        light: Of the light package alone, on the half that checks.
        heavy: Of the heavy one alone.
        cascade: Of both.
        light_cost: Of an image by the light package alone, measured on the half that checks, preparation included.
        heavy_cost: By the heavy one alone.
        cascade_cost: By both.
        lost_interval: Where `lost` lies with a probability of 95%, by resampled groups; None where that cannot be told.
        max_loss: That may be lost.
        images: How many chose, and how many checked.
        notes: What is left out.
    """

    threshold: float
    held: bool
    heavy_share: float
    metric: str
    light: float
    heavy: float
    cascade: float
    light_cost: Cost
    heavy_cost: Cost
    cascade_cost: Cost
    lost_interval: tuple[float, float] | None
    max_loss: float
    images: tuple[int, int]
    notes: Sequence[str]

    @property
    def lost(self) -> float:
        """Of the metric, against the heavy package alone."""
        return self.heavy - self.cascade

    @property
    def speed_up(self) -> float:
        """How often the time of a cascade goes into that of the heavy package alone, by the clock on the wall."""
        return self.heavy_cost.wall_ms / self.cascade_cost.wall_ms

    @property
    def saved(self) -> float:
        """Part of the heavy package's processor time that a cascade does not need; below 0 where it needs more."""
        return 1 - self.cascade_cost.processor_ms / self.heavy_cost.processor_ms

    @property
    def refusals(self) -> list[str]:
        """Why no cascade of the two helps, in words; nothing where one does."""
        said = []
        if not self.held:
            said.append(
                f"none is likely to lose no more than {self.max_loss:g} of {self.metric} on the images that choose"
            )
        if self.lost > self.max_loss + _ROUNDING:
            said.append(f"it loses {self.lost:.4f} of {self.metric}, {self.max_loss:g} allowed")
        if self.speed_up <= 1:
            said.append(
                f"it takes {self.cascade_cost.wall_ms:.2f} ms an image, the heavy package alone {self.heavy_cost.wall_ms:.2f}"
            )
        return said

    def to_json(self) -> dict[str, Any]:
        """JSON-ready. The threshold is null where no cascade helps; what was measured is of the one that was tried."""
        numbers = ("heavy_share", "light", "heavy", "cascade", "lost", "speed_up", "saved")
        told = {name: round(getattr(self, name), 6) for name in numbers}
        costs = {name: getattr(self, name).to_json() for name in ("light_cost", "heavy_cost", "cascade_cost")}
        interval = None if self.lost_interval is None else [round(each, 6) for each in self.lost_interval]
        tried, refusals = round(self.threshold, 6), self.refusals
        advice = {"threshold": None if refusals else tried, "tried": tried, "helps": not refusals, "refusals": refusals}
        shown = {**told, "lost_interval": interval, "max_loss": self.max_loss}
        return {"kind": "tuned", "metric": self.metric, **advice, **shown, **costs, "images": list(self.images)}


def judge(
    dataset: Dataset,
    first: Runner,
    second: Runner,
    *,
    splits: Sequence[str] | None = None,
    where: str | None = None,
    limit: int = 0,
    alpha: float = 0.05,
    progress: Progress | None = None,
) -> Judged:
    """Measure two packages, image by image. Images of one group, as the frames of a video and copies are, make one pair.

    Pairs are written down beside the dataset (`curate.edge.runtime.record`): a later look counts them as they were and adds what
    was labelled since, so that however many looks together are one test.

    Args:
        dataset: With the labels.
        first: One package.
        second: The other, of the same task and classes.
        splits: Of which the images are; None for val and test where there are any.
        where: SQL condition on the images.
        limit: At most so many images; 0 for all.
        alpha: Of the test.
        progress: Told (images done, images to do).
    """
    require_alike(first.package, second.package)
    comparison = Comparison(alpha)
    exam = _exam(dataset, first, splits, where, limit, 0)
    groups = _groups(dataset, exam.image_ids)
    scores = np.zeros((len(exam), 3))
    for row in range(len(exam)):
        pixels = exam.pixels(row)
        true = truth_result(exam.truth(row, (pixels.shape[0], pixels.shape[1])), exam)
        one, other = (runner.run([pixels])[0].above(runner.package.thresholds) for runner in (first, second))
        scores[row] = likeness(one, true), likeness(other, true), likeness(one, other)
        if progress is not None:
            progress(row + 1, len(exam))
    condition = {"splits": None if splits is None else sorted(splits), "where": where, "limit": limit}
    record = Record(dataset.path, first.package, second.package, condition)
    with record.locked():
        before = record.read()
        new = _new_pairs(before, exam.image_ids, groups, scores[:, 0] - scores[:, 1])
        record.append(before, new)
    for pair in (*before, *new):
        comparison.add(pair.difference)
    notes = [*exam.notes, *_changes(before, exam.image_ids, scores[:, 0] - scores[:, 1], record.others)]
    means = scores.mean(axis=0)
    return Judged(float(means[0]), float(means[1]), len(exam), float(means[2]), comparison, len(new), notes)


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
    """Find the threshold that gives the heavy package the fewest frames and is likely to lose no more than so much.

    One half of the images chooses: in 95% of the draws of its groups no more is lost. On the other, what a cascade loses and
    saves is measured. Images of one group are in one half.

    Args:
        dataset: With the labels.
        light: Asked first.
        heavy: Asked for what the light one is unsure of.
        max_loss: Of the task's main metric, against the heavy package alone.
        splits: Of which the images are; None for val and test where there are any.
        where: SQL condition on the images.
        limit: At most so many images; 0 for all.
        seed: Of the halves, and of the draws.
        progress: Told (images done, images to do) for each package, and once more for the times.

    Raises:
        UsageError: There are too few images, or too few groups of them, or the loss is no part of a metric.
    """
    if not 0 <= max_loss <= 1:
        raise UsageError(f"a loss of {max_loss:g} is not from 0 to 1", where="--max-loss", remedy="such as 0.005")
    require_alike(light.package, heavy.package)
    exam = _exam(dataset, light, splits, where, limit, seed)
    if len(exam) < FEWEST:
        what = f"{len(exam)} images are too few to choose a threshold on"
        raise UsageError(what, where=dataset.name, remedy=f"label {FEWEST} or more, or name another --where")
    groups = _groups(dataset, exam.image_ids)
    choosing = _halves(groups, seed, dataset.name)
    small = Packaged(light, None)
    both = score_model(exam, small, progress), score_model(exam, Packaged(heavy, None), progress)
    uncertain, checking = np.array(small.uncertainties), ~choosing
    held = _threshold(exam, both, uncertain, choosing, groups, max_loss, seed)
    threshold = held or 0.0
    asks = uncertain > threshold
    models = Single(light), Single(heavy), Cascade(light, heavy, threshold)
    costs = _measure(exam, models, np.flatnonzero(checking).tolist(), progress)
    heavy_draws, draws = (_resampled(exam, both, each, checking, groups, seed) for each in (np.ones_like(asks), asks))
    return Tuned(
        threshold=threshold,
        held=held is not None,
        heavy_share=float(asks[checking].mean()),
        metric=exam.metric,
        light=_metric(exam, both, np.zeros_like(asks), checking),
        heavy=_metric(exam, both, np.ones_like(asks), checking),
        cascade=_metric(exam, both, asks, checking),
        light_cost=costs[0],
        heavy_cost=costs[1],
        cascade_cost=costs[2],
        lost_interval=percentiles(heavy_draws - draws),
        max_loss=max_loss,
        images=(int(choosing.sum()), int(checking.sum())),
        notes=[*exam.notes, *_too_few(len(np.unique(groups[choosing])), max_loss)],
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


def _new_pairs(before: Sequence[Pair], ids: Sequence[str], groups: IntArray, differences: FloatArray) -> list[Pair]:
    """Groups of which no image was counted before, each with its mean, in the order in which they are counted."""
    counted_before = {image for pair in before for image in pair.images}
    pairs = []
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group).tolist()
        images = tuple(ids[row] for row in inside)
        if not counted_before.intersection(images):
            pairs.append(Pair(float(differences[inside].mean()), images))
    return [pairs[place] for place in in_order([pair.images for pair in pairs])]


def _changes(before: Sequence[Pair], ids: Sequence[str], differences: FloatArray, others: int) -> list[str]:
    """What is not now as it was counted, in words."""
    place = {image: row for row, image in enumerate(ids)}
    gone = [pair for pair in before if not any(image in place for image in pair.images)]
    changed = []
    for pair in before:
        rows = [place[image] for image in pair.images if image in place]
        if len(rows) == len(pair.images) and abs(float(differences[rows].mean()) - pair.difference) > _ROUNDING:
            changed.append(pair)
    notes = []
    if changed or gone:
        notes.append(
            f"of the pairs that were counted before, {len(changed):,} would differ now, as labels changed, and {len(gone):,} are "
            "not there any more; they count as they did"
        )
    if others:
        notes.append(
            f"these packages were compared under {counted(others, 'other conditions')} on the images too (--where, --splits): "
            "--alpha holds for each alone"
        )
    return notes


def _measure(exam: Exam, models: Sequence[Model], rows: Sequence[int], progress: Progress | None) -> list[Cost]:
    """What each of some models costs for an image.

    They take turns with every image, and with who comes first, so that whatever else the machine does hits all alike.
    """
    seconds = np.zeros((len(models), 2))
    for done, row in enumerate(rows):
        pixels = exam.pixels(row)
        for turn in range(len(models)):
            number = (done + turn) % len(models)
            model = models[number]
            begun = time.perf_counter(), time.process_time()
            model.answer([model.prepare(pixels)])
            seconds[number] += time.perf_counter() - begun[0], time.process_time() - begun[1]
        if progress is not None:
            progress(done + 1, len(rows))
    return [Cost(*(1000 * each / len(rows)).tolist()) for each in seconds]


def _halves(groups: IntArray, seed: int, place: str) -> BoolArray:
    """Which images choose; the others check. Groups stay whole: an image's copy would vouch for it.

    Raises:
        UsageError: A half is too small.
    """
    checking = hold_out(groups, np.zeros_like(groups), 0.5, seed)
    if min(checking.sum(), (~checking).sum()) < _FEWEST_HALF:
        what = f"{counted(len(np.unique(groups)), 'groups')} of images do not come to two halves that are large enough"
        raise UsageError(what, where=place, remedy="images of more videos or bursts, or another --where")
    return ~checking


def _threshold(
    exam: Exam,
    both: tuple[Scores, Scores],
    uncertain: FloatArray,
    choosing: BoolArray,
    groups: IntArray,
    max_loss: float,
    seed: int,
) -> float | None:
    """The highest of some quantiles of uncertainty at which 95% of the draws lose no more than that; None where none does.

    From the safest on, and none after the first that fails, so that trying many of them does not make it likely that one holds
    by chance (a fixed sequence of tests, as in Angelopoulos et al., "Learn then Test", 2021, whose bounds for few images are
    wider than what drawing them again tells).
    """
    heavy = _resampled(exam, both, np.ones_like(choosing), choosing, groups, seed)
    held = None
    for threshold in np.unique(np.quantile(uncertain[choosing], np.linspace(0, 1, _STEPS))).tolist():
        likely = percentiles(heavy - _resampled(exam, both, uncertain > threshold, choosing, groups, seed), _TWO_SIDED)
        if likely is None or likely[1] > max_loss + _ROUNDING:
            break
        held = threshold
    return held


def _too_few(groups: int, max_loss: float) -> list[str]:
    """That a loss which no image shows may be larger than what is allowed, in words; nothing where it cannot."""
    unseen = _RULE_OF_THREE / groups
    if unseen <= max_loss:
        return []
    return [
        f"{groups:,} images, or groups of them, are few to choose a loss of {max_loss:g} on: {unseen:.3g} may be lost where none "
        "shows a loss"
    ]


def _resampled(
    exam: Exam,
    both: tuple[Scores, Scores],
    asks: BoolArray,
    rows: BoolArray,
    groups: IntArray,
    seed: int,
) -> FloatArray:
    """The metric of a cascade on each of some draws of some rows' groups, the same draws for every cascade."""
    (found,) = resample([_evaluate(exam, both, asks, rows).resample], draw(groups[rows], _RESAMPLES, seed))
    return found["all", exam.metric]


def _metric(exam: Exam, both: tuple[Scores, Scores], asks: BoolArray, rows: BoolArray) -> float:
    """The metric of some rows, of which the light package answers some and the heavy one those that are asked."""
    value = _evaluate(exam, both, asks, rows).metrics[exam.metric]
    return 0.0 if value is None else float(value)


def _evaluate(exam: Exam, both: tuple[Scores, Scores], asks: BoolArray, rows: BoolArray) -> Evaluation:
    """All numbers of some rows, of which the light package answers some and the heavy one those that are asked."""
    light, heavy = (scores.results for scores in both)
    mixed = pa.concat_tables([light, heavy]).take(
        pa.array([row + len(exam) * int(asks[row]) for row in np.flatnonzero(rows).tolist()])
    )
    sizes = [None if size is None else (int(size[0]), int(size[1])) for size in mixed["size"].to_pylist()]
    truth = [exam.truth(row, size) for row, size in zip(np.flatnonzero(rows).tolist(), sizes, strict=True)]
    subject = exam.subject
    return evaluate_results(subject.predictor.task, truth, mixed, subject.mapping.names)


def _exam(
    dataset: Dataset, runner: Runner, splits: Sequence[str] | None, where: str | None, limit: int, seed: int
) -> Exam:
    """Labelled images at full size: packages are given what a camera gives."""
    return make_exam(dataset, Packaged(runner, None), splits=splits, where=where, limit=limit, seed=seed)


def _groups(dataset: Dataset, image_ids: Sequence[str]) -> IntArray:
    """A number for each image, the same for images of one video or burst, and for copies; shape (n,)."""
    table = dataset.table("images", columns=["image_id", "group", "path"])
    place = pc.index_in(pa.array(image_ids, pa.string()), table["image_id"].combine_chunks())
    return image_groups(dataset, table.take(place))
