"""What a dataset holds, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.store import EMBEDDINGS, Dataset

_COUNTED: Final = frozenset({"images", "annotations", "findings", "links"})
"""Tables of which more is said than how many rows they have, or that are part of others."""


def summarize(dataset: Dataset) -> dict[str, Any]:
    """Counts of a dataset's images, annotations, embeddings, findings, and what else is kept (measures, maps), JSON-ready."""
    images = dataset.table("images", columns=["split", "tags", "path"])
    annotations = dataset.table("annotations", columns=["layer", "type", "label"])
    findings = dataset.table("findings", columns=["kind", "status"])
    return {
        "name": dataset.name,
        "path": str(dataset.path),
        "commit": dataset.commit.number,
        "time": dataset.commit.time,
        "images": images.num_rows,
        "images_without_file": images["path"].null_count,
        "splits": _counts(images, ["split"]),
        "tags": _counts(pa.table({"tag": pc.list_flatten(images["tags"])}), ["tag"]),
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
    links = dataset.table("links", columns=["remote", "kind"])
    counts: dict[str, dict[str, int]] = {remote: {} for remote in dataset.commit.info.get("remotes") or {}}
    for remote, kinds in _nested(links, "remote", "kind").items():
        counts[remote] = {f"{kind}s": count for kind, count in kinds.items()}
    return counts


def _is_further(table: str) -> bool:
    return table not in _COUNTED and not table.startswith(EMBEDDINGS)


def _counts(table: pa.Table, keys: Sequence[str]) -> dict[str, int]:
    (key,) = keys
    grouped = (
        table.group_by(key).aggregate([([], "count_all")]).sort_by([("count_all", "descending"), (key, "ascending")])
    )
    return {
        _text(name): count
        for name, count in zip(grouped[key].to_pylist(), grouped["count_all"].to_pylist(), strict=True)
    }


def _nested(table: pa.Table, outer: str, inner: str) -> dict[str, dict[str, int]]:
    names = sorted(_text(name) for name in pc.unique(table[outer]).to_pylist())
    return {name: _counts(table.filter(pc.equal(table[outer], name)), [inner]) for name in names}


def _text(name: str | None) -> str:
    return "(none)" if name is None else name
