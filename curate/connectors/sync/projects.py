"""What a project must hold for a dataset's images to be labelled in it, and how curate finds it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.connectors.base import ProjectSpec
from curate.dataset import Transaction
from curate.dataset.commits import read_commit
from curate.dataset.query import in_layer
from curate.formats.base import ClassInfo
from curate.formats.importing import classes_from_json
from curate.names import GROUND_TRUTH

_MOST_VALUES: Final = 50
_DIGITS: Final = 10
_OFTEN: Final = 3


def project_spec(transaction: Transaction, image_ids: Sequence[str]) -> ProjectSpec:
    """The project for a dataset.

    Args:
        transaction: Reads the dataset.
        image_ids: Images that are to be pushed; their annotations tell which kinds must fit in. None: all.
    """
    columns = ["image_id", "type", "label", "attributes"]
    rows = transaction.read("annotations", columns=columns, where=in_layer(GROUND_TRUTH))
    if image_ids:
        rows = rows.filter(pc.is_in(rows["image_id"], pa.array(list(image_ids), pa.string())))
    classes = classes_from_json(transaction.classes)
    known = {info.name for info in classes}
    labels = sorted(set(pc.unique(rows["label"]).drop_null().to_pylist()) - known)
    return ProjectSpec(
        marker=_marker(transaction),
        title=transaction.base.name,
        classes=[*classes, *(ClassInfo(label) for label in labels)],
        types=frozenset(pc.unique(rows["type"]).to_pylist()),
        labels=_labels(rows),
        attributes=_attributes(rows),
    )


def _marker(transaction: Transaction) -> str:
    """Text that tells this dataset from any other of its name: its first commit's."""
    base = transaction.base
    first = read_commit(base.path, min(1, base.commit.number))
    text = json.dumps([base.name, first.time, first.command])
    return f"curate:{hashlib.blake2b(text.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}"


def _labels(rows: pa.Table) -> dict[str, list[str]]:
    """Labels in use, by type of annotation."""
    found: dict[str, list[str]] = {}
    for row in rows.select(["type", "label"]).group_by(["type", "label"]).aggregate([]).to_pylist():
        if row["label"] is not None:
            found.setdefault(row["type"], []).append(row["label"])
    return {type_: sorted(labels) for type_, labels in found.items()}


def _attributes(rows: pa.Table) -> Mapping[str, Mapping[str, Sequence[Any]]]:
    """Values of each attribute, by class and name; not more than a person would choose from, each up to three times.

    What is there again and again is a choice; what is there once is a text.
    """
    found: dict[str, dict[str, dict[str, list[Any]]]] = {}
    given = rows.filter(pc.is_valid(rows["attributes"])).select(["label", "attributes"])
    for row in given.group_by(["label", "attributes"]).aggregate([([], "count_all")]).to_pylist():
        of_class = found.setdefault(row["label"] or "", {})
        for name, value in json.loads(row["attributes"]).items():
            values = of_class.setdefault(name, {})
            key = json.dumps(value, sort_keys=True)
            if key in values or len(values) < _MOST_VALUES:
                seen = values.setdefault(key, [])
                seen += [value] * min(row["count_all"], _OFTEN - len(seen))
    return {
        label: {name: [value for key in sorted(values) for value in values[key]] for name, values in names.items()}
        for label, names in found.items()
    }
