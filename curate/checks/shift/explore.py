"""`curate shift` on one set: set-ups of light and kinds of content, named, with how the model does on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.checks.base import Judgement, Settings
from curate.checks.findings import Finding, from_table, surest
from curate.checks.labels import load_predictions
from curate.checks.shift.axes import AXES, NAMES, in_units, lamp_columns
from curate.checks.shift.clusters import NO_CLUSTER, cluster_content, cluster_light, group_weights, standardise
from curate.checks.shift.compare import NAME, class_counts
from curate.checks.shift.load import Pictures
from curate.checks.shift.naming import Column, Shared, differences, metadata_columns, shared_values, words
from curate.checks.shift.performance import Performance, classifier_errors, detector_performance, label_errors
from curate.checks.shift.slices import ALPHA, SliceTest, ends, slice_errors
from curate.checks.shift.stored import Kind, Slice, short_names, store_slices
from curate.dataset import Transaction
from curate.wording import counted

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating[Any]]
Rows = list[dict[str, Any]]

SLICES: Final = "Slices that fail"
"""Title of the table of slices with more errors than elsewhere, lowest p-value first.

A row counts the images that are in none of the rows above it.
"""

LIGHT: Final = "Light"
CONTENT: Final = "Content"
MEASURED: Final = "Measured"

_DETECTED: Final = "1 - F1 of the model is {error:.2f} on images with {name}, and {rest:.2f} on the others"
_CLASSIFIED: Final = "the model errs on {error:.0%} of the images with {name}, and on {rest:.0%} of the others"
_LABELLED: Final = "labels look wrong on {error:.0%} of the images with {name}, and on {rest:.0%} of the others"
_ALWAYS: Final = ("brightness", "warmth", "tint", "contrast", "edge width", "noise")
_RARE: Final = 0.02
_MOST_VALUES: Final = 200  # of one key, that are slices: each is a column of truth values


@dataclass(frozen=True)
class Errors:
    """Error of every image, and what says so.

    Attributes:
        values: In [0, 1], NaN where unknown; shape (n,).
        source: 'predictions/NAME', or 'findings'.
        says: What it says of a slice, with places for `name`, `error` and `rest`.
        detector: For average precision; None where the model is no detector.
    """

    values: FloatArray
    source: str
    says: str
    detector: Performance | None = None


@dataclass(frozen=True)
class _Part:
    """Some of the images, before anything is known of how they do."""

    source: Kind
    name: str
    inside: BoolArray


@dataclass(frozen=True)
class _Failing:
    """A slice that fails: its images that are in no surer one, those they are compared with, and a sentence on both."""

    part: _Part
    test: SliceTest
    inside: BoolArray
    rest: BoolArray
    why: str


def explore(transaction: Transaction, pictures: Pictures, settings: Settings, notes: list[str]) -> Judgement:
    """Look for set-ups of light, kinds of content, and where the model fails.

    Args:
        transaction: The dataset.
        pictures: Its images.
        settings: Option `clusters`: how many set-ups of light; None to find out.
        notes: More of them are added.
    """
    columns = metadata_columns(pictures.metadata, split=pictures.labels.images["split"])
    lamps = pictures.axes[:, lamp_columns()]
    light = cluster_light(lamps, pictures.groups, clusters=settings.options.get("clusters"), seed=settings.seed)
    content = cluster_content(pictures.vectors, pictures.groups, seed=settings.seed)
    errors = image_errors(transaction, pictures, notes)
    parts = _told_apart(
        [
            *_clusters(pictures, light, "light", columns),
            *_clusters(pictures, content, "content", columns),
            *_axis_ends(pictures.axes),
            *_values(columns, len(pictures)),
        ]
    )
    inside = np.stack([each.inside for each in parts], axis=1) if parts else np.zeros((len(pictures), 0), bool)
    unknown = np.full(len(pictures), np.nan)
    values = unknown if errors is None else errors.values
    tests = slice_errors(inside, values, pictures.groups, seed=settings.seed)
    failing = [] if errors is None else _failing(parts, tests, errors, pictures.groups, settings.seed)
    slices = _slices(pictures, parts, tests, errors, columns, failing)
    store_slices(transaction, slices)
    typed = short_names([each.name for each in slices])
    tables = {
        SLICES: [_slice_row(each, errors) for each in failing],
        LIGHT: [_cluster_row(each, typed[each.name], errors) for each in _of(slices, "light")],
        CONTENT: [_cluster_row(each, typed[each.name], errors) for each in _of(slices, "content")],
        MEASURED: [{"cluster": each.name, **row} for each in slices if each.kind == "light" for row in each.measured],
    }
    findings = [
        *_in_failing(pictures, failing),
        *_rare(pictures, standardise(lamps), light),
    ]
    if errors is None:
        notes.append("there are neither predictions nor findings of mistakes, so that no slice can be seen to fail")
    judged = set(pictures.ids.to_pylist())
    return Judgement(
        [finding for finding in surest(findings) if finding.score >= settings.min_score],
        _summary(transaction.base.name, pictures, light, tables, errors),
        notes,
        judged=lambda finding: finding.image_id in judged,
        tables={title: rows for title, rows in tables.items() if rows},
    )


def image_errors(transaction: Transaction, pictures: Pictures, notes: list[str]) -> Errors | None:
    """What goes wrong on each image: by the first model with predictions, else by findings of wrong labels."""
    for name, model in load_predictions(transaction.base, pictures.labels, None, notes).items():
        detector = detector_performance(pictures.labels, model)
        if detector is not None:
            return Errors(detector.errors, name, _DETECTED, detector)
        wrong = classifier_errors(pictures.labels, model)
        if wrong is not None:
            return Errors(wrong, name, _CLASSIFIED)
    # As the transaction has them: among all checks, the mistakes were looked for just now.
    found = label_errors(pictures.ids.to_pylist(), from_table(transaction.read("findings", where="check = 'mistakes'")))
    return None if found is None else Errors(found, "findings", _LABELLED)


def _clusters(pictures: Pictures, labels: IntArray, source: Kind, columns: dict[str, Column]) -> list[_Part]:
    """The clusters with their names; none where there is one at most."""
    present = np.unique(labels[labels != NO_CLUSTER])
    if len(present) < 2:
        return []
    found = []
    for k in present:
        inside = labels == k
        apart = differences(pictures.axes, inside, pictures.groups)
        # What lies on the table is no part of a set-up of lamps.
        named = words([each for each in apart if source != "light" or AXES[each.axis].view != "detail"])
        named += [
            f"{each.key} {each.value}" for each in _first_of_each(shared_values(columns, inside, pictures.groups))
        ]
        found.append(_Part(source, ", ".join(named) or f"nothing that stands out ({source} {k + 1})", inside))
    return found


def _first_of_each(shared: Sequence[Shared]) -> list[Shared]:
    """The surest value of every key, two keys at most."""
    first: dict[str, Shared] = {}
    for each in shared:
        first.setdefault(each.key, each)
    return list(first.values())[:2]


def _axis_ends(axes: FloatArray) -> list[_Part]:
    slices = ends(axes)
    found = []
    for k, axis in enumerate(AXES):
        for end, word in enumerate((axis.low, axis.high)):
            inside = slices[:, 2 * k + end]
            if word and inside.any():
                limit = in_units(axis, float(axes[inside, k].min() if end else axes[inside, k].max()))
                sign = ">=" if end else "<="
                found.append(_Part("axis", f"{word} ({axis.name} {sign} {limit:.3g})", inside))
    return found


def _values(columns: dict[str, Column], n: int) -> list[_Part]:
    """Values of metadata that are on some images but not on all."""
    found = []
    for key, column in sorted(columns.items()):
        if len(column.values) <= min(max(20, n // 20), _MOST_VALUES):
            found += [
                _Part("metadata", f"{key} {value}", column.codes == code) for code, value in enumerate(column.values)
            ]
    return [each for each in found if not each.inside.all()]


def _told_apart(parts: Sequence[_Part]) -> list[_Part]:
    """The parts with names that no two share: what they were found by is added, then a number."""
    taken = Counter(each.name for each in parts)
    named = [replace(each, name=f"{each.name} ({each.source})") if taken[each.name] > 1 else each for each in parts]
    seen: Counter[str] = Counter()
    found = []
    for each in named:
        seen[each.name] += 1
        found.append(each if seen[each.name] == 1 else replace(each, name=f"{each.name} {seen[each.name]}"))
    return found


def _slices(
    pictures: Pictures,
    parts: Sequence[_Part],
    tests: Sequence[SliceTest],
    errors: Errors | None,
    columns: dict[str, Column],
    failing: Sequence[_Failing],
) -> list[Slice]:
    """The parts with what is known of them: those that fail first, as surely as they do."""
    ids = pictures.ids.combine_chunks()
    order = np.argsort(ids.to_numpy(zero_copy_only=False))
    rank = {each.part.name: place for place, each in enumerate(failing)}
    slices = []
    for part, test in zip(parts, tests, strict=True):
        chosen = ids.take(pa.array(order[part.inside[order]]))
        found = Slice(part.name, part.source, chosen, fails=part.name in rank)
        if errors is not None:
            found = replace(found, error=test.error, rest=test.rest, p_value=test.p_value, errors_by=errors.source)
        if part.source in {"light", "content"}:
            found = replace(found, **_cluster_facts(pictures, part, errors, columns))
        slices.append(found)
    return sorted(slices, key=lambda each: rank.get(each.name, len(rank)))


def _cluster_facts(
    pictures: Pictures, part: _Part, errors: Errors | None, columns: dict[str, Column]
) -> dict[str, Any]:
    """What is told of clusters alone: how a detector does there, what they have in common, and what sets them apart."""
    shared = shared_values(columns, part.inside, pictures.groups)
    precise = None if errors is None or errors.detector is None else errors.detector.average_precision
    return {
        "mAP50": None if precise is None else precise(part.inside),
        "mAP50_rest": None if precise is None else precise(~part.inside),
        "metadata": "; ".join(f"{e.key} {e.value} {e.inside:.0%} ({e.outside:.0%})" for e in shared[:4]),
        "classes": _class_mix(pictures, part.inside),
        "measured": tuple(_measured_rows(pictures, part)) if part.source == "light" else (),
    }


def _of(slices: Sequence[Slice], kind: Kind) -> list[Slice]:
    """Those of one kind, the ones that do worse than chance allows first, then the largest."""
    chosen = [each for each in slices if each.kind == kind]
    p_values = {each.name: 1.0 if each.p_value is None else each.p_value for each in chosen}
    return sorted(chosen, key=lambda each: (p_values[each.name] if p_values[each.name] <= ALPHA else 1, -len(each)))


def _failing(
    slices: Sequence[_Part], tests: Sequence[SliceTest], errors: Errors, groups: IntArray, seed: int
) -> list[_Failing]:
    """Slices that fail, the surest first, each judged without the images of those before it.

    The same images lie in many slices (under one lamp, at its warm end, on the shift that used it), and a slice that only
    shares images with one that fails does not fail itself.
    """
    found: list[_Failing] = []
    left = np.ones(len(groups), dtype=bool)
    while failing := [k for k, test in enumerate(tests) if test.fails]:
        surest_of_all = min(failing, key=lambda k: (tests[k].p_value, tests[k].rest - tests[k].error))
        part, test = slices[surest_of_all], tests[surest_of_all]
        why = errors.says.format(name=part.name, error=test.error, rest=test.rest)
        found.append(_Failing(part, test, part.inside & left, ~part.inside & left, why))
        left = left & ~part.inside
        values = np.where(left, errors.values, np.nan)
        tests = slice_errors(np.stack([each.inside for each in slices], axis=1), values, groups, seed=seed)
    return found


def _slice_row(each: _Failing, errors: Errors | None) -> dict[str, Any]:
    return {
        "slice": each.part.name,
        "found_by": each.part.source,
        "images": int(each.inside.sum()),
        **_error_columns(each.inside, each.rest, each.test, errors),
        "p_value": each.test.p_value,
    }


def _error_columns(inside: BoolArray, rest: BoolArray, test: SliceTest, errors: Errors | None) -> dict[str, Any]:
    if errors is None:
        return {}
    found: dict[str, Any] = {"error": _rounded(test.error), "error_rest": _rounded(test.rest)}
    if errors.detector is not None:
        found["mAP50"] = _rounded(errors.detector.average_precision(inside))
        found["mAP50_rest"] = _rounded(errors.detector.average_precision(rest))
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, 3)


def _cluster_row(part: Slice, typed: str, errors: Errors | None) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    if errors is not None:
        numbers = {"error": _rounded(part.error), "error_rest": _rounded(part.rest)}
        if errors.detector is not None:
            numbers |= {"mAP50": _rounded(part.mAP50), "mAP50_rest": _rounded(part.mAP50_rest)}
    name = f"{part.name}, {counted(len(part), 'images')}"
    if numbers.get("mAP50") is not None and numbers.get("mAP50_rest") is not None:
        name += f", mAP {numbers['mAP50']:.2f} against {numbers['mAP50_rest']:.2f}"
    elif numbers.get("error") is not None and numbers.get("error_rest") is not None:
        name += f", error {numbers['error']:.2f} against {numbers['error_rest']:.2f}"
    row = {"cluster": name, "as a target": f"slice:{typed}", "images": len(part), **numbers}
    if errors is not None:
        row["p_value"] = part.p_value
    return {**row, "metadata": part.metadata, "classes": part.classes}


def _class_mix(pictures: Pictures, inside: BoolArray) -> str:
    """The largest classes, with their share elsewhere in brackets."""
    counts = class_counts(pictures.labels)
    here, there = counts[inside].sum(axis=0), counts[~inside].sum(axis=0)
    if not here.any():
        return ""
    share, rest = here / here.sum(), there / max(there.sum(), 1)
    named = sorted(zip(-share, pictures.labels.classes, rest, strict=True))[:5]
    return "; ".join(f"{name} {-less:.0%} ({there:.0%})" for less, name, there in named if less < 0)


def _measured_rows(pictures: Pictures, part: _Part) -> Rows:
    """Exposure, white balance, contrast, focus and noise of a cluster against the rest, and what sets it apart.

    An effect of None is one that is small or may be chance.
    """
    found = {NAMES[each.axis]: each for each in differences(pictures.axes, part.inside, pictures.groups)}
    named = dict.fromkeys([*[name for name in found if found[name].word][:6], *_ALWAYS])
    rows = []
    for name in named:
        k = NAMES.index(name)
        here, there = (
            in_units(AXES[k], float(np.median(pictures.axes[rows_, k]))) for rows_ in (part.inside, ~part.inside)
        )
        rows.append(
            {
                "axis": name,
                "median": float(f"{here:.4g}"),
                "rest": float(f"{there:.4g}"),
                "effect": round(found[name].effect, 2) if name in found else None,
            }
        )
    return rows


def _in_failing(pictures: Pictures, failing: Sequence[_Failing]) -> list[Finding]:
    """Images of slices that fail: how probably something is wrong there because of the slice."""
    found = []
    for each in failing:
        test = each.test
        evidence = {
            "why": each.why,
            "slice": each.part.name,
            "found_by": each.part.source,
            "error": test.error,
            "error_rest": test.rest,
            "p_value": test.p_value,
        }
        score = (1 - test.p_value) * (test.error - test.rest)
        found += [_finding(pictures, int(row), score, evidence) for row in np.flatnonzero(each.inside)]
    return found


def _rare(pictures: Pictures, points: FloatArray, light: IntArray) -> list[Finding]:
    """Images whose light is of no set-up, or of one that hardly occurs: how well each is told from the usual ones."""
    weights = group_weights(pictures.groups)
    share = np.array([weights[light == k].sum() for k in range(int(light.max()) + 1)]) / weights.sum()
    usual = np.flatnonzero(share >= _RARE)
    odd = np.flatnonzero(~np.isin(light, usual))
    if not len(odd) or not len(usual):
        return []
    means = np.stack([np.average(points[light == k], axis=0, weights=weights[light == k]) for k in usual])
    common = np.isin(light, usual)
    off = points[common] - means[np.searchsorted(usual, light[common])]
    spread = (off * weights[common, None]).T @ off / weights[common].sum() + 1e-3 * np.eye(points.shape[1])
    typical = np.quantile(np.einsum("ij,jk,ik->i", off, np.linalg.inv(spread), off), 0.99)
    inverse = np.linalg.inv(spread)
    found = []
    for row in odd:
        distance = min(float((points[row] - mean) @ inverse @ (points[row] - mean)) for mean in means)
        score = distance / (distance + typical)
        evidence = {"why": _why_odd(pictures, int(row), common), "distance": round(float(np.sqrt(distance)), 2)}
        found.append(_finding(pictures, int(row), score, evidence))
    return found


def _why_odd(pictures: Pictures, row: int, common: BoolArray) -> str:
    """The axes of light on which an image is furthest out, in words."""
    places = [*lamp_columns(), NAMES.index("brightness")]
    low, middle, high = np.quantile(pictures.axes[common][:, places], [0.05, 0.5, 0.95], axis=0)
    out = (pictures.axes[row, places] - middle) / np.maximum((high - low) / 2, 1e-9)
    order = [k for k in np.argsort(-np.abs(out), kind="stable") if abs(out[k]) > 1][:3]
    named = [AXES[places[k]].high if out[k] > 0 else AXES[places[k]].low for k in order]
    text = ", ".join(dict.fromkeys(word for word in named if word))
    return (
        f"its light is like that of hardly any other image: {text}"
        if text
        else "its light is like that of hardly any other"
    )


def _finding(pictures: Pictures, row: int, score: float, evidence: dict[str, Any]) -> Finding:
    return Finding(
        kind="shifted",
        score=round(float(np.clip(score, 0, 1)), 4),
        image=pictures.labels.images["location"][row].as_py(),
        image_id=pictures.ids[row].as_py(),
        check=NAME,
        evidence=evidence,
    )


def _summary(dataset: str, pictures: Pictures, light: IntArray, tables: dict[str, Rows], errors: Errors | None) -> str:
    setups = int(light.max()) + 1
    groups = len(np.unique(pictures.groups))
    text = f"{dataset}: {counted(len(pictures), 'images')} ({counted(groups, 'independent ones')}); "
    text += f"{setups:,} set-ups of light" if setups > 1 else "light is one continuum"
    odd = int((light == NO_CLUSTER).sum())
    text += f" and {counted(odd, 'images')} of none" if odd else ""
    if errors is not None:
        failing = tables[SLICES]
        text += f"; slices that fail by {errors.source}: {len(failing):,}"
        text += f", first of all {failing[0]['slice']}" if failing else ""
    return text
