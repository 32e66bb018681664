"""Saved views: what is to be looked at first, one choice in the App's menu away."""

from __future__ import annotations

from typing import Any, Final

from curate.checks.findings import SETTLED, from_table
from curate.connectors.fiftyone.layout import FINDINGS, SCORES
from curate.connectors.fiftyone.marks import COPIES
from curate.connectors.fiftyone.target import Target
from curate.dataset import Dataset

_MADE_BY: Final = "made by curate"
_LONGEST: Final = 100
_MOST_SLICES: Final = 30


def save_views(target: Target, dataset: Dataset) -> None:
    """Save the views that a dataset's findings call for and that are not there yet.

    None is taken away: somebody may be looking at it, and a page whose view is gone cannot be brought up to date any more.
    """
    target.dataset.reload()
    taken = {_slug(name) for name in target.dataset.list_saved_views()}
    for name, (view, what) in _views(target, dataset).items():
        if _slug(name) not in taken:
            taken.add(_slug(name))
            target.dataset.save_view(name, view, description=f"{_MADE_BY}: {what}")


def tidy_views(target: Target, dataset: Dataset) -> None:
    """Take away the views that curate has saved and that there are no findings for any more. Nobody may be looking."""
    wanted = _views(target, dataset).keys()
    for saved in list(target.dataset._doc.saved_views):
        if (saved.description or "").startswith(_MADE_BY) and saved.name not in wanted:
            target.dataset.delete_saved_view(saved.name)


def _views(target: Target, dataset: Dataset) -> dict[str, tuple[Any, str]]:
    """Views and what they are, by name."""
    field = target.fiftyone.ViewField
    findings = [each for each in from_table(dataset.table("findings")) if each.status not in SETTLED]
    counts: dict[str, int] = {}
    placed: set[str] = set()
    slices: dict[str, int] = {}
    for finding in findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
        if finding.bbox is not None or finding.annotation_id is not None:
            placed.add(finding.kind)
        if "slice" in finding.evidence:
            name = str(finding.evidence["slice"])
            slices[name] = slices.get(name, 0) + 1
    views: dict[str, tuple[Any, str]] = {}
    for kind in sorted(counts, key=lambda each: (-counts[each], each)):
        score = f"{SCORES}.{kind}"
        view = target.dataset.match(field(score) > 0).sort_by(score, reverse=True)
        views[f"{kind}, worst first"] = (view, "images with findings of this kind")
        if kind in placed:
            only = field("label") == kind
            patches = target.dataset.filter_labels(FINDINGS, only).to_patches(FINDINGS)
            views[f"{kind}, one by one"] = (
                patches.sort_by(f"{FINDINGS}.confidence", reverse=True),
                "every finding of this kind by itself",
            )
    if any(kind in counts for kind in COPIES):
        groups = target.dataset.exists("copies").group_by("copies", order_by="location")
        views["copies, group by group"] = (groups, "images that are copies of one another, one group at a time")
    for name in sorted(slices, key=lambda each: (-slices[each], each))[:_MOST_SLICES]:
        view = target.dataset.match(field("slices").contains(name)).sort_by(f"{SCORES}.shifted", reverse=True)
        views[_cut(f"slice: {name}")] = (view, "images of a slice on which the model does worse")
    return views


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _slug(name: str) -> str:
    """What FiftyOne tells views apart by."""
    return "-".join("".join(char if char.isalnum() else " " for char in name.lower()).split())
