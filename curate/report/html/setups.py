"""What `curate shift` found within the set: set-ups of light and kinds of content, as tables and as colours of the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.shift.stored import Kind, Slice
from curate.report.html.summary import slice_row
from curate.report.html.values import cut, short_number

CLUSTERED: Final[Sequence[Kind]] = ("light", "content")
"""What the images fall into groups by."""

_MOST_MEASURED: Final = 3


def cluster_rows(slices: Mapping[str, Slice]) -> list[dict[str, Any]]:
    """One row for each set-up of light and kind of content, JSON-ready; the largest of each first."""
    rows = [
        {
            **slice_row(part),
            "mAP50": short_number(part.mAP50),
            "mAP50_rest": short_number(part.mAP50_rest),
            "fails": part.fails,
            "errors_by": part.errors_by,
            "metadata": cut(part.metadata),
            "classes": cut(part.classes),
            "measured": _measured(part),
        }
        for part in slices.values()
        if part.kind in CLUSTERED and len(part)
    ]
    return sorted(rows, key=lambda row: (CLUSTERED.index(row["found_by"]), -row["images"], row["slice"]))


def clusters_of(ids: Sequence[str], slices: Mapping[str, Slice]) -> dict[str, dict[str, Any]]:
    """Which cluster each image is in, by kind: names, and for each image the place of its cluster's name, or -1.

    Args:
        ids: Of the images.
        slices: What is stored.
    """
    wanted = pa.array(ids, pa.string())
    found: dict[str, dict[str, Any]] = {}
    for kind in CLUSTERED:
        parts = [part for part in slices.values() if part.kind == kind]
        place = np.full(len(ids), -1)
        for number, part in enumerate(parts):
            place[np.asarray(pc.is_in(wanted, value_set=part.image_ids), dtype=bool)] = number
        if (place >= 0).any():
            found[kind] = {"names": [cut(part.name) for part in parts], "of": place.tolist()}
    return found


def _measured(part: Slice) -> str:
    """What sets a set-up of light apart most, in numbers."""
    apart = [row for row in part.measured if row["effect"] is not None][:_MOST_MEASURED]
    return "; ".join(f"{row['axis']} {row['median']:.3g} ({row['rest']:.3g})" for row in apart)
