"""The map and the stored embeddings as FiftyOne's brain runs, so that the lasso and 'sort by similarity' work.

Nothing is computed: the points are those of `curate shift --map`, the vectors those of `curate embed`. Vectors are kept in a
field of the samples, which FiftyOne reads much faster than what it keeps with a run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.checks.shift.check import MAPS
from curate.connectors.fiftyone.labels import MARK, pack_array
from curate.connectors.fiftyone.target import State, Target
from curate.dataset import Dataset
from curate.dataset.rows import Rows, compare, rows_at
from curate.dataset.store import EMBEDDINGS

_IMAGES: Final = "-images"
_LONGEST: Final = 60


def update_runs(target: Target, state: State, dataset: Dataset, shown: Dataset | None) -> State:
    """Make the runs whose tables have changed, and take those away whose tables are gone.

    Args:
        target: The FiftyOne dataset, with samples of all images.
        state: What it says of its runs.
        dataset: The commit that it is to show.
        shown: The commit that it showed before; None for a new one.
    """
    wanted = _runs(dataset)
    there = set(target.dataset.list_brain_runs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that only import what is deprecated
        for key in sorted(there & ((state.runs.keys() - wanted.keys()) | _outdated(state, wanted))):
            target.dataset.delete_brain_run(key)
            there.discard(key)
        for key, (table, _) in wanted.items():
            if table.startswith(EMBEDDINGS) and (key not in there or state.runs.get(key) != wanted[key]):
                known = shown if key in state.runs and state.runs[key][0] == table else None
                _write_vectors(target, dataset, known, key, table)
            if key not in there:
                make = _make_map if table.startswith(MAPS) else _make_index
                make(target, dataset, key, table)
    return replace(state, runs=wanted)


def _outdated(state: State, wanted: dict[str, list[Any]]) -> set[str]:
    return {key for key, made in state.runs.items() if wanted.get(key) != made}


def _runs(dataset: Dataset) -> dict[str, list[Any]]:
    """Tables and their versions by the runs that are made of them."""
    runs: dict[str, list[Any]] = {}
    for table, version in sorted(dataset.commit.tables.items()):
        if table.startswith(MAPS):
            runs[_key("map", table.removeprefix(MAPS), runs)] = [table, version]
        elif table.startswith(EMBEDDINGS) and table.endswith(_IMAGES):
            name = table.removeprefix(EMBEDDINGS).removesuffix(_IMAGES)
            runs[_key("similarity", name, runs)] = [table, version]
    return runs


def _make_map(target: Target, dataset: Dataset, key: str, table: str) -> None:
    there = _sample_ids(target)
    rows = dataset.table(table, columns=["id", "x", "y"])
    points = np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1).astype(np.float64)
    placed = {MARK + each: point for each, point in zip(rows["id"].to_pylist(), points, strict=True)}
    placed = {each: point for each, point in placed.items() if each in there}
    if placed:
        import_module("fiftyone.brain").compute_visualization(target.dataset, points=placed, brain_key=key)


def _make_index(target: Target, dataset: Dataset, key: str, table: str) -> None:
    if target.samples.find_one({vectors_of(key): {"$type": "binData"}}, {"_id": 1}) is not None:
        brain = import_module("fiftyone.brain")
        brain.compute_similarity(target.dataset, embeddings=vectors_of(key), brain_key=key, backend="sklearn")


def _write_vectors(target: Target, dataset: Dataset, shown: Dataset | None, key: str, table: str) -> None:
    """Put the vectors that are new since a commit into the samples. That is no change that anybody made in the App."""
    if vectors_of(key) not in target.dataset.get_field_schema():
        target.dataset.add_sample_field(vectors_of(key), target.fiftyone.VectorField)
    columns = ["id", "fingerprint"]
    known: Iterable[Rows] = ()
    if shown is not None and table in shown.commit.tables:
        known = shown.scan(table, columns=columns)
    found = compare(known, dataset.scan(table, columns=columns), "id")
    pymongo = import_module("pymongo")
    for piece in rows_at(dataset.scan(table, columns=["id", "vector"]), np.sort(np.r_[found.added, found.changed])):
        requests = [
            pymongo.UpdateOne({"_id": target.make_id(MARK + each)}, {"$set": {vectors_of(key): pack_array(vector)}})
            for each, vector in zip(piece["id"].to_pylist(), _vectors(piece), strict=True)
        ]
        if requests:
            target.samples.bulk_write(requests, ordered=False)


def _vectors(piece: pa.Table) -> Any:
    """Vectors of n rows; float16 array of shape (n, dimensions)."""
    column = piece["vector"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)


def _sample_ids(target: Target) -> set[str]:
    return {str(each["_id"]) for each in target.samples.find({}, {"_id": 1})}


def vectors_of(key: str) -> str:
    """The field of an index's vectors."""
    return f"{key}_vector"


def _key(what: str, name: str, taken: dict[str, Any]) -> str:
    """A name that FiftyOne allows: 'map' or 'similarity', with the encoder where there are several."""
    if what not in taken:
        return what
    text = f"{what}_{re.sub(r'[^0-9A-Za-z_]+', '_', name).strip('_')}"[:_LONGEST]
    return text if text not in taken else f"{text}_{len(taken)}"
