"""`curate evaluate`: how good a model is on a dataset, and whether it is better than another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.base import Check, Judgement, Settings
from curate.checks.boxes import IntArray
from curate.checks.evaluation.base import Asked, Evaluation, Task, Unlabelled
from curate.checks.evaluation.bootstrap import LEVEL
from curate.checks.evaluation.classification import evaluate_labels
from curate.checks.evaluation.compare import CORRECTION, FEWEST, RESAMPLES, Difference, compare
from curate.checks.evaluation.confusion import CONFUSION
from curate.checks.evaluation.detection import evaluate_objects
from curate.checks.evaluation.hard import hard_findings
from curate.checks.evaluation.load import (
    Source,
    choose_task,
    common_images,
    labelled_images,
    load_guesses,
    load_objects,
    load_source,
    note_boxes_of_masks,
    outlined_images,
    places,
)
from curate.checks.evaluation.load_masks import count_pixels, load_instances
from curate.checks.evaluation.overlaps import box_overlaps
from curate.checks.evaluation.segmentation import evaluate_pixels
from curate.checks.evaluation.slices import read_slices, split_list
from curate.checks.evaluation.store import store_evaluations
from curate.checks.findings import require_probability
from curate.dataset import Dataset, Transaction, open_dataset
from curate.errors import UsageError
from curate.models.passes import Progress
from curate.wording import counted

EVALUATION: Final = "Evaluation"
"""Title of the table of one row: what was evaluated, and its metrics."""

COMPARISON: Final = "Comparison"
"""Title of the table of differences between two models."""

LOWER_IS_BETTER: Final = frozenset({"ECE", "log_loss", "Brier"})


@dataclass(frozen=True)
class Wanted:
    """What is asked of an evaluation; the options of the check.

    Attributes:
        layer: The predictions; None for the only ones there are.
        task: One of `curate.checks.evaluation.base.TASKS`; None to find out.
        slices: As for `read_slices`.
        precision: A threshold is looked for that gives it.
        findings: Whether the worst examples are stored.
        limit: How many of them at most.
        commit: A commit of the dataset; None for the newest.
        against: Other predictions to compare with.
        against_commit: Another commit to compare with.
        resamples: Of the comparison.
        top_k: For labels of images.
        unlabelled: For classes of pixels.
        metrics: Names of metrics that have to be among those measured, whatever their case: a gate is about them.
        not_worse: Whether a gate is about the comparison, so that there has to be one.
    """

    layer: str | None = None
    task: str | None = None
    slices: Sequence[str] = ()
    precision: float | None = None
    findings: bool = True
    limit: int = 50
    commit: int | None = None
    against: str | None = None
    against_commit: int | None = None
    resamples: int = RESAMPLES
    top_k: int = 5
    unlabelled: Unlabelled | None = None
    metrics: Sequence[str] = ()
    not_worse: bool = False

    @property
    def compares(self) -> bool:
        """Whether there are two to compare."""
        return self.against is not None or self.against_commit is not None


def judge(transaction: Transaction, settings: Settings) -> Judgement:
    """Evaluate a layer of predictions, and compare it with another one, or with another commit.

    Args:
        transaction: The dataset; gets a row in the table of evaluations.
        settings: `layer` is that of the labels; the options are those of `Wanted`.

    Raises:
        UsageError: There is no such layer, task, slice or metric; the layers cannot be compared, or there is but one where a
            comparison is asked for; or no image has been seen.
        DatasetNotFound: There is no such commit.
    """
    wanted = Wanted(**settings.options)
    notes: list[str] = []
    sources, task, image_ids = _chosen(transaction, settings, wanted, notes)
    slices = read_slices(sources[0].dataset, image_ids, split_list(wanted.slices), notes)
    asked = Asked((), len(image_ids), slices, wanted.precision, wanted.limit, wanted.top_k, wanted.unlabelled)
    evaluations = [_evaluate(source, image_ids, task, asked, settings.progress) for source in sources]
    for metric in wanted.metrics:
        find_metric(evaluations[0].metrics, metric)
    for source, each in zip(sources, evaluations, strict=True):
        which = f"{source.model.layer}, commit {source.dataset.commit.number}: " if wanted.compares else ""
        notes += [f"{which}{line}" for line in each.notes]
    rows = [_row(source, each, image_ids, settings) for source, each in zip(sources, evaluations, strict=True)]
    kept = [{**row, "confusion": each.tables[CONFUSION]} for row, each in zip(rows, evaluations, strict=True)]
    store_evaluations(transaction, [(source.dataset, row) for source, row in zip(sources, kept, strict=True)])
    differences = _differences(evaluations, _groups(sources[0], image_ids), settings, wanted, notes)
    keeps = wanted.findings and wanted.commit is None
    seen = frozenset(image_ids.to_pylist()) if keeps else frozenset()
    return Judgement(
        hard_findings(evaluations[0], sources[0], image_ids, CHECK.name) if keeps else [],
        _summary(sources, evaluations, differences, image_ids),
        notes,
        judged=lambda finding: finding.image_id in seen,
        tables=_tables(evaluations[0], {"commit": sources[0].dataset.commit.number, **rows[0]}, differences),
    )


CHECK: Final = Check("evaluate", judge, ("hard",))


def find_metric(metrics: Iterable[str], name: str) -> str:
    """The metric of that name, whatever its case.

    Raises:
        UsageError: There is none.
    """
    found = {each.lower(): each for each in metrics}
    if name.lower() not in found:
        known = ", ".join(each for each in found.values() if each not in LOWER_IS_BETTER)
        raise UsageError(f"there is no metric '{name}'", where="--fail-below", remedy=f"one of: {known}")
    return found[name.lower()]


def _at(dataset: Dataset, commit: int | None) -> Dataset:
    return dataset if commit is None else open_dataset(dataset.name, commit=commit)


def _chosen(
    transaction: Transaction, settings: Settings, wanted: Wanted, notes: list[str]
) -> tuple[list[Source], Task, pa.Array]:
    """What is evaluated, first of all, and what it is compared with; the task; and the ids of the images."""
    if wanted.not_worse and not wanted.compares:
        what = "there is nothing that it could be worse than"
        raise UsageError(what, where="--fail-if-worse", remedy="add --against LAYER")
    if wanted.precision is not None:
        require_probability(wanted.precision, "--precision")
    if wanted.unlabelled not in {None, *get_args(Unlabelled)}:
        what = f"unlabelled pixels cannot count as '{wanted.unlabelled}'"
        raise UsageError(what, where="--unlabelled", remedy=" or ".join(get_args(Unlabelled)))
    now = transaction.snapshot()
    first = load_source(_at(now, wanted.commit), settings.layer, wanted.layer, settings.where, notes)
    task = choose_task(first, wanted.task)
    sources, image_ids = [first], first.image_ids()
    if wanted.compares:
        second = _second(now, first, wanted, settings, notes)
        choose_task(second, task)
        sources, image_ids = [first, second], common_images(first, second)
        notes.append(f"compared on the {counted(len(image_ids), 'images')} that both have seen")
    for source in sources:
        if task == "detect":
            note_boxes_of_masks(source, notes, asked=wanted.task is not None)
        else:
            image_ids = (labelled_images if task == "classify" else outlined_images)(source, image_ids, notes)
    return sources, task, image_ids


def _second(now: Dataset, first: Source, wanted: Wanted, settings: Settings, notes: list[str]) -> Source:
    """What the first is compared with."""
    dataset = _at(now, wanted.commit if wanted.against_commit is None else wanted.against_commit)
    layer = first.model.layer if wanted.against is None else wanted.against
    own: list[str] = []
    second = load_source(dataset, settings.layer, layer, settings.where, own)
    if second.model.layer == first.model.layer and dataset.commit.number == first.dataset.commit.number:
        raise UsageError("a model is compared with itself", where=layer, remedy="name another layer, or another commit")
    notes += [line for line in own if line not in notes]
    return second


def _evaluate(source: Source, image_ids: pa.Array, task: Task, asked: Asked, progress: Progress | None) -> Evaluation:
    """Evaluate one model on these images."""
    asked = replace(asked, classes=source.labels.classes)
    own: list[str] = []
    if task == "classify":
        found = evaluate_labels(load_guesses(source, image_ids), asked)
    elif task == "segment":
        found = evaluate_pixels(count_pixels(source, image_ids, own, progress), asked)
    else:
        if task == "instances":
            predicted, truth, pairs = load_instances(source, image_ids, own, progress)
        else:
            place = places(source, image_ids)
            predicted, truth = (load_objects(source, labels, place, own) for labels in (source.model, source.labels))
            pairs = box_overlaps(predicted, truth)
        ids = [labels.annotations["annotation_id"] for labels in (source.model, source.labels)]
        found = evaluate_objects(
            task,
            predicted,
            truth,
            pairs,
            asked,
            lambda row: str(ids[0][row].as_py()),
            lambda row: str(ids[1][row].as_py()),
        )
    return replace(found, notes=[*own, *found.notes])


def _row(source: Source, evaluation: Evaluation, image_ids: pa.Array, settings: Settings) -> dict[str, Any]:
    """What an evaluation came to, in short."""
    return {
        "layer": source.model.layer,
        "labels": source.labels.layer,
        "task": evaluation.task,
        "where": settings.where,
        "images": len(image_ids),
        "metrics": dict(evaluation.metrics),
        "classes": {part.name: part.numbers[evaluation.part_metric] for part in evaluation.classes},
        "slices": {part.name: part.numbers[evaluation.slice_metric] for part in evaluation.slices},
    }


def _groups(source: Source, image_ids: pa.Array) -> IntArray:
    rows = pc.index_in(image_ids, source.labels.images["image_id"].combine_chunks()).to_numpy(zero_copy_only=False)
    groups: IntArray = source.labels.image_groups()[rows.astype(np.int64)]
    return groups


def _differences(
    evaluations: Sequence[Evaluation], groups: IntArray, settings: Settings, wanted: Wanted, notes: list[str]
) -> list[Difference]:
    """How the first differs from the second; nothing where there is only one."""
    if len(evaluations) < 2:
        return []
    units = len(np.unique(groups))
    drawn = "images" if units == len(groups) else "groups of images"
    notes.append(
        f"intervals: {LEVEL:.0%}, paired bootstrap, {wanted.resamples:,} resamples of {units:,} {drawn}; of classes and of "
        f"slices they hold all at once, by {CORRECTION}"
    )
    if units < FEWEST:
        notes.append(f"of fewer than {FEWEST} independent {drawn} nothing can be said")
    first, second = evaluations
    return compare(first, second, groups, resamples=wanted.resamples, seed=settings.seed, progress=settings.progress)


def _tables(evaluation: Evaluation, row: Mapping[str, Any], differences: Sequence[Difference]) -> dict[str, Any]:
    tables = {
        EVALUATION: [row],
        COMPARISON: [each.row() for each in differences],
        "Classes": [{"class": part.name, **part.numbers} for part in evaluation.classes],
        "Slices": [{"slice": part.name, **part.numbers} for part in evaluation.slices],
        **evaluation.tables,
    }
    return {title: rows for title, rows in tables.items() if rows}


def _summary(
    sources: Sequence[Source], evaluations: Sequence[Evaluation], differences: Sequence[Difference], image_ids: pa.Array
) -> str:
    """What was evaluated, and what it came to."""
    first = sources[0]
    name, value = next(iter(evaluations[0].metrics.items()))
    text = (
        f"{first.dataset.name}, commit {first.dataset.commit.number}: {first.model.layer} against {first.labels.layer}, "
        f"{evaluations[0].task}, {counted(len(image_ids), 'images')}; {name} {_number(value)}"
    )
    if len(sources) == 1:
        return text
    second = sources[1]
    told = next(each for each in differences if each.name == name and each.part == "all")
    other = second.model.layer if second.model.layer != first.model.layer else f"commit {second.dataset.commit.number}"
    between = "" if told.low is None or told.high is None else f", difference {told.low:+.3f} to {told.high:+.3f}"
    says = {"better": "better than", "worse": "worse than", "cannot tell": "cannot be told from"}[told.verdict]
    return f"{text}; {says} {other} ({_number(told.other)}{between})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
