"""How good a model is on images that it has not learnt from: of all of them, of each class, and of each part of them.

An average hides that a smaller model has stopped seeing in the dark, so parts are always looked at: the slices that
`curate shift` has found, and the darkest and the brightest images, which are found here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.augment.scoring.evaluate import evaluate_results, find_metric
from curate.augment.scoring.predicting import Subject
from curate.augment.scoring.truth import Truth
from curate.augment.stress.sample import Sample, draw_sample, learnt_task
from curate.checks.boxes import BoolArray, FloatArray
from curate.checks.evaluation.base import Evaluation
from curate.checks.evaluation.slices import read_slices
from curate.checks.shift.stored import read_slices as read_stored
from curate.dataset import Dataset
from curate.dataset.query import quote
from curate.errors import ImageError, InputError
from curate.imaging import Pixels, load_pixels
from curate.models.passes import Progress
from curate.models.predictors.base import Options, Predictor
from curate.models.predictors.class_names import match_classes
from curate.models.predictors.results import RESULTS, result_rows
from curate.models.training.base import Task as LearntTask
from curate.models.training.examples import load_material
from curate.names import GROUND_TRUTH
from curate.wording import counted

LIMIT: Final = 500
"""Images that a model is measured on where nobody says: an interval of a share is then some 3 points wide."""

FEWEST: Final = 50
"""Of fewer images the number of a slice is told and judges nothing: a single image is then more than two points."""

DARKEST: Final = "darkest fifth"
BRIGHTEST: Final = "brightest fifth"

_SHARE: Final = 0.2
_BATCH: Final = 16
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class Exam:
    """n labelled images and the parts of them that models of one task and one list of classes are measured on.

    Attributes:
        subject: The images and what their classes are; its predictor is the model that the exam was made for.
        slices: Which images are in each part; bool of shape (n,) by its name.
        metric: Which number of all images counts.
        chosen: Which images these are, in words.
        notes: What is left out.
    """

    subject: Subject
    slices: Mapping[str, BoolArray]
    metric: str
    chosen: str
    notes: Sequence[str] = ()
    _truth: dict[tuple[int, tuple[int, int] | None], Truth] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.subject.examples)

    @property
    def image_ids(self) -> list[str]:
        """Of the images, in their order."""
        return [example.image_id for example in self.subject.examples]

    def truth(self, row: int, size: tuple[int, int] | None) -> Truth:
        """What is on an image at the size at which a model saw it."""
        if (row, size) not in self._truth:
            self._truth[row, size] = self.subject.truth(row, size)
        return self._truth[row, size]

    @cached_property
    def prepared(self) -> list[Any]:
        """The images as the exam's model takes them, made once: models that prepare alike share them."""
        return [self.subject.predictor.prepare(self.pixels(row)) for row in range(len(self))]

    def pixels(self, row: int) -> Pixels:
        """An image, decoded no larger than the exam's model needs it."""
        return load_pixels(self.subject.examples[row].path, shortest_side=self.subject.predictor.input_size)


