"""`curate mistakes`: loads a dataset's labels, vectors and predictions, asks the pure checks, and stores the findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.checks.base import Check, Judgement, Settings, left_out_note
from curate.checks.boxes import BoolArray, FloatArray
from curate.checks.findings import Finding, to_table
from curate.checks.labels import Labels, load_labels, load_predictions
from curate.checks.mistakes.boxes import impossible_boxes
from curate.checks.mistakes.confused import confused_classes
from curate.checks.mistakes.detection import detection_errors
from curate.checks.mistakes.evidence import mislabeled_findings, suspect_findings
from curate.checks.mistakes.labels import LabelErrors, find_label_errors
from curate.checks.mistakes.looks import Looks
from curate.checks.mistakes.masks.run import compared_as_masks, judge_masks, masked
from curate.checks.mistakes.tables import Suspects, image_scores, merge
from curate.dataset import Transaction
from curate.models.encoders.base import Encoder
from curate.models.passes import ITEMS, Progress
from curate.models.spaces import Content, choose_encoder, read_vectors, update_space
from curate.wording import counted


def judge(transaction: Transaction, settings: Settings) -> Judgement:
    """Find wrong labels.

    Labels of whole images and of boxes are judged by the embeddings of images and crops. With predictions layers, boxes are
    also compared with what a model saw, and masks with its masks. Impossible boxes and masks are found with neither.

    Args:
        transaction: The dataset.
        settings: Its option `predictions` names the layers to compare with; None for all there are.

    Raises:
        UsageError: No image is chosen, or there is no such layer.
        UnavailableError: The encoder's weights cannot be had.
    """
    labels = load_labels(transaction.base, settings.layer, settings.where)
    notes: list[str] = []
    models = load_predictions(transaction.base, labels, settings.options.get("predictions"), notes)
    encoder = choose_encoder(transaction.base, settings.encoder)
    looks = np.full(len(labels.label), np.nan)
    run = _Run(transaction, encoder, settings.seed, settings.min_score, settings.progress, labels, [], notes, looks)
    run.note_several_labels()
    mask_models = compared_as_masks(labels, models)
    box_models = {name: model for name, model in models.items() if name not in mask_models}
    findings = [
        *run.judge(labels.whole_image, "images", models),
        *run.judge(labels.boxed & ~labels.crowd & (labels.label >= 0), "crops", {}),
        *run.judge_boxes(box_models),
        *judge_masks(
            transaction.base, labels, mask_models, min_score=settings.min_score, check=CHECK.name, looks=run.looks
        ),
    ]
    seen = set(labels.images["image_id"].to_pylist())
    return Judgement(
        _united(findings),
        run.summary(models),
        notes,
        judged=lambda finding: finding.image_id in seen and finding.evidence.get("layer") == settings.layer,
        digest=lambda stored: {"Classes confused": confused_classes(to_table(stored))},
    )


CHECK: Final = Check("mistakes", judge, ("mislabeled", "missing", "spurious", "mislocated", "bad_mask"))


@dataclass
class _Run:
    """One run: what all its parts need."""

    transaction: Transaction
    encoder: Encoder
    seed: int
    min_score: float
    progress: Progress | None
    labels: Labels
    judged: list[LabelErrors]
    notes: list[str]
    looks: FloatArray

    def judge(self, rows: BoolArray, content: Content, models: Mapping[str, Labels]) -> list[Finding]:
        """Label errors among the chosen annotations, by the vectors of their images or crops."""
        if not rows.any():
            return []
        if len(np.unique(self.labels.label[rows])) < 2:
            self.notes.append(
                f"all {int(rows.sum()):,} labels of {content} are of one class, and are not judged by their looks"
            )
            return []
        annotations = self.labels.annotations.filter(pa.array(rows))
        image = self.labels.image[rows]
        ids = (
            self.labels.images["image_id"].take(pa.array(image))
            if content == "images"
            else annotations["annotation_id"]
        )
        items = pa.table(
            [
                ids,
                self.labels.images["path"].take(pa.array(image)),
                pa.nulls(len(image), ITEMS.field("bbox").type) if content == "images" else annotations["bbox"],
            ],
            schema=ITEMS,
        )
        update = update_space(self.transaction, self.encoder, content, items, progress=self.progress)
        unread = "could not be embedded and are not judged by their looks"
        self.notes += left_out_note(update.left_out, len(image), unread)
        if len(update.left_out) == len(image):
            return []
        vectors, there = read_vectors(self.transaction, update.space, ids)
        chosen = np.flatnonzero(rows)[there]
        groups = self.labels.image_groups()[self.labels.image[chosen]]
        errors = find_label_errors(
            vectors,
            self.labels.label[chosen],
            len(self.labels.classes),
            groups=groups,
            extra=self.labels.shape(chosen) if content == "crops" else None,
            predictions=[each[self.labels.image[chosen]] for each in self._image_predictions(models)],
            seed=self.seed,
        )
        self.judged.append(errors)
        if content == "crops":
            self.looks[chosen] = errors.p_given
        return mislabeled_findings(self.labels, chosen, errors, self.min_score, CHECK.name, self.encoder.name)

    def judge_boxes(self, models: Mapping[str, Labels]) -> list[Finding]:
        """Errors of boxes: impossible ones, and those that disagree with predictions."""
        rows = np.flatnonzero(self.labels.boxed)
        truth, sizes = self.labels.boxes(), self.labels.sizes
        parts = [impossible_boxes(truth, sizes)]
        layers = {name: model for name, model in models.items() if model.boxed.any()}
        if layers:
            predicted = [replace(model.boxes(), covered=self.labels.covered_by(model)) for model in layers.values()]
            looks = Looks.of(self.looks[rows], self.labels.label[rows])
            lowest = min(self.min_score, 0.01)
            parts.append(detection_errors(truth, predicted, sizes=sizes, min_score=lowest, looks=looks))
        found: Suspects = merge(parts)
        per_image = image_scores(found, self.labels.images.num_rows)
        return suspect_findings(
            self.labels, rows, found.take(found.score >= self.min_score), per_image, layers, CHECK.name
        )

    def summary(self, models: Mapping[str, Labels]) -> str:
        """What was checked."""
        labels = self.labels
        counts = [counted(labels.images.num_rows, "images")]
        if labels.boxed.any():
            counts.append(counted(int(labels.boxed.sum()), "boxes"))
        if masks := int(masked(labels).sum()):
            counts.append(counted(masks, "masks"))
        if labels.whole_image.any():
            counts.append(counted(int(labels.whole_image.sum()), "image labels"))
        wrong = sum(float(errors.p_wrong.sum()) for errors in self.judged)
        expected = (
            f"; about {wrong:,.0f} labels are expected to be of another class by their looks" if self.judged else ""
        )
        models_text = ", ".join(models) or "no predictions"
        return (
            f"{self.transaction.base.name}: {', '.join(counts)}, {counted(len(labels.classes), 'classes')}; "
            f"{self.encoder.name}, {models_text}{expected}"
        )

    def note_several_labels(self) -> None:
        """Say how many images have several labels: they cannot be told from one another by what the image is."""
        plain = np.asarray(self.labels.annotations["type"]) == "label"
        skipped = len(np.unique(self.labels.image[plain & (self.labels.label >= 0) & ~self.labels.whole_image]))
        if skipped:
            self.notes.append(f"not judged, as they have several labels each: {counted(skipped, 'images')}")

    def _image_predictions(self, models: Mapping[str, Labels]) -> list[npt.NDArray[np.float32]]:
        return [found for model in models.values() if (found := model.image_predictions()) is not None]


def _united(findings: Sequence[Finding]) -> list[Finding]:
    """One finding per problem, where parts of the check have found the same, or what excludes the other: the surer one.

    The other's evidence joins it where both suggest the same, else only what it suggested (`also_suggested`).
    """
    best: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda finding: -finding.score):
        known = best.setdefault(finding.id, finding)
        if known is finding:
            continue
        evidence: dict[str, Any]
        if known.suggested == finding.suggested:
            evidence = {**finding.evidence, **known.evidence}
        else:
            evidence = {**known.evidence, "also_suggested": finding.suggested}
        best[finding.id] = replace(known, evidence=evidence)
    kept, judged = [], set()
    for finding in best.values():  # the surest first
        # By its looks or by a detector, a box is wrong in one way: that nothing is there, and another class, cannot both be.
        if {"p_wrong", "p_spurious"} & finding.evidence.keys():
            if finding.annotation_id in judged:
                continue
            judged.add(finding.annotation_id)
        kept.append(finding)
    return kept
