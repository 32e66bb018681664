"""What the App's own editor may change: the ground truth, in the dataset's classes.

FiftyOne edits a field only where a schema says how ('Annotate', beside an opened sample). Without one its users must make it
first; here it is made for them. Predictions and findings get none, so that nobody changes them by mistake.
"""

from __future__ import annotations

from typing import Any, Final

from curate.connectors.fiftyone.labels import Family
from curate.connectors.fiftyone.layout import Layout
from curate.connectors.fiftyone.target import Target
from curate.dataset import Dataset
from curate.names import PREDICTIONS

_EDITABLE: Final[frozenset[Family]] = frozenset({"detections", "polylines", "classifications"})
"""Families of shapes that FiftyOne's editor can draw; keypoints it only shows."""

_MOST_IN_A_MENU: Final = 1_000
"""More classes than this are typed, not chosen."""


def update_editor(target: Target, layout: Layout, dataset: Dataset) -> None:
    """Let the App's editor change the layers that are no predictions. What users have set there stays; new classes are added.

    Does nothing before FiftyOne 1.13, which has no editor.
    """
    if not hasattr(target.dataset, "update_label_schema"):
        return
    classes = [info["name"] for info in dataset.commit.classes]
    there = target.dataset.label_schemas
    for name, (layer, family) in layout.fields.items():
        if family not in _EDITABLE or layer.startswith(PREDICTIONS):
            continue
        if name not in there:
            target.dataset.update_label_schema(name, _schema(family, classes))
            target.dataset.activate_label_schemas([name])
        elif missing := [each for each in classes if each not in there[name].get("classes", classes)]:
            known = there[name]["classes"]
            target.dataset.update_label_schema(name, {**there[name], **_schema(family, [*known, *missing])})


def _schema(family: Family, classes: list[str]) -> dict[str, Any]:
    """A field's schema, as `fiftyone.core.annotation` describes it."""
    if not 0 < len(classes) <= _MOST_IN_A_MENU:
        return {"type": family, "component": "text"}
    return {"type": family, "component": "dropdown", "classes": classes}