@dataclass(frozen=True)
class Scores:
    """How good a model is.

    Attributes:
        model: Its name.
        metric: Name of the number that `overall` is.
        overall: Of all images; None where there is nothing to measure.
        metrics: All numbers of all images.
        class_metric: Name of the number of classes.
        per_class: By the name of the class.
        slice_metric: Name of the number of slices.
        per_slice: By the name of the slice.
        slice_images: How many images are in each.
        image_ids: Of the images.
        results: What the model said of each: columns of `curate.models.predictors.results.RESULTS`.
        evaluation: All that was measured; its `resample` gives the numbers on resampled images.
    """

    model: str
    metric: str
    overall: float | None
    metrics: Mapping[str, float | None]
    class_metric: str
    per_class: Mapping[str, float | None]
    slice_metric: str
    per_slice: Mapping[str, float | None]
    slice_images: Mapping[str, int]
    image_ids: Sequence[str]
    results: pa.Table = field(repr=False)
    evaluation: Evaluation = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, without what was said of single images."""
        return {
            "model": self.model,
            "images": len(self.image_ids),
            "metric": self.metric,
            "overall": self.overall,
            "metrics": dict(self.metrics),
            "class_metric": self.class_metric,
            "per_class": dict(self.per_class),
            "slice_metric": self.slice_metric,
            "per_slice": dict(self.per_slice),
            "slice_images": dict(self.slice_images),
        }


def make_exam(
    dataset: Dataset,
    predictor: Any,
    *,
    layer: str = GROUND_TRUTH,
    splits: Sequence[str] | None = None,
    where: str | None = None,
    ids: Sequence[str] | None = None,
    slices: Sequence[str] = (),
    metric: str | None = None,
    told: Mapping[str, str] | None = None,
    options: Options | None = None,
    limit: int = LIMIT,
    seed: int = 0,
) -> Exam:
    """Choose real, labelled images, and the parts of them that are looked at.

    Args:
        dataset: A commit of it.
        predictor: The model; others that are measured by the exam must have its task and classes.
        layer: Of the labels.
        splits: Of which the images are; None for val and test where there are any.
        where: SQL condition on the images.
        ids: Only these images; then `splits` does not count.
        slices: Further parts, as `curate evaluate --slices` takes them.
        metric: What counts of all images; None for the task's main number.
        told: Classes of the dataset by those of the model.
        options: What the model was loaded with.
        limit: At most so many images, drawn at random; 0 for all.
        seed: Of the draw.

    Raises:
        UsageError: There are no such images, no such metric or slice, no common class, or no labels for such a model.
        InputError: Not one image can be read.
    """
    task = learnt_task(predictor.task, predictor.name)
    chosen_metric = find_metric(predictor.task, metric)
    if ids is None:
        sample = draw_sample(dataset, task, layer=layer, splits=splits, where=where, limit=limit, seed=seed)
    else:
        sample = _listed(dataset, task, layer, where, ids)
    material = sample.material
    known = [info["name"] for info in dataset.commit.classes]
    names = [*known, *(name for name in material.classes if name not in known)]
    mapping = match_classes(predictor.classes, names, told=told or {}, model=predictor.name)
    codes = np.array([mapping.names.index(each) for each in material.classes], dtype=np.int64)
    subject = Subject(predictor, mapping, options or Options(), material.take(material.labelled), codes, seed)
    notes = list(sample.notes)
    exam, light = _readable(Exam(subject, {}, chosen_metric, sample.chosen), notes)
    parts = _slices(dataset, exam, slices, notes) | _by_light(light)
    return replace(exam, slices=parts, notes=tuple(notes))


def score_model(exam: Exam, model: Predictor, progress: Progress | None = None, *, prepared: bool = False) -> Scores:
    """Measure a model.

    Args:
        exam: Images, labels and slices.
        model: Of the exam's task and classes.
        progress: Told (images done, images to do).
        prepared: Whether the model takes images as the exam's own does, so that they need not be prepared again.

    Raises:
        InputError: The model knows other classes than the exam's, or fails.
    """
    subject = exam.subject
    if (model.task, tuple(model.classes)) != (subject.predictor.task, tuple(subject.predictor.classes)):
        raise InputError(
            "the models that are compared know other classes, or have other tasks",
            where=model.name,
            remedy=f"{subject.predictor.name} is for '{subject.predictor.task}' of {', '.join(subject.predictor.classes)}",
        )
    batches: list[pa.RecordBatch] = []
    for start in range(0, len(exam), _BATCH):
        rows = range(start, min(start + _BATCH, len(exam)))
        images = [exam.prepared[row] if prepared else model.prepare(exam.pixels(row)) for row in rows]
        batches.append(result_rows(model.predict(images), subject.mapping, subject.options.nms_iou, model.name))
        if progress is not None:
            progress(rows.stop, len(exam))
    return _scores(exam, model, pa.Table.from_batches(batches, schema=RESULTS))


def _scores(exam: Exam, model: Predictor, results: pa.Table) -> Scores:
    sizes = [None if size is None else (int(size[0]), int(size[1])) for size in results["size"].to_pylist()]
    truth = [exam.truth(row, size) for row, size in enumerate(sizes)]
    found = evaluate_results(model.task, truth, results, exam.subject.mapping.names, exam.slices)
    return Scores(
        model=model.name,
        metric=exam.metric,
        overall=found.metrics[exam.metric],
        metrics=found.metrics,
        class_metric=found.part_metric,
        per_class={part.name: part.numbers[found.part_metric] for part in found.classes},
        slice_metric=found.slice_metric,
        per_slice={part.name: part.numbers[found.slice_metric] for part in found.slices},
        slice_images={name: int(inside.sum()) for name, inside in exam.slices.items()},
        image_ids=exam.image_ids,
        results=results,
        evaluation=found,
    )


@dataclass(frozen=True)
class Drops:
    """What one model has lost against another on the same images; above 0 is worse.

    Attributes:
        overall: Of the main number.
        per_class: Of each class that both have a number of.
        per_slice: Of each slice that both have a number of.
        slice_images: How many images are in each.
    """

    overall: float
    per_class: Mapping[str, float]
    per_slice: Mapping[str, float]
    slice_images: Mapping[str, int]

    def worst_slice(self, fewest: int = FEWEST) -> tuple[str, float] | None:
        """The slice of at least so many images that lost most; None where there is none."""
        enough = {name: drop for name, drop in self.per_slice.items() if self.slice_images[name] >= fewest}
        return max(enough.items(), key=lambda item: item[1], default=None)

    def refusals(self, max_drop: float, max_slice_drop: float, fewest: int = FEWEST) -> list[str]:
        """Why the loss is too large, in words; nothing where it is not.

        Args:
            max_drop: That may be lost of all images.
            max_slice_drop: That may be lost of any slice of at least `fewest` images.
            fewest: Slices of fewer images are not judged.
        """
        said = []
        if not self.overall <= max_drop:
            said.append(f"{self.overall:.4f} lost of all images, {max_drop:g} allowed")
        for name, drop in sorted(self.per_slice.items(), key=lambda item: -item[1]):
            if self.slice_images[name] >= fewest and not drop <= max_slice_drop:
                said.append(
                    f"{drop:.4f} lost on '{name}' ({self.slice_images[name]} images), {max_slice_drop:g} allowed"
                )
        return said


def drops(before: Scores, after: Scores) -> Drops:
    """What `after` has lost against `before`, measured by the same exam."""
    return Drops(
        _lost(before.overall, after.overall),
        _lost_each(before.per_class, after.per_class),
        _lost_each(before.per_slice, after.per_slice),
        before.slice_images,
    )


def _lost(before: float | None, after: float | None) -> float:
    """How much less; a number that is no longer there counts as nothing, and one that never was has lost nothing."""
    return 0.0 if before is None else before - (0.0 if after is None else after)


def _lost_each(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> dict[str, float]:
    return {name: _lost(value, after.get(name)) for name, value in before.items() if value is not None}


def _readable(exam: Exam, notes: list[str]) -> tuple[Exam, FloatArray]:
    """The exam without images that cannot be read, and the mean luma (0 to 255) of those that can; shape (n,)."""
    kept, light = [], []
    reason: ImageError | None = None
    for row, example in enumerate(exam.subject.examples):
        try:
            pixels = exam.pixels(row)
        except ImageError as error:
            reason = reason or error
            continue
        kept.append(example)
        light.append(float(pixels.mean(axis=(0, 1)) @ _LUMA))
    if reason is not None:
        lost = len(exam) - len(kept)
        if not kept:
            raise InputError(f"not one image can be read; the first: {reason.what}", where=reason.where)
        notes.append(f"{lost:,} images cannot be read; the first: {reason.where}: {reason.what}")
    return replace(exam, subject=replace(exam.subject, examples=kept)), np.array(light)


def _slices(dataset: Dataset, exam: Exam, wanted: Sequence[str], notes: list[str]) -> dict[str, BoolArray]:
    """What `curate shift` has found, and what is asked for."""
    ids = exam.image_ids
    place = {image: row for row, image in enumerate(ids)}
    found: dict[str, BoolArray] = {}
    for name, part in read_stored(dataset).items():
        inside = np.zeros(len(ids), dtype=np.bool_)
        inside[[place[image] for image in part.image_ids.to_pylist() if image in place]] = True
        if inside.any() and not inside.all():
            found[f"slice:{name}"] = inside
    return found | dict(read_slices(dataset, pa.array(ids, pa.string()), wanted, notes))


def _by_light(light: FloatArray) -> dict[str, BoolArray]:
    """The darkest and the brightest images; nothing where all are alike."""
    low, high = np.quantile(light, [_SHARE, 1 - _SHARE])
    return {} if low == high else {DARKEST: light <= low, BRIGHTEST: light >= high}


def _listed(dataset: Dataset, task: LearntTask, layer: str, where: str | None, ids: Sequence[str]) -> Sample:
    """The images of these ids, whatever their split."""
    listed = f"image_id IN ({', '.join(map(quote, ids))})" if ids else "image_id IS NULL"
    material = load_material(dataset, task, layer, listed if where is None else f"({where}) AND {listed}")
    return Sample(material, counted(int(material.labelled.sum()), "labelled images"), list(material.notes))
