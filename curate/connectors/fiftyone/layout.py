"""Which field of FiftyOne's holds what of a dataset.

A layer becomes one field for each family of shapes in it: the first takes the layer's name, others that and the family's. What
a field was given it keeps, also when the layer gets other shapes later, so that views and habits last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from curate.connectors.fiftyone.labels import CONTAINERS, FAMILIES, Family
from curate.dataset import Dataset
from curate.names import GROUND_TRUTH, PREDICTIONS

FINDINGS: Final = "findings"
"""Field of the findings that have a place on the image."""

IMAGE_FINDINGS: Final = "image_findings"
"""Field of the findings on whole images."""

OWN: Final = "curate"
"""Field of what curate needs to find a sample again."""

SCORES: Final = "scores"
MEASURES: Final = "measures"

MEASURED: Final = ("brightness", "contrast", "sharpness", "noise", "motion_blur", "clipped_dark", "clipped_bright")
"""Measures of images that are shown, where the dataset has them."""

IMAGE_FIELDS: Final[Mapping[str, str]] = {
    "location": "StringField",
    "sequence": "StringField",
    "frame": "IntField",
    "timestamp": "FloatField",
    "details": "StringField",
}
"""Fields of what is known of an image itself, and their types."""

OF_FINDINGS: Final = frozenset({FINDINGS, IMAGE_FINDINGS, OWN, SCORES, MEASURES, "slices", "why", "copies"})
"""Fields of what was found and measured, which a dataset has beside its images and labels."""

_FIELDS: Final = {**IMAGE_FIELDS, "split": "StringField", "why": "StringField", "copies": "StringField"}
_TAKEN: Final = frozenset(
    {*_FIELDS, FINDINGS, IMAGE_FINDINGS, OWN, SCORES, MEASURES, "slices", "id", "filepath", "tags", "metadata"}
    | {"created_at", "last_modified_at", "frames", "group", "embeddings", "sample_id", "media_type"}
)
_UNFOLDED: Final = ("tags", "labels", SCORES)
_STANDS_OUT: Final = "#ff2d55"
_STANDS_BACK: Final = "#4da3ff"
_LONGEST: Final = 60


@dataclass(frozen=True)
class Layout:
    """Which field is for what.

    Attributes:
        fields: Layer and family by field.
    """

    fields: Mapping[str, tuple[str, Family]] = field(default_factory=dict)

    def field_of(self, layer: str, family: Family) -> str:
        """The field of a layer's shapes of one family."""
        return next(name for name, held in self.fields.items() if held == (layer, family))

    def names(self) -> dict[tuple[str, str], str]:
        """Fields by layer and type of annotation, for look-ups row by row."""
        held = {pair: name for name, pair in self.fields.items()}
        layers = {layer for layer, _ in self.fields.values()}
        return {
            (layer, kind): held[layer, family]
            for layer in layers
            for kind, family in FAMILIES.items()
            if (layer, family) in held
        }

    def to_json(self) -> dict[str, list[str]]:
        """JSON-ready."""
        return {name: list(held) for name, held in self.fields.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Layout:
        """The inverse of `to_json`."""
        return cls({name: (layer, family) for name, (layer, family) in content.items()})


def extended(layout: Layout, dataset: Dataset) -> Layout:
    """A layout with fields for all that a dataset has."""
    annotations = dataset.table("annotations", columns=["layer", "type"])
    counts = annotations.group_by(["layer", "type"]).aggregate([([], "count_all")])
    held: dict[tuple[str, Family], int] = {}
    for row in counts.to_pylist():
        pair = (row["layer"], FAMILIES[row["type"]])
        held[pair] = held.get(pair, 0) + row["count_all"]
    fields = dict(layout.fields)
    # The most numerous first: it gets the layer's own name.
    for layer, family in sorted(held, key=lambda pair: (pair[0], -held[pair], pair[1])):
        if (layer, family) not in fields.values():
            fields[_free_name(layer, family, set(fields))] = (layer, family)
    return Layout(fields)


def declare(fiftyone: Any, target: Any, layout: Layout, kinds: list[str], dataset: Dataset) -> None:
    """Make the fields that a FiftyOne dataset lacks.

    Args:
        fiftyone: The package.
        target: The FiftyOne dataset.
        layout: Fields of the layers.
        kinds: Kinds of findings that there are.
        dataset: The dataset.
    """
    there = target.get_field_schema(flat=True)

    def add(name: str, type_: str, **settings: Any) -> None:
        if name not in there:
            target.add_sample_field(name, getattr(fiftyone, type_), **settings)

    for name, type_ in _FIELDS.items():
        add(name, type_)
    add("slices", "ListField", subfield=fiftyone.StringField)
    for name in (SCORES, MEASURES, OWN):
        add(name, "EmbeddedDocumentField", embedded_doc_type=fiftyone.DynamicEmbeddedDocument)
    add(f"{OWN}.image_id", "StringField")
    add(f"{OWN}.commit", "IntField")
    add(f"{OWN}.synced_at", "DateTimeField")
    for kind in kinds:
        add(f"{SCORES}.{kind}", "FloatField")
    for name in MEASURED if any(table.startswith("measures/") for table in dataset.commit.tables) else ():
        add(f"{MEASURES}.{name}", "FloatField")
    declare_labels(fiftyone, target, layout)
    for name, family in ((FINDINGS, "detections"), (IMAGE_FINDINGS, "classifications")):
        _declare_label(fiftyone, target, there, name, family)
        for attribute in ("status", "given", "suggested", "why", "check", "evidence"):
            add(f"{name}.{family}.{attribute}", "StringField")
        add(f"{name}.{family}.related", "ListField", subfield=fiftyone.StringField)


def arrange(fiftyone: Any, target: Any, layout: Layout) -> None:
    """Put what is looked at most at the top of the App's sidebar, fold the rest, and draw findings so that they stand out."""
    groups = fiftyone.DatasetAppConfig.default_sidebar_groups(target)
    for group in groups:
        group.expanded = group.name in _UNFOLDED
    groups.sort(key=lambda group: _UNFOLDED.index(group.name) if group.name in _UNFOLDED else len(_UNFOLDED))
    target.app_config.sidebar_groups = groups
    colors = {name: _STANDS_BACK for name, (layer, _) in layout.fields.items() if layer == GROUND_TRUTH}
    colors |= dict.fromkeys((FINDINGS, IMAGE_FINDINGS), _STANDS_OUT)
    fields = [{"path": name, "fieldColor": color} for name, color in colors.items()]
    target.app_config.color_scheme = fiftyone.ColorScheme(fields=fields)
    target.save()


def declare_labels(fiftyone: Any, target: Any, layout: Layout) -> None:
    """Make the label fields that a FiftyOne dataset lacks."""
    there = target.get_field_schema(flat=True)
    for name, (_, family) in layout.fields.items():
        _declare_label(fiftyone, target, there, name, family)


def _declare_label(fiftyone: Any, target: Any, there: Mapping[str, Any], name: str, family: str) -> None:
    if name not in there:
        kind = getattr(fiftyone, CONTAINERS[family][0])  # type: ignore[index]
        target.add_sample_field(name, fiftyone.EmbeddedDocumentField, embedded_doc_type=kind)


def _free_name(layer: str, family: Family, taken: set[str]) -> str:
    text = layer.replace(PREDICTIONS, "predictions_", 1) if layer.startswith(PREDICTIONS) else layer
    name = re.sub(r"[^0-9A-Za-z_]+", "_", text).strip("_")[:_LONGEST] or "layer"
    name = f"layer_{name}" if name[0].isdigit() else name
    candidates = [name, f"{name}_{family}", *(f"{name}_{family}_{number}" for number in range(2, 1000))]
    return next(each for each in candidates if each not in taken and each not in _TAKEN)
