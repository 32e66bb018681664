"""The numbers of a dataset and of all its findings, as a page shows them: counted in columns, whatever their number."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import FLAGGED, SETTLED, STATUSES
from curate.checks.shift.stored import Slice
from curate.dataset import Dataset
from curate.dataset.query import in_layer
from curate.names import GROUND_TRUTH
from curate.report.html.values import cut, short_number

NO_CLASS: Final = "(none)"

_TOLD: Final = {"error": "error", "rest": "error_rest", "p_value": "p_value"}
"""What evidence tells of a slice."""


def count_findings(findings: pa.Table) -> list[dict[str, Any]]:
    """One row for each check and kind: how many are flagged, expected to be right, and of which status.

    Args:
        findings: Columns kind, check, score and status.

    Returns:
        JSON-ready; first what most are expected to be right of.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    flagged = pc.greater_equal(findings["score"], FLAGGED)
    counted = findings.append_column("flagged", pc.cast(flagged, pa.int64()))
    grouped = counted.group_by(["check", "kind", "status"]).aggregate(
        [("score", "sum"), ("score", "max"), ("flagged", "sum"), ([], "count_all")]
    )
    for part in grouped.to_pylist():
        row = rows.setdefault(
            (part["check"], part["kind"]),
            {"check": part["check"], "kind": part["kind"], "all": 0, "flagged": 0, "expected": 0.0, "highest": 0.0}
            | dict.fromkeys(STATUSES, 0),
        )
        row["all"] += part["count_all"]
        row["flagged"] += part["flagged_sum"]
        row["expected"] += part["score_sum"]
        row["highest"] = max(row["highest"], part["score_max"])
        row[part["status"]] += part["count_all"]
    for row in rows.values():
        row["expected"], row["highest"] = round(row["expected"], 1), round(row["highest"], 4)
    return sorted(rows.values(), key=lambda row: (-row["expected"], row["kind"]))


def count_classes(dataset: Dataset, findings: pa.Table, splits: pa.Table) -> list[dict[str, Any]]:
    """One row for each class: objects in all and in each split, and findings on labels of that class.

    Args:
        dataset: The dataset.
        findings: Columns given, score and annotation_id.
        splits: Columns image_id and split of all images.

    Returns:
        JSON-ready; the class of most objects first.
    """
    split_of = splits["split"].combine_chunks()
    parts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    ids = splits["image_id"].combine_chunks()
    for batch in dataset.scan("annotations", columns=["image_id", "label"], where=in_layer(GROUND_TRUTH)):
        split = split_of.take(pc.index_in(batch["image_id"], value_set=ids))
        table = pa.table({"label": batch["label"], "split": split})
        for row in table.group_by(["label", "split"]).aggregate([([], "count_all")]).to_pylist():
            parts[row["label"] or NO_CLASS][row["split"] or NO_CLASS] += row["count_all"]
    listed = [info["name"] for info in dataset.commit.classes]
    on_labels = findings.filter(pc.is_valid(findings["annotation_id"]))
    expected = _sums(on_labels["given"], on_labels["score"])
    flagged = on_labels.filter(pc.greater_equal(on_labels["score"], FLAGGED))
    counts = _sums(flagged["given"], pc.cast(pc.is_valid(flagged["given"]), pa.float64()))
    rows = [
        {
            "class": name,
            "objects": sum(parts[name].values()),
            "splits": dict(parts[name]),
            "flagged": int(counts.get(name, 0)),
            "expected": round(expected.get(name, 0.0), 1),
        }
        for name in dict.fromkeys([*listed, *parts])
    ]
    return sorted(rows, key=lambda row: (-row["objects"], row["class"]))


def count_leaks(findings: pa.Table) -> list[dict[str, Any]]:
    """How many images of one split have a copy, or come from the same source, in another; what is settled is not counted.

    Args:
        findings: Columns kind, status, given and evidence.

    Returns:
        JSON-ready rows split, other and images; most images first.
    """
    leaks = _unsettled(findings).filter(pc.field("kind") == "leak")
    counts: Counter[tuple[str, str]] = Counter()
    for given, evidence in zip(leaks["given"].to_pylist(), leaks["evidence"].to_pylist(), strict=True):
        counts.update((str(given), str(other)) for other in json.loads(evidence).get("splits", {}))
    rows = [{"split": own, "other": other, "images": count} for (own, other), count in counts.items()]
    return sorted(rows, key=lambda row: (-int(row["images"]), str(row["split"]), str(row["other"])))


def count_slices(findings: pa.Table, slices: Mapping[str, Slice]) -> list[dict[str, Any]]:
    """The slices that fail: how many images they have, how many findings tell of them, and what they say.

    Args:
        findings: Columns kind, status and evidence.
        slices: What is stored of slices; what findings tell of others is taken from the findings.

    Returns:
        JSON-ready rows slice, found_by, images, findings, error, rest and p_value; the surest first.
    """
    told = _unsettled(findings).filter(
        (pc.field("kind") == "shifted") & pc.match_substring(pc.field("evidence"), '"slice"')
    )
    rows = {each.name: slice_row(each) | {"findings": 0} for each in slices.values() if each.fails}
    for text in told["evidence"].to_pylist():
        evidence = json.loads(text)
        name = str(evidence["slice"])
        if name not in rows:
            numbers = {key: short_number(evidence.get(of)) for key, of in _TOLD.items()}
            by = evidence.get("found_by")
            rows[name] = {"slice": cut(name), "found_by": by, "images": None, **numbers, "findings": 0}
        rows[name]["findings"] += 1
    return sorted(rows.values(), key=lambda row: (row["p_value"] is None, row["p_value"], -row["findings"]))


def slice_row(part: Slice) -> dict[str, Any]:
    """A slice as a table shows it, JSON-ready."""
    numbers = {"error": part.error, "rest": part.rest, "p_value": part.p_value}
    return {
        "slice": cut(part.name),
        "found_by": part.kind,
        "images": len(part),
        **{name: short_number(value) for name, value in numbers.items()},
    }


def count_splits(splits: pa.Table) -> dict[str, int]:
    """Images of each split, most first."""
    counts = pc.value_counts(splits["split"]).to_pylist()
    return {
        each["values"] or NO_CLASS: each["counts"]
        for each in sorted(counts, key=lambda each: (-each["counts"], str(each["values"])))
    }


def _unsettled(findings: pa.Table) -> pa.Table:
    return findings.filter(~pc.field("status").isin(sorted(SETTLED)))


def _sums(keys: pa.ChunkedArray, values: pa.ChunkedArray) -> dict[str, float]:
    """Sums of values by key; rows without a key are left out."""
    table = pa.table({"key": keys, "value": values}).filter(pc.is_valid(keys))
    grouped = table.group_by("key").aggregate([("value", "sum")])
    return dict(zip(grouped["key"].to_pylist(), np.asarray(grouped["value_sum"]).tolist(), strict=True))
