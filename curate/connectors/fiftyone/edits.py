"""What was done in the App since a sample was made: tags, labels and decisions, told apart from what curate put there.

A sample is compared with the one that its commit would give now, so that nothing has to be remembered of what was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from curate.checks.findings import Finding
from curate.connectors.base import Row
from curate.connectors.fiftyone.labels import (
    SOURCE,
    Document,
    Family,
    Size,
    attribute_name,
    attributes_of,
    is_changed,
    label_id,
    same_shape,
    to_shape,
    unmark,
)
from curate.connectors.fiftyone.layout import FINDINGS, IMAGE_FINDINGS, OWN, Layout
from curate.connectors.fiftyone.marks import RESERVED
from curate.connectors.fiftyone.samples import Renderer
from curate.connectors.sync.content import rows_of
from curate.dataset.ids import hash_texts, to_ids
from curate.dataset.query import quote
from curate.formats.losses import LossReport
from curate.names import PREDICTIONS

DECISIONS: Final = {
    "confirm": "confirmed",
    "confirmed": "confirmed",
    "reject": "rejected",
    "rejected": "rejected",
    "reopen": "open",
    "relabel": "relabel",
}
"""What a tag decides, by the tag. 'relabel' takes a suggested class, or asks for the label to be made anew."""

UNDECIDED: Final = frozenset({"open", "queued"})
"""Statuses of findings that nobody has decided on."""


@dataclass(frozen=True)
class Decision:
    """A tag that decides on findings.

    Attributes:
        verdict: A value of `DECISIONS`.
        image_id: The image that it is on.
        finding_ids: The findings that it decides on, none that its author did not see.
    """

    verdict: str
    image_id: str
    finding_ids: frozenset[str]


@dataclass(frozen=True)
class EditedRow:
    """An annotation that was changed, drawn or deleted.

    Attributes:
        before: As it was shown; None for one that was drawn.
        after: As it is now; None for one that was deleted.
    """

    before: Row | None
    after: Row | None


@dataclass
class Edits:
    """What was done in the App.

    Attributes:
        rows: Annotations that were changed, drawn or deleted.
        decisions: In the order of the samples.
        tagged: Tags that were added to images, by image.
        untagged: Tags that were taken from images, by image.
    """

    rows: list[EditedRow] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    tagged: dict[str, list[str]] = field(default_factory=dict)
    untagged: dict[str, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rows or self.decisions or self.tagged or self.untagged)


def read_edits(documents: Sequence[Document], open_renderer: Callable[[int], Renderer], losses: LossReport) -> Edits:
    """Tell what was done to samples.

    Args:
        documents: The samples as they are in the App.
        open_renderer: Makes the renderer of a commit.
        losses: Gets what cannot be taken over.
    """
    edits = Edits()
    for number, samples in _by_commit(documents, losses).items():
        renderer = open_renderer(number)
        ids = sorted(samples)
        rows = _rows_by_image(renderer, ids)
        for batch in renderer.documents(ids):
            for shown in batch:
                image_id = shown[OWN]["image_id"]
                findings = marks.findings if (marks := renderer.marks.get(image_id)) else []
                reader = _Reader(edits, renderer.layout, losses, image_id, rows.get(image_id, {}), findings)
                reader.read(shown, samples[image_id])
    return edits


def is_decision(tag: str) -> bool:
    """Whether a tag decides on findings, rather than that it is the dataset's or says what became of them."""
    return _parts(tag)[0] in DECISIONS and not tag.startswith(RESERVED)


def _parts(tag: str) -> tuple[str, str]:
    """The word of a decision, and the kind of findings that it is about, which may be empty: 'reject:dark'."""
    word, _, kind = tag.strip().lower().partition(":")
    return word.strip(), kind.strip()


