"""`curate duplicates`: copies of images, in groups with a keeper each.

Every image of a group but its keeper is a finding: `exact_duplicate` where its bytes or pixels are those of another image of
the group, else `near_duplicate`. Copies with different labels are `mislabeled` findings. Images that overlap without being
copies (`views`) are findings where superfluous images are asked for, and their labels are compared in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.checks.base import Check, Judgement, Settings, judged_again, left_out_note
from curate.checks.duplicates.conflicts import (
    Annotations,
    Conflict,
    box_conflicts,
    label_conflicts,
    matched_boxes,
    read_annotations,
)
from curate.checks.duplicates.dataset import dataset_pairs
from curate.checks.duplicates.keepers import Images, describe_transform, differences, invert, keeping_rank
from curate.checks.duplicates.pairs import (
    COPY,
    NEAR,
    SAME_BYTES,
    SAME_PIXELS,
    SAME_SOURCE,
    BoolArray,
    IntArray,
    Pairs,
    groups_of,
)
from curate.checks.duplicates.repetitive import Shown, thinned
from curate.checks.duplicates.views import Overlap, is_view, shown_by_others
from curate.checks.findings import Finding, Related, surest
from curate.checks.labels import no_images
from curate.checks.measures.table import read_measures
from curate.dataset import Transaction
from curate.models.spaces import choose_encoder, read_vectors, space_name
from curate.wording import counted

NAME: Final = "duplicates"

_COLUMNS: Final = [
    *("image_id", "location", "path", "content_hash", "group", "frame", "timestamp", "width", "height", "split"),
]
_MOST_RELATED: Final = 20


def judge(transaction: Transaction, settings: Settings) -> Judgement:
    """Find copies of images.

    Args:
        transaction: The dataset.
        settings: With the option `repetitive`, images that show nothing new, or little, are found too: frames of a sequence,
            and images that overlap with others.

    Raises:
        UsageError: No image is chosen.
        UnavailableError: The encoder's weights cannot be had.
    """
    table = transaction.read("images", columns=_COLUMNS, where=settings.where)
    if not table.num_rows:
        raise no_images(transaction.base.name, settings.where)
    pairs, left_out = dataset_pairs(transaction, table, encoder=settings.encoder, progress=settings.progress)
    run = _Run.load(transaction, settings, table, pairs)
    findings, groups = run.findings()
    asked = bool(settings.options.get("repetitive"))
    repetitive = run.repetitive(transaction) if asked else []
    unread = "images cannot be read, and only their bytes were compared"
    again = judged_again(transaction, table["image_id"].to_pylist(), settings.where)
    return Judgement(
        surest([*findings, *repetitive]),
        run.summary(groups, asked),
        left_out_note(left_out, table.num_rows, unread),
        judged=lambda finding: (
            again(finding)
            and finding.evidence.get("layer", settings.layer) == settings.layer
            and (asked or not finding.evidence.get("repetitive"))
        ),
        tables={"Groups of copies": groups},
    )


CHECK: Final = Check(NAME, judge, ("exact_duplicate", "near_duplicate", "mislabeled"))


@dataclass(frozen=True)
class _Run:
    """One run: what all its parts need."""

    name: str
    settings: Settings
    images: Images
    annotations: Annotations
    pairs: Pairs
    view: BoolArray  # which pairs overlap without being copies
    group: IntArray
    rank: IntArray
    alike: IntArray  # smallest row of those with the same bytes or pixels

    @classmethod
    def load(cls, transaction: Transaction, settings: Settings, table: pa.Table, pairs: Pairs) -> _Run:
        annotations = read_annotations(transaction, table["image_id"], settings.layer)
        measures, there = read_measures(transaction, "images", table["image_id"])
        columns = []
        for name in ("edge_width", "noise", "blockiness", "brightness"):
            values = np.full(table.num_rows, np.nan)
            values[there] = measures.columns[name]
            columns.append(values)
        images = Images(table, annotations.counts, *columns)
        view = is_view(pairs, table)
        copies = pairs.take(~view)
        group, rank = groups_of(copies, table.num_rows), keeping_rank(images, copies)
        alike = groups_of(pairs.take(pairs.kind <= SAME_PIXELS), table.num_rows)
        return cls(transaction.base.name, settings, images, annotations, pairs, view, group, rank, alike)

    def findings(self) -> tuple[list[Finding], list[dict[str, Any]]]:
        """Findings, and one row per group."""
        findings: list[Finding] = []
        rows = []
        linked = self._links(~self.view)
        for number, members in enumerate(self._groups(self.group), start=1):
            keeper = int(members[0])
            found = [self._copy(keeper, int(row), members, linked, number) for row in members[1:]]
            findings += [*found, *self._label_conflicts(members)]
            rows.append(
                {
                    "group": number,
                    "images": len(members),
                    "exact": sum(finding.kind == "exact_duplicate" for finding in found),
                    "keeper": self._location(keeper),
                    "splits": ", ".join(sorted({str(self.images.table["split"][int(row)]) for row in members})),
                    "lowest": round(min((finding.score for finding in found), default=1.0), 3),
                }
            )
        # What is on two images that overlap has one class, whether they are copies or not.
        linked = self._links(np.ones(len(self.pairs), dtype=bool))
        for members in self._groups(groups_of(self.pairs, len(self.rank))):
            findings += self._box_conflicts(int(members[0]), members, linked)
        return [finding for finding in findings if finding.score >= self.settings.min_score], rows

    def repetitive(self, transaction: Transaction) -> list[Finding]:
        """Of the images that are no copies, those that show nothing new, or little, beside those that are kept."""
        ids = self.images.table["image_id"]
        space = space_name(choose_encoder(transaction.base, self.settings.encoder)) + "-images"
        vectors, there = read_vectors(transaction, space, ids)
        first = np.full(len(self.rank), len(self.rank), np.int64)
        np.minimum.at(first, self.group, self.rank)
        keeper = self.rank == first[self.group]
        rows = np.flatnonzero(there & keeper)
        vectors = vectors[keeper[there]]
        shown = thinned(vectors, self.images.table.take(pa.array(rows)), self.group[rows])
        thin = self._thin(rows, shown)
        left = rows[shown.by == np.arange(len(rows))]
        showing = {int(rows[by]) for place, by in enumerate(shown.by.tolist()) if by != place}
        overlaps = shown_by_others(self.pairs, self.view, self.alike, left, self.rank, showing)
        findings = [*thin, *(self._overlapping(each) for each in overlaps)]
        return [finding for finding in findings if finding.score >= self.settings.min_score]

    def _thin(self, rows: IntArray, shown: Shown) -> list[Finding]:
        """Findings on images of sequences that others of their sequence stand for."""
        findings = []
        for place, (row, by) in enumerate(zip(rows.tolist(), rows[shown.by].tolist(), strict=True)):
            if row == by:
                continue
            similarity = float(shown.similarity[place])
            evidence = {
                "why": f"in its sequence it shows nothing new beside {self._location(by)}",
                "repetitive": True,
                "keeper": self._location(by),
                "similarity": round(similarity, 4),
                "usual_similarity": round(shown.usual, 4),
            }
            related = (self._related(by, similarity),)
            findings.append(self._finding("near_duplicate", float(shown.score[place]), row, related, evidence))
        return findings

    def _overlapping(self, found: Overlap) -> Finding:
        """The finding on an image of which another shows a part."""
        k = found.pair
        matrix, flip = self._model(k, found.by, found.row)
        overlap = float(self.pairs.overlap[k])
        words = describe_transform(matrix, mirrored=flip, overlap=overlap)
        evidence = {
            "why": f"overlaps with {self._location(found.by)}{''.join(f', {word}' for word in words)}",
            "repetitive": True,
            "overlap": round(overlap, 3),
            "keeper": self._location(found.by),
            "transform": ", ".join(words) or "none",
        }
        related = (self._related(found.by, float(self.pairs.score[k])),)
        return self._finding("near_duplicate", found.score, found.row, related, evidence)

    def summary(self, groups: list[dict[str, Any]], repetitive: bool) -> str:
        """What was looked at, and what came of it."""
        near = self.pairs.kind == NEAR
        copies = near & (self.pairs.score >= COPY) & ~self.view
        precision = float(self.pairs.score[copies].mean()) if copies.any() else 1.0
        extra = sum(row["images"] - 1 for row in groups)
        expected = f"; near pairs are expected to be right in {precision:.1%}" if copies.any() else ""
        views = int(self.view.sum())
        overlapping = f"; {counted(views, 'pairs')} overlap without being copies" if views else ""
        listed = " (--repetitive finds what is superfluous of them)" if views and not repetitive else ""
        return (
            f"{self.name}: {counted(self.images.table.num_rows, 'images')}, {counted(int(near.sum()), 'pairs')} compared; "
            f"{counted(len(groups), 'groups')} with {counted(extra, 'copies')} beside their keepers{expected}"
            f"{overlapping}{listed}"
        )

    def _groups(self, group: IntArray) -> Iterator[IntArray]:
        """Rows of each group of more than one, the largest first; in each the one to keep first."""
        several = np.flatnonzero(np.bincount(group)[group] > 1)
        order = several[np.lexsort((self.rank[several], group[several]))]
        parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
        yield from sorted(
            (part for part in parts if len(part)), key=lambda part: (-len(part), self._location(int(part[0])))
        )

    def _links(self, which: BoolArray) -> dict[tuple[int, int], int]:
        """Rows in `pairs` of some that overlap, by the `alike` numbers of both images, smaller first."""
        copies = np.flatnonzero((self.pairs.score >= COPY) & which)
        # The surest last, so that it stays; same names say less than same pixels.
        order = copies[np.lexsort((self.pairs.score[copies], self.pairs.kind[copies] != SAME_SOURCE))]
        first, second = self.alike[self.pairs.first[order]], self.alike[self.pairs.second[order]]
        keys = zip(np.minimum(first, second).tolist(), np.maximum(first, second).tolist(), strict=True)
        return dict(zip(keys, order.tolist(), strict=True))

    def _link(self, first: int, second: int, linked: dict[tuple[int, int], int]) -> int | None:
        """The row in `pairs` that says that two images are copies, equal images standing for one another."""
        a, b = int(self.alike[first]), int(self.alike[second])
        return linked.get((min(a, b), max(a, b)))

    def _copy(
        self, keeper: int, row: int, members: IntArray, linked: dict[tuple[int, int], int], number: int
    ) -> Finding:
        """The finding on an image of a group that is not its keeper."""
        pair = self._pair(keeper, row, members, linked)
        other, k = pair
        kind = int(self.pairs.kind[k])
        what = {
            SAME_BYTES: "the same bytes as",
            SAME_PIXELS: "the same pixels as",
            NEAR: "the same picture as",
            SAME_SOURCE: "made of the same source as",
        }[kind]
        matrix, flip = self._model(k, other, row)
        transform = (
            describe_transform(matrix, mirrored=flip, overlap=float(self.pairs.overlap[k])) if kind == NEAR else []
        )
        differs = differences(self.images, other, row)
        details = f", {', '.join([*transform, *differs])}" if transform or differs else ""
        evidence: dict[str, Any] = {
            "why": f"{what} {self._location(other)}{details}",
            "group": number,
            "keeper": self._location(keeper),
            "differs": differs,
        }
        if kind == NEAR:
            evidence |= {
                "transform": ", ".join(transform) or "none",
                "inliers": int(self.pairs.inliers[k]),
                "correlation": round(float(self.pairs.correlation[k]), 4),
                "detail": round(float(self.pairs.detail[k]), 4),
                "differing": round(float(self.pairs.differing[k]), 4),
            }
        others = [int(each) for each in members if each != row][:_MOST_RELATED]
        related = tuple(self._related(each, self._score(each, row, linked)) for each in others)
        exact = kind in (SAME_BYTES, SAME_PIXELS)
        return self._finding(
            "exact_duplicate" if exact else "near_duplicate", float(self.pairs.score[k]), row, related, evidence
        )

    def _pair(self, keeper: int, row: int, members: IntArray, linked: dict[tuple[int, int], int]) -> tuple[int, int]:
        """The image of the group that says most of why `row` is in it, and their pair: an equal one ranked before it, the
        keeper, or the surest."""
        candidates = []
        for place, other in enumerate(members.tolist()):
            k = None if other == row else self._link(other, row, linked)
            if k is not None:
                equal = self.alike[other] == self.alike[row]
                before = self.rank[other] < self.rank[row]
                # An equal one that is ranked behind has its own finding.
                if before or not equal:
                    candidates.append((not equal, other != keeper, -self.pairs.score[k], place, other, k))
        best = min(candidates)
        return int(best[4]), int(best[5])

    def _model(self, k: int, first: int, second: int) -> tuple[npt.NDArray[np.float64], bool]:
        """The model of a pair from one of its images to the other."""
        flip = bool(self.pairs.mirrored[k])
        matrix = self.pairs.matrix[k]
        as_stored = self.alike[self.pairs.first[k]] == self.alike[first]
        return (matrix if as_stored else invert(matrix, flip)), flip

    def _label_conflicts(self, members: IntArray) -> list[Finding]:
        """Whole-image labels that copies contradict."""
        rows: list[int] = members.tolist()
        found = label_conflicts([self.annotations.of(row) for row in rows])
        return [self._conflict(rows[k], conflict, conflict.share, rows) for k, conflict in found.items()]

    def _box_conflicts(self, keeper: int, members: IntArray, linked: dict[tuple[int, int], int]) -> list[Finding]:
        """Labels of boxes that copies contradict."""
        matched, score = [], {keeper: 0.0}
        for row in members[1:].tolist():
            k = self._link(keeper, row, linked)
            if k is not None and self.pairs.kind[k] != SAME_SOURCE:
                matrix, flip = self._model(k, keeper, row)
                sizes = self.images.sizes[[keeper, row]]
                kept, copied = self.annotations.of(keeper), self.annotations.of(row)
                matched.append((row, matched_boxes(kept, copied, matrix, flip, sizes)))
                score[row] = float(self.pairs.score[k])
                score[keeper] = max(score[keeper], score[row])
        return [
            self._conflict(row, conflict, score[row] * conflict.share, list(score))
            for row, conflict in box_conflicts(matched, keeper)
        ]

    def _conflict(self, row: int, conflict: Conflict, score: float, copies: list[int]) -> Finding:
        annotation = conflict.annotation
        others = [other for other in copies if other != row]
        box = annotation["bbox"]
        return Finding(
            kind="mislabeled",
            score=score,
            image=self._location(row),
            image_id=self.images.table["image_id"][row].as_py(),
            check=NAME,
            annotation_id=annotation["annotation_id"],
            source_annotation_id=annotation["source_id"],
            bbox=box,
            given=annotation["label"],
            suggested=conflict.other,
            related=tuple(self._related(other, None) for other in others[:_MOST_RELATED]),
            evidence={
                "why": f"another picture of this says '{conflict.other}' where this one says '{annotation['label']}'",
                "copies": len(copies),
                "layer": self.settings.layer,
            },
        )

    def _score(self, first: int, second: int, linked: dict[tuple[int, int], int]) -> float | None:
        k = self._link(first, second, linked)
        return None if k is None else float(self.pairs.score[k])

    def _finding(
        self, kind: str, score: float, row: int, related: tuple[Related, ...], evidence: dict[str, Any]
    ) -> Finding:
        return Finding(
            kind=cast(Any, kind),
            score=score,
            image=self._location(row),
            image_id=self.images.table["image_id"][int(row)].as_py(),
            check=NAME,
            related=related,
            evidence=evidence,
        )

    def _related(self, row: int, score: float | None) -> Related:
        return Related(self._location(row), self.images.table["image_id"][int(row)].as_py(), score=score)

    def _location(self, row: int) -> str:
        return str(self.images.table["location"][int(row)].as_py())
