"""Findings: what checks produce and everything else consumes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring
from typing import Any, Final, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import hash_text
from curate.dataset.schema import FINDINGS
from curate.errors import UsageError

Kind = Literal[
    "mislabeled", "missing", "spurious", "mislocated", "bad_mask",
    "exact_duplicate", "near_duplicate", "leak", "outlier",
    "blurry", "dark", "overexposed", "low_contrast", "color_cast", "noisy", "low_information",
    "odd_size", "odd_aspect", "corrupt", "shifted", "hard",
]  # fmt: skip
KINDS: Final[tuple[str, ...]] = get_args(Kind)

Status = Literal["open", "queued", "confirmed", "rejected", "fixed"]
STATUSES: Final[tuple[str, ...]] = get_args(Status)

FLAGGED: Final = 0.5
"""From this probability on, a finding is more likely right than wrong."""

VERDICT: Final = "verdict"
"""Key of a finding's evidence that says how people closed it, and where."""

SETTLED: Final = frozenset({"rejected", "fixed"})
"""Statuses of findings that ask for nothing any more."""

BY_RANK: Final = [("score", "descending"), ("image", "ascending"), ("id", "ascending")]
"""Order of findings wherever they are listed, as Arrow's sort keys."""

_LINES_AT_ONCE: Final = 8192


@dataclass(frozen=True)
class Related:
    """Something that a finding compares with: a neighbour, the other box, the other copy."""

    image: str
    image_id: str
    annotation_id: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Finding:
    """One suspected problem.

    Attributes:
        kind: One of `KINDS`.
        score: In [0, 1]; a calibrated probability where the check can give one.
        image: Location as imported.
        image_id: Its id.
        annotation_id: The annotation in question; None where there is none (a missing box, a dark image).
        source_annotation_id: The id its source gave it.
        bbox: [x, y, width, height] in pixels: where to look; None for the whole image.
        given: The label as it is.
        suggested: What it probably should be.
        related: Neighbours, copies, the other box.
        evidence: Why; JSON-ready, so plain numbers, texts, lists and dictionaries.
        check: Name of the check.
        status: One of `STATUSES`.
        commit: Dataset commit in which it first appeared; 0 until it is stored.
    """

    kind: Kind
    score: float
    image: str
    image_id: str
    check: str
    annotation_id: str | None = None
    source_annotation_id: str | None = None
    bbox: Sequence[float] | None = None
    given: str | None = None
    suggested: str | None = None
    related: Sequence[Related] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    status: Status = "open"
    commit: int = 0

    @cached_property
    def id(self) -> str:
        """The same problem found again has the same id, so a person's verdict on it lasts."""
        box = "" if self.annotation_id or self.bbox is None else ",".join(f"{v:.0f}" for v in self.bbox)
        key = "\0".join((self.check, self.kind, self.image_id, self.annotation_id or "", box))
        return f"{hash_text(key):016x}"

    def to_json(self) -> dict[str, Any]:
        """The finding as `--json` prints it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "score": self.score,
            "image": self.image,
            "image_id": self.image_id,
            "annotation_id": self.annotation_id,
            "source_annotation_id": self.source_annotation_id,
            "bbox": None if self.bbox is None else [float(v) for v in self.bbox],
            "given": self.given,
            "suggested": self.suggested,
            "related": [vars(related) for related in self.related],
            "evidence": dict(self.evidence),
            "status": self.status,
            "check": self.check,
            "commit": self.commit,
        }


def require_probability(value: float, where: str) -> None:
    """Raise a `UsageError` that names an option unless its value is in [0, 1]."""
    if not 0 <= value <= 1:
        raise UsageError(f"{value:g} is not a probability", where=where, remedy="a number from 0 to 1")


def surest(findings: Sequence[Finding]) -> list[Finding]:
    """One finding of each id: the one with the highest score, of equal ones the first."""
    best: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda finding: -finding.score):
        best.setdefault(finding.id, finding)
    return list(best.values())


def to_table(findings: Sequence[Finding]) -> pa.Table:
    """Findings as a table with the columns of `curate.dataset.schema.FINDINGS`, highest score first."""
    rows = [finding.to_json() for finding in findings]
    rows.sort(key=lambda row: (-row["score"], row["image"], row["id"]))
    for row in rows:
        row["evidence"] = json.dumps(row["evidence"], allow_nan=False)
    return pa.Table.from_pylist(rows, schema=FINDINGS)


def from_table(table: pa.Table) -> list[Finding]:
    """The inverse of `to_table`."""
    names = [name for name in FINDINGS.names if name != "id"]
    columns = {name: table[name].to_pylist() for name in names}
    columns["related"] = [tuple(Related(**each) for each in related or ()) for related in columns["related"]]
    columns["evidence"] = [json.loads(text) for text in columns["evidence"]]
    return [Finding(**dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def ranked(table: pa.Table) -> pa.Table:
    """Findings with the highest score first, of equal ones in the order of image and id.

    Args:
        table: Columns of `curate.dataset.schema.FINDINGS`.
    """
    return table.take(pc.sort_indices(table, sort_keys=BY_RANK))


def json_lines(table: pa.Table) -> Iterator[str]:
    """Each finding as `Finding.to_json` has it, as a line of JSON with its end.

    The lines are put together from columns of texts: a fifth of what reading and writing each finding as an object costs.

    Args:
        table: Columns of `curate.dataset.schema.FINDINGS`.
    """
    line = "{" + ", ".join(f'"{name}": %s' for name in FINDINGS.names) + "}\n"
    for batch in table.to_batches(max_chunksize=_LINES_AT_ONCE):
        for row in zip(*(_json_texts(name, batch[name]) for name in FINDINGS.names), strict=True):
            yield line % row


def _json_texts(name: str, column: pa.Array) -> list[str]:
    """Each value of a column of findings as JSON."""
    values = column.to_pylist()
    if name == "evidence":  # JSON already; but other letters than ASCII are printed as they are
        return [_plain(json.loads(text)) if "\\u" in text else text for text in values]
    if pa.types.is_string(column.type):
        return ["null" if value is None else encode_basestring(value) for value in values]
    if name == "related":
        return [_plain(value) if value else "[]" for value in values]
    return ["null" if value is None else _plain(value) for value in values]


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
