"""`curate shift --reference ... --incoming ...`: what the tests say, as rows and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.checks.base import Judgement, Settings
from curate.checks.findings import FLAGGED, Finding
from curate.checks.labels import Labels, load_predictions
from curate.checks.shift.axes import AXES, NAMES, VIEWS, in_units
from curate.checks.shift.images import ALPHA, ShiftedImages, shifted_images
from curate.checks.shift.label_shift import (
    ClassShift,
    LabelShift,
    estimate_classes,
    label_shift_test,
    without_classes,
)
from curate.checks.shift.load import Pictures
from curate.checks.shift.two_sample import CONTENT, FEWEST_GROUPS, TwoSample, two_sample_test
from curate.dataset import Transaction
from curate.wording import counted

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]

TESTS: Final = "Tests"
"""Title of the table of tests; its first row is of everything."""

NAME: Final = "shift"
"""Name of the check of one set, and of the command."""

DRIFT: Final = "drift"
"""Name of the check of incoming images against a reference: it judges nothing of what the other found, nor the other way."""


def compare(
    transaction: Transaction, pictures: Pictures, incoming: BoolArray, settings: Settings, notes: list[str]
) -> Judgement:
    """Judge whether the incoming images are drawn as the others are.

    Args:
        transaction: The dataset.
        pictures: Reference and incoming.
        incoming: Which are the incoming ones.
        settings: Of the check.
        notes: More of them are added.
    """
    data = (incoming, pictures.groups)
    test = two_sample_test(pictures.axes, NAMES, VIEWS, pictures.vectors, *data, seed=settings.seed)
    counts = class_counts(pictures.labels)
    has_labels = bool(counts[incoming].any() and counts[~incoming].any())
    labels = label_shift_test(counts, pictures.labels.classes, *data, seed=settings.seed)
    tables: dict[str, Rows] = {TESTS: []}
    findings: list[Finding] = []
    if test is None:
        notes.append(f"a test needs {FEWEST_GROUPS} independent images on each side; copies and bursts count once")
    else:
        given = _given_classes(pictures, counts, incoming, settings) if has_labels else None
        tables[TESTS] = _test_rows(test, labels, given)
        tables["Axes"] = [_axis_row(each.axis, each.p_value, pictures.axes, incoming) for each in test.axes]
        if test.p_value <= ALPHA:
            found = shifted_images(pictures.axes, NAMES, pictures.vectors, *data, test, seed=settings.seed)
            findings = _findings(pictures, incoming, found, test, settings.min_score)
    tables["Classes"] = _class_rows(labels)
    if not has_labels and counts[~incoming].any():
        tables["Classes"] += _estimated(transaction, pictures, incoming, counts, settings, notes)
    judged = set(pictures.ids.to_pylist())
    return Judgement(
        findings,
        _summary(transaction.base.name, test, labels, incoming, findings),
        notes,
        judged=lambda finding: finding.image_id in judged,
        tables={title: rows for title, rows in tables.items() if rows},
    )


def class_counts(labels: Labels) -> FloatArray:
    """Objects of each class on each image; float64 array of shape (m, classes)."""
    known = labels.label >= 0
    size = (labels.images.num_rows, len(labels.classes))
    flat = labels.image[known] * size[1] + labels.label[known]
    return np.bincount(flat, minlength=size[0] * size[1]).reshape(size).astype(np.float64)


def _given_classes(pictures: Pictures, counts: FloatArray, incoming: BoolArray, settings: Settings) -> TwoSample | None:
    """The same test on what is left once the classes on each image are known.

    Classes differ in spread, too, which no mean takes away: images with objects of one class only are exchanged among themselves.
    """
    axes = without_classes(pictures.axes, counts)
    vectors = without_classes(pictures.vectors.astype(np.float64), counts)
    present = counts > 0
    strata = np.where(present.sum(axis=1) == 1, present.argmax(axis=1), -1)
    return two_sample_test(axes, NAMES, VIEWS, vectors, incoming, pictures.groups, strata=strata, seed=settings.seed)


def _test_rows(test: TwoSample, labels: LabelShift | None, given: TwoSample | None) -> Rows:
    rows: Rows = [{"tested": "everything measured", "p_value": test.p_value, "shifted": test.p_value <= ALPHA}]
    rows += [{"tested": view, "p_value": p, "shifted": p <= ALPHA} for view, p in test.views.items()]
    if labels is not None:
        rows.append({"tested": "classes, p(y)", "p_value": labels.p_value, "shifted": labels.p_value <= ALPHA})
    if given is not None:
        text = "looks given the classes, p(x|y)"
        rows.append({"tested": text, "p_value": given.p_value, "shifted": given.p_value <= ALPHA})
    return rows


def _axis_row(name: str, p_value: float, axes: FloatArray, incoming: BoolArray) -> dict[str, Any]:
    if name == CONTENT:
        return {"axis": CONTENT, "p_value": p_value, "reference": "", "incoming": "", "range": ""}
    k = NAMES.index(name)
    before, now = (in_units(AXES[k], float(np.median(axes[rows, k]))) for rows in (~incoming, incoming))
    low, high = _usual(axes, incoming, k)
    return {
        "axis": name,
        "p_value": p_value,
        "reference": f"{before:.3g}",
        "incoming": f"{now:.3g}",
        "range": f"{low:.3g} to {high:.3g}",
    }


def _usual(axes: FloatArray, incoming: BoolArray, k: int) -> tuple[float, float]:
    """Between what nine tenths of the reference are on an axis."""
    low, high = (in_units(AXES[k], float(value)) for value in np.quantile(axes[~incoming, k], [0.05, 0.95]))
    return low, high


def _class_rows(labels: LabelShift | None) -> Rows:
    return [] if labels is None else [_class_row(each) for each in labels.classes]


def _class_row(each: ClassShift) -> dict[str, Any]:
    return {
        "class": each.label,
        "reference": round(each.reference, 4),
        "incoming": round(each.incoming, 4),
        "p_value": each.p_value,
        "from": "predictions" if each.estimated else "labels",
    }


def _estimated(
    transaction: Transaction,
    pictures: Pictures,
    incoming: BoolArray,
    counts: FloatArray,
    settings: Settings,
    notes: list[str],
) -> Rows:
    """The incoming mixture of classes by the predictions of the first model that saw both sides."""
    for name, model in load_predictions(transaction.base, pictures.labels, None, notes).items():
        seen = class_counts(model)
        labelled = ~incoming & counts.any(axis=1)
        tested = label_shift_test(seen, pictures.labels.classes, incoming, pictures.groups, seed=settings.seed)
        if tested is None or not labelled.any():
            continue
        share = estimate_classes(counts[labelled], seen[labelled], seen[incoming])
        before = counts[~incoming].sum(axis=0) / counts[~incoming].sum()
        p_values = {each.label: each.p_value for each in tested.classes}
        notes.append(
            f"the incoming images have no labels: their classes are estimated from {name}, as far as it errs alike"
        )
        rows = [
            ClassShift(label, float(before[k]), float(share[k]), p_values.get(label, 1.0), estimated=True)
            for k, label in enumerate(pictures.labels.classes)
            if before[k] > 0 or share[k] > 0
        ]
        return [_class_row(each) for each in sorted(rows, key=lambda each: (each.p_value, each.label))]
    return []


def _findings(
    pictures: Pictures, incoming: BoolArray, found: ShiftedImages, test: TwoSample, min_score: float
) -> list[Finding]:
    locations = pictures.labels.images["location"].to_pylist()
    ids = pictures.ids.to_pylist()
    return [
        Finding(
            kind="shifted",
            score=round(float(found.probability[row]), 4),
            image=locations[row],
            image_id=ids[row],
            check=DRIFT,
            evidence=_evidence(pictures.axes, incoming, int(row), found, test),
        )
        for row in np.flatnonzero(found.probability >= max(min_score, 1e-9))
    ]


def _evidence(
    axes: FloatArray, incoming: BoolArray, row: int, found: ShiftedImages, test: TwoSample
) -> Mapping[str, Any]:
    k = int(found.axis[row])
    name = NAMES[k] if k >= 0 else CONTENT
    p_values = {each.axis: each.p_value for each in test.axes}
    numbers: dict[str, Any] = {"axis": name, "p_value": test.p_value, "axis_p_value": p_values[name]}
    if k < 0:
        return {"why": "what it shows is rare in the reference", **numbers}
    value = in_units(AXES[k], float(axes[row, k]))
    low, high = _usual(axes, incoming, k)
    word = AXES[k].high if found.high[row] else AXES[k].low
    why = f"{name} {value:.3g}, where nine tenths of the reference are {low:.3g} to {high:.3g}"
    why = f"{word}: {why}" if word else why
    return {"why": why, **numbers, "value": value, "reference_low": low, "reference_high": high}


def _summary(
    dataset: str, test: TwoSample | None, labels: LabelShift | None, incoming: BoolArray, findings: Sequence[Finding]
) -> str:
    text = f"{dataset}: {counted(int(incoming.sum()), 'incoming images')} against {int((~incoming).sum()):,}"
    if test is None:
        return f"{text}: too few to be tested"
    text += f" ({test.incoming:,} against {test.reference:,} independent ones)"
    if test.p_value > ALPHA:
        verdict = f"no shift is seen, p = {test.p_value:.3g}"
    else:
        along = [view for view, p in test.views.items() if p <= ALPHA]
        verdict = f"shifted, p = {test.p_value:.3g}" + (f", in {', '.join(along)}" if along else "")
        verdict += f"; {counted(sum(finding.score >= FLAGGED for finding in findings), 'images')} flagged"
    if labels is not None and labels.p_value <= ALPHA:
        verdict += f"; the classes are mixed differently, p = {labels.p_value:.3g}"
    return f"{text}: {verdict}"