@dataclass(frozen=True)
class _Reader:
    """Compares one sample with what was shown.

    Attributes:
        edits: What is added to.
        layout: Fields of the layers.
        losses: Gets what cannot be taken over.
        image_id: Its image.
        rows: The annotations of its image as shown, by their labels' ids.
        findings: The findings on it as shown.
    """

    edits: Edits
    layout: Layout
    losses: LossReport
    image_id: str
    rows: Mapping[str, Row]
    findings: Sequence[Finding]

    def read(self, shown: Document, now: Document) -> None:
        """Take note of all that differs."""
        self._sample_tags(shown["tags"], _texts(now.get("tags")))
        for name, family in ((FINDINGS, "detections"), (IMAGE_FINDINGS, "classifications")):
            self._finding_tags(_list(shown, name, family), _list(now, name, family))
        size = shown["metadata"]
        for name, (layer, family) in self.layout.fields.items():
            before, after = _list(shown, name, family), _list(now, name, family)
            self._label_tags(before, after)
            if size is not None:
                self._labels(
                    layer, family, (size["width"], size["height"]), before, after, f"{shown['location']}: {name}"
                )

    def _sample_tags(self, shown: Sequence[str], now: Sequence[str]) -> None:
        known = {tag for tag in shown if not tag.startswith(RESERVED)}
        decided = self._decide(set(now) - set(shown), self.findings)
        added = [tag for tag in now if tag not in known and tag not in decided and not tag.startswith(RESERVED)]
        removed = sorted(known - set(now))
        if added:
            self.edits.tagged[self.image_id] = list(dict.fromkeys(added))
        if removed:
            self.edits.untagged[self.image_id] = removed

    def _finding_tags(self, shown: Sequence[Document], now: Sequence[Document]) -> None:
        before = {label["_id"]: set(label["tags"]) for label in shown}
        for label in now:
            if label["_id"] in before:
                its_own = [each for each in self.findings if each.id == unmark(label["_id"])]
                self._decide(set(_texts(label.get("tags"))) - before[label["_id"]], its_own, also_decided=True)

    def _label_tags(self, shown: Sequence[Document], now: Sequence[Document]) -> None:
        before = {label["_id"]: set(label["tags"]) for label in shown}
        for label in now:
            if label["_id"] in before:
                annotation = self.rows[str(label["_id"])]["annotation_id"]
                about_it = [each for each in self.findings if each.annotation_id == annotation]
                self._decide(set(_texts(label.get("tags"))) - before[label["_id"]], about_it)

    def _decide(self, tags: Iterable[str], findings: Sequence[Finding], *, also_decided: bool = False) -> set[str]:
        """Take note of the decisions among tags that were added; returns those tags.

        Args:
            tags: The tags.
            findings: Those that they may be about.
            also_decided: Whether they are about decided ones too; else only where none is undecided.
        """
        decided = set()
        for tag in sorted(tags):
            if is_decision(tag):
                word, kind = _parts(tag)
                chosen = [each for each in findings if each.kind == (kind or each.kind)]
                if not also_decided and DECISIONS[word] != "open":
                    chosen = [each for each in chosen if each.status in UNDECIDED] or chosen
                ids = frozenset(each.id for each in chosen)
                self.edits.decisions.append(Decision(DECISIONS[word], self.image_id, ids))
                decided.add(tag)
        return decided

    def _labels(
        self, layer: str, family: Family, size: Size, shown: Sequence[Document], now: Sequence[Document], place: str
    ) -> None:
        before = {label["_id"]: label for label in shown}
        there = {label["_id"] for label in now}
        new = [label for label in now if label["_id"] not in before]
        gone = [label for id_, label in before.items() if id_ not in there]
        changed = [label for label in now if label["_id"] in before and is_changed(before[label["_id"]], label, size)]
        if layer.startswith(PREDICTIONS):
            count = len(new) + len(gone) + len(changed)
            self.losses.dropped("edits", "of a model's predictions, which stay as the model made them", place, count)
            return
        self.edits.rows += [EditedRow(self.rows[str(label["_id"])], None) for label in gone]
        for label in changed:
            self._changed(family, size, before[label["_id"]], label, place)
        for label in new:
            self._drawn(layer, family, size, label, place)

    def _changed(self, family: Family, size: Size, shown: Document, label: Document, place: str) -> None:
        row = self.rows[str(label["_id"])]
        after: Row = {**row, "label": label.get("label"), "attributes": _attributes(row, shown, label)}
        if not same_shape(shown, label, size):
            try:
                after |= to_shape(label, family, size, row)
            except (TypeError, ValueError) as error:
                self.losses.dropped("edits", f"a shape that cannot be read: {error}", place)
                return
        self.edits.rows.append(EditedRow(row, after))

    def _drawn(self, layer: str, family: Family, size: Size, label: Document, place: str) -> None:
        try:
            shape = to_shape(label, family, size, None)
        except (TypeError, ValueError) as error:
            self.losses.dropped("annotations", f"a shape that cannot be read: {error}", place)
            return
        key = str(label["_id"])
        own = {
            "annotation_id": str(to_ids(hash_texts([f"{self.image_id}\0{layer}\0{key}"]))[0].as_py()),
            "image_id": self.image_id,
            "layer": layer,
            "label": label.get("label"),
            "source": SOURCE,
            "source_id": key,
            "attributes": attributes_of(label),
            "iscrowd": None,
            "score": None,
            "probabilities": None,
        }
        self.edits.rows.append(EditedRow(None, {**shape, **own}))


def _by_commit(documents: Iterable[Document], losses: LossReport) -> dict[int, dict[str, Document]]:
    """Samples by image, by the commit that they were made from."""
    found: dict[int, dict[str, Document]] = {}
    for document in documents:
        own = document.get(OWN) or {}
        if unmark(document["_id"]) is None or not own.get("commit"):
            reason = "put into the App by other means; 'curate import' brings images in"
            losses.dropped("images", reason, document.get("filepath"))
            continue
        found.setdefault(own["commit"], {})[unmark(document["_id"]) or ""] = document
    return found


def _rows_by_image(renderer: Renderer, image_ids: Sequence[str]) -> dict[str, dict[str, Row]]:
    chosen = ", ".join(map(quote, image_ids))
    found: dict[str, dict[str, Row]] = {}
    for row in rows_of(renderer.dataset.table("annotations", where=f"image_id IN ({chosen})")):
        found.setdefault(row["image_id"], {})[label_id(row)] = row
    return found


def _attributes(row: Row, shown: Document, now: Document) -> dict[str, Any]:
    """A row's attributes with those that differ between two labels of it."""
    attributes = dict(row["attributes"])
    names = {attribute_name(name): name for name in attributes}
    before, after = attributes_of(shown), attributes_of(now)
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            name = names.get(key, key)
            attributes.pop(name, None)
            if key in after:
                attributes[name] = after[key]
    return attributes


def _list(document: Document, name: str, family: str) -> Sequence[Document]:
    labels: Iterator[Document] = iter((document.get(name) or {}).get(family) or ())
    return list(labels)


def _texts(values: Any) -> list[str]:
    return [str(value) for value in values or ()]
