"""`curate outliers`: embeds images and objects, asks how isolated they are, and makes findings."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.checks.base import Check, Judgement, Settings, left_out_note
from curate.checks.duplicates.search import pairs_above
from curate.checks.findings import FLAGGED, Finding, Related
from curate.checks.graph import joined_groups
from curate.checks.labels import Labels, load_labels
from curate.checks.outliers.isolation import SIDES, Isolation, find_outliers
from curate.checks.outliers.tail import FEWEST
from curate.dataset import Transaction
from curate.dataset.store import EMBEDDINGS
from curate.models.passes import ITEMS, image_items
from curate.models.spaces import Content, choose_encoder, embedding_table, read_vectors, update_tables
from curate.wording import counted

IntArray = npt.NDArray[np.int64]

_SAME: Final = 0.999
"""Images whose vectors are as alike as this are copies, which do not vouch for one another."""

_LINKS: Final = 8
"""Copies of each image that are looked at, the nearest: enough to tell which belong together."""


def judge(transaction: Transaction, settings: Settings) -> Judgement:
    """Find images, and annotated objects, that resemble nothing else in the set.

    Args:
        transaction: The dataset.
        settings: Its option `objects` (True if absent) says whether the boxes of `layer` are judged too.

    Raises:
        UsageError: No image is chosen, or there is no such layer.
        UnavailableError: The encoder's weights cannot be had.
    """
    labels = load_labels(transaction.base, settings.layer, settings.where)
    objects = np.flatnonzero(labels.boxed & ~labels.crowd) if settings.options.get("objects", True) else _NO_ROWS
    ids = {"images": labels.images["image_id"], "crops": labels.annotations["annotation_id"].take(pa.array(objects))}
    encoder = choose_encoder(transaction.base, settings.encoder)
    space = embedding_table(encoder)
    items: dict[Content, pa.Table] = {"images": image_items(labels.images)}
    if len(objects):
        items["crops"] = _object_items(labels, objects)
    updates = update_tables(transaction, [space], items, progress=settings.progress)
    transaction.info = {**transaction.info, "encoder": encoder.name}
    left_out = [row for update in updates for row in update.left_out]
    notes = left_out_note(left_out, sum(map(len, items.values())), "could not be embedded and are not judged")
    findings: list[Finding] = []
    groups, weights = labels.image_groups(), np.ones(labels.images.num_rows)
    for content, update in zip(items, updates, strict=True):
        embedded = update.new + update.reused
        if embedded < FEWEST:
            notes.append(f"{embedded:,} {_WORDS[content]} are too few to tell what is usual; {FEWEST} are needed")
            continue
        vectors, there = read_vectors(
            transaction, update.table.removeprefix(EMBEDDINGS), ids[content], dtype=np.float16
        )
        rows = np.flatnonzero(there)
        if content == "images":
            first, second, _ = pairs_above(vectors, _SAME, most=_LINKS)
            groups[rows] = joined_groups(groups[rows], first, second)
            weights[rows] = _copy_weights(groups[rows])
            image, classes, make = rows, _image_classes(labels)[rows], _image_findings
        else:
            rows = objects[rows]
            image, classes, make = labels.image[rows], labels.label[rows], _object_findings
        found = find_outliers(vectors, groups=groups[image], weights=weights[image], labels=classes, seed=settings.seed)
        findings += make(labels, rows, found, settings.min_score)
    seen, annotations = (set(ids[content].to_pylist()) for content in ("images", "crops"))
    return Judgement(
        findings,
        f"{transaction.base.name}: {counted(labels.images.num_rows, 'images')} and {counted(len(objects), 'objects')} by "
        f"{encoder.name}; flagged as belonging to nothing: {sum(finding.score >= FLAGGED for finding in findings):,}",
        notes,
        judged=lambda finding: (
            finding.annotation_id in annotations if finding.annotation_id else finding.image_id in seen
        ),
    )


CHECK: Final = Check("outliers", judge, ("outlier",))

_WORDS: Final[dict[Content, str]] = {"images": "images", "crops": "objects"}
_NO_ROWS: Final[IntArray] = np.zeros(0, np.int64)


def _object_items(labels: Labels, rows: IntArray) -> pa.Table:
    chosen = labels.annotations.take(pa.array(rows))
    paths = labels.images["path"].take(pa.array(labels.image[rows]))
    return pa.table([chosen["annotation_id"], paths, chosen["bbox"]], schema=ITEMS)


def _copy_weights(groups: IntArray) -> npt.NDArray[np.float64]:
    """What each of n images counts, so that a group counts 1."""
    compact = np.unique(groups, return_inverse=True)[1]
    return np.asarray(1 / np.bincount(compact)[compact])


def _image_classes(labels: Labels) -> IntArray:
    """The one label of each image, -1 for those with none or several; int64 of shape (m,)."""
    classes = np.full(labels.images.num_rows, -1, np.int64)
    rows = labels.whole_image
    classes[labels.image[rows]] = labels.label[rows]
    return classes


def _image_findings(labels: Labels, rows: IntArray, found: Isolation, min_score: float) -> list[Finding]:
    findings = []
    for place in np.flatnonzero(found.p_outlier >= max(min_score, _TINY)):
        nearest = _nearest(found, int(place))
        related = [_related(labels, int(rows[k]), None, value) for k, value in nearest]
        findings.append(
            Finding(
                kind="outlier",
                score=float(found.p_outlier[place]),
                image=labels.images["location"][int(rows[place])].as_py(),
                image_id=labels.images["image_id"][int(rows[place])].as_py(),
                check=CHECK.name,
                related=related,
                evidence=_evidence(found, int(place), "image", "the images", None),
            )
        )
    return findings


def _object_findings(labels: Labels, rows: IntArray, found: Isolation, min_score: float) -> list[Finding]:
    findings = []
    for place in np.flatnonzero(found.p_outlier >= max(min_score, _TINY)):
        row = int(rows[place])
        annotation = labels.annotations.slice(row, 1).to_pylist()[0]
        image = int(labels.image[row])
        nearest = _nearest(found, int(place))
        names = Counter(str(labels.annotations["label"][int(rows[k])].as_py()) for k, _ in nearest)
        usual = f"the objects of class {annotation['label']}" if annotation["label"] is not None else "the objects"
        findings.append(
            Finding(
                kind="outlier",
                score=float(found.p_outlier[place]),
                image=labels.images["location"][image].as_py(),
                image_id=labels.images["image_id"][image].as_py(),
                annotation_id=annotation["annotation_id"],
                source_annotation_id=annotation["source_id"],
                bbox=annotation["bbox"],
                given=annotation["label"],
                check=CHECK.name,
                related=[
                    _related(
                        labels,
                        int(labels.image[rows[k]]),
                        labels.annotations["annotation_id"][int(rows[k])].as_py(),
                        value,
                    )
                    for k, value in nearest
                ],
                evidence=_evidence(found, int(place), "object", usual, names),
            )
        )
    return findings


_TINY: Final = 1e-9
"""A probability of 0 is no finding, whatever is asked for."""


def _nearest(found: Isolation, place: int) -> list[tuple[int, float]]:
    """Places and similarities of the nearest."""
    pairs = zip(found.nearest[place].tolist(), found.similarity[place].tolist(), strict=True)
    return [(k, round(value, 4)) for k, value in pairs if k >= 0]


def _related(labels: Labels, image: int, annotation_id: str | None, score: float) -> Related:
    location, image_id = (labels.images[name][image].as_py() for name in ("location", "image_id"))
    return Related(location, image_id, annotation_id, score)


def _chance(p_value: float) -> str:
    """A small probability in words."""
    return f"one in {1 / p_value:,.0f}" if p_value > 1e-6 else "less than one in a million"


def _evidence(found: Isolation, place: int, what: str, usual: str, names: Counter[str] | None) -> dict[str, Any]:
    """Why; `names` are the labels of the nearest, where there are labels."""
    side = SIDES[int(found.side[place])]
    said = {
        "plain": f"further from its {found.neighbors} nearest than is usual for {usual}",
        "relative": "unlike the others in a way in which these do not vary",
        "by class": "far from every class, for what is usual in each",
    }[side] + f": {_chance(float(found.p_value[place]))} of the set's own would be as unusual"
    apart = names is not None and len(names) > 1 and max(names.values()) <= sum(names.values()) / 2
    evidence: dict[str, Any] = {
        "why": f"the {what} is {said}" + (", and its nearest have no class in common" if apart else ""),
        "side": side,
        "p_value": float(found.p_value[place]),
        "distance": round(float(found.distance[place]), 4),
        "usual_distance": round(float(found.usual[place]), 4),
        "neighbor": found.neighbors,
    }
    if names is not None:
        evidence["nearest_labels"] = dict(names.most_common())
    return evidence
