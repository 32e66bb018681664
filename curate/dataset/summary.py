"""What a dataset holds, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.store import EMBEDDINGS, Dataset

_COUNTED: Final = frozenset({"images", "annotations", "findings", "links"})
"""Tables of which more is said than how many rows they have, or that are part of others."""

_COUNT: Final = pa.field("count", pa.int64())


def summarize(dataset: Dataset) -> dict[str, Any]:
    """Counts of a dataset's images, annotations, embeddings, findings, and what else is kept (measures, maps), JSON-ready."""
    images = dataset.table("images", columns=["split", "tags", "path"])
    annotations = _counted(dataset, "annotations", ["layer", "type", "label"])
    findings = _counted(dataset, "findings", ["kind", "status"])
    return {
        "name": dataset.name,
        "path": str(dataset.path),
        "tables_at": dataset.place,
        "commit": dataset.commit.number,
        "time": dataset.commit.time,
        "images": images.num_rows,
        "images_without_file": images["path"].null_count,
        "splits": _counts(_grouped(images, ["split"]), "split"),
        "tags": _counts(_grouped(pa.table({"tag": pc.list_flatten(images["tags"])}), ["tag"]), "tag"),
        "layers": _nested(annotations, "layer", "type"),
        "classes": _nested(annotations, "layer", "label"),
        "class_names": [info["name"] for info in dataset.commit.classes],
        "embeddings": {space: dataset.count(f"{EMBEDDINGS}{space}") for space in dataset.spaces()},
        "tables": {name: dataset.count(name) for name in sorted(dataset.commit.tables) if _is_further(name)},
        "findings": _nested(findings, "kind", "status"),
        "remotes": _remotes(dataset),
    }


def _remotes(dataset: Dataset) -> dict[str, dict[str, int]]:
    """What is linked with each project that the dataset is synced with: images, annotations, findings asked there."""
    links = _counted(dataset, "links", ["remote", "kind"])
    counts: dict[str, dict[str, int]] = {remote: {} for remote in dataset.commit.info.get("remotes") or {}}
    for remote, kinds in _nested(links, "remote", "kind").items():
        counts[remote] = {f"{kind}s": count for kind, count in kinds.items()}
    return counts


def _is_further(table: str) -> bool:
    return table not in _COUNTED and not table.startswith(EMBEDDINGS)


def _counted(dataset: Dataset, table: str, columns: Sequence[str]) -> pa.Table:
    """How many rows have each combination of values, counted batch by batch: a table need not fit into memory."""
    schema = dataset.schema(table)
    counts = [pa.schema([*(schema.field(name) for name in columns), _COUNT]).empty_table()]
    for batch in dataset.scan(table, columns=columns):
        counts.append(_grouped(pa.Table.from_batches([batch]), columns).cast(counts[0].schema))
    return _added(pa.concat_tables(counts), columns)


def _grouped(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """How many rows have each combination of values."""
    grouped = table.group_by(list(columns)).aggregate([([], "count_all")])
    return grouped.select([*columns, "count_all"]).rename_columns([*columns, "count"])


def _added(counts: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The same from counts of parts."""
    summed = counts.group_by(list(columns)).aggregate([("count", "sum")])
    return summed.select([*columns, "count_sum"]).rename_columns([*columns, "count"])


def _counts(counts: pa.Table, key: str) -> dict[str, int]:
    summed = _added(counts, [key]).sort_by([("count", "descending"), (key, "ascending")])
    return {
        _text(name): count for name, count in zip(summed[key].to_pylist(), summed["count"].to_pylist(), strict=True)
    }


def _nested(counts: pa.Table, outer: str, inner: str) -> dict[str, dict[str, int]]:
    names = sorted(_text(name) for name in pc.unique(counts[outer]).to_pylist())
    return {name: _counts(counts.filter(pc.equal(counts[outer], name)), inner) for name in names}


def _text(name: str | None) -> str:
    return "(none)" if name is None else name
