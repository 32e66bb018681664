"""Saved views: what is to be looked at first, one choice in the App's menu away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from curate.checks.findings import SETTLED, from_table
from curate.checks.shift.stored import Slice, read_slices
from curate.connectors.fiftyone.edits import UNDECIDED
from curate.connectors.fiftyone.layout import FINDINGS, SCORES
from curate.connectors.fiftyone.marks import COPIES
from curate.connectors.fiftyone.patches import copied_to, drop_copies
from curate.connectors.fiftyone.target import State, Target
from curate.dataset import Dataset
from curate.wording import counted

_MADE_BY: Final = "made by curate"
_LONGEST: Final = 100
_MOST_SLICES: Final = 100
_MOST_AXES: Final = 10
"""Ends of single axes on which the model does as well as elsewhere: there may be two of each axis."""


@dataclass(frozen=True)
class _View:
    """A view that a dataset calls for.

    Attributes:
        name: In the menu.
        what: What it is.
        make: Makes it, which takes time where labels are copied.
        copies: Whether it shows copies of labels, which get old.
    """

    name: str
    what: str
    make: Callable[[], Any]
    copies: bool = False


def save_views(target: Target, dataset: Dataset) -> None:
    """Save the views that a dataset's findings call for and that are not there yet.

    None is taken away: somebody may be looking at it, and a page whose view is gone cannot be brought up to date any more.
    """
    target.dataset.reload()
    taken = {_slug(name) for name in target.dataset.list_saved_views()}
    for view in _views(target, dataset):
        if _slug(view.name) not in taken:
            taken.add(_slug(view.name))
            target.dataset.save_view(view.name, view.make(), description=f"{_MADE_BY}: {view.what}")


def tidy_views(target: Target, state: State, dataset: Dataset) -> None:
    """Take away the views that curate has saved and that there are no findings for any more, and make old copies anew.

    Nobody may be looking.

    Args:
        target: The FiftyOne dataset.
        state: What it says of its views.
        dataset: The dataset, as the FiftyOne dataset shows it.
    """
    now = shown_in_views(dataset)
    kept = {view.name for view in _views(target, dataset) if state.views == now or not view.copies}
    for saved in list(target.dataset._doc.saved_views):
        if (saved.description or "").startswith(_MADE_BY) and saved.name not in kept:
            copies = copied_to(saved.view_stages)
            target.dataset.delete_saved_view(saved.name)
            drop_copies(target, copies)
    if state.views != now:
        save_views(target, dataset)
        target.write_state(replace(state, views=now))


def shown_in_views(dataset: Dataset) -> tuple[int | None, ...]:
    """Versions of the tables that copies of findings are made of."""
    return tuple(dataset.commit.tables.get(table) for table in ("images", "annotations", "findings"))


def _views(target: Target, dataset: Dataset) -> Iterator[_View]:
    """The views, in the order of the menu."""
    findings = [each for each in from_table(dataset.table("findings")) if each.status not in SETTLED]
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
    waiting = [each for each in findings if each.status in UNDECIDED]
    placed = {each.kind for each in waiting if each.bbox is not None or each.annotation_id is not None}
    for kind in sorted(counts, key=lambda each: (-counts[each], each)):
        yield _View(f"{kind}, worst first", "images with findings of this kind", partial(_worst_first, target, kind))
        if kind in placed:
            what = "every finding of this kind that waits, by itself: tag it to decide on it"
            yield _View(f"{kind}, one by one", what, partial(_one_by_one, target, kind), copies=True)
    if any(kind in counts for kind in COPIES):
        groups = partial(target.dataset.exists("copies").group_by, "copies", order_by="location")
        what = "images that are copies of one another, one group at a time"
        yield _View("copies, group by group", what, groups)
    for part in _chosen(list(read_slices(dataset).values())):
        yield _View(_cut(f"slice: {part.name}"), _said_of(part), partial(_of_slice, target, part.name))


def _worst_first(target: Target, kind: str) -> Any:
    score = f"{SCORES}.{kind}"
    return target.dataset.match(target.fiftyone.ViewField(score) > 0).sort_by(score, reverse=True)


def _one_by_one(target: Target, kind: str) -> Any:
    """What waits of the copies: they are of all findings of a kind, so that one that is reopened is seen again."""
    field = target.fiftyone.ViewField
    copies = target.dataset.filter_labels(FINDINGS, field("label") == kind).to_patches(FINDINGS)
    waiting = copies.match(field(f"{FINDINGS}.status").is_in(sorted(UNDECIDED)))
    return waiting.sort_by(f"{FINDINGS}.confidence", reverse=True)


def _of_slice(target: Target, name: str) -> Any:
    inside = target.fiftyone.ViewField("slices").contains(name)
    return target.dataset.match(inside).sort_by(f"{SCORES}.shifted", reverse=True)


def _chosen(slices: Sequence[Slice]) -> list[Slice]:
    """Those on which the model does worse, then set-ups of light and what is in the images, then a few ends of axes."""
    fails = [each for each in slices if each.fails]
    others = [each for each in slices if not each.fails and each.kind != "axis"]
    axes = [each for each in slices if not each.fails and each.kind == "axis"]
    return [*fails, *others, *axes[:_MOST_AXES]][:_MOST_SLICES]


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
