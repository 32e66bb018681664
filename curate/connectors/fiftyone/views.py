"""Saved views: what is to be looked at first, one choice in the App's menu away."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from curate.checks.findings import SETTLED, from_table
from curate.checks.shift.stored import Slice, read_slices
from curate.connectors.fiftyone.layout import FINDINGS, SCORES
from curate.connectors.fiftyone.marks import COPIES
from curate.connectors.fiftyone.target import Target
from curate.dataset import Dataset
from curate.wording import counted

_MADE_BY: Final = "made by curate"
_LONGEST: Final = 100
_MOST_SLICES: Final = 100


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
    for finding in findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
        if finding.bbox is not None or finding.annotation_id is not None:
            placed.add(finding.kind)
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
                "every finding of this kind by itself; to decide on it, tag it under 'Labels'",
            )
    if any(kind in counts for kind in COPIES):
        groups = target.dataset.exists("copies").group_by("copies", order_by="location")
        views["copies, group by group"] = (groups, "images that are copies of one another, one group at a time")
    for part in islice(read_slices(dataset).values(), _MOST_SLICES):
        view = target.dataset.match(field("slices").contains(part.name)).sort_by(f"{SCORES}.shifted", reverse=True)
        views[_cut(f"slice: {part.name}")] = (view, _said_of(part))
    return views


def _said_of(part: Slice) -> str:
    """How many images a slice has, and how a model does on them."""
    said = counted(len(part), "images")
    if part.error is not None and part.rest is not None:
        said += f", {part.error:.0%} wrong and {part.rest:.0%} elsewhere"
    return f"{said}: more than chance allows" if part.fails else said


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _slug(name: str) -> str:
    """What FiftyOne tells views apart by."""
    return "-".join("".join(char if char.isalnum() else " " for char in name.lower()).split())
