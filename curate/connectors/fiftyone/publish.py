"""From a dataset to the App: everything the first time, afterwards what has changed from one commit to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from curate.checks.findings import KINDS, from_table
from curate.checks.shift.stored import MEMBERS, read_slices
from curate.connectors.fiftyone.brain import update_runs
from curate.connectors.fiftyone.editor import update_editor
from curate.connectors.fiftyone.labels import Document, unmark
from curate.connectors.fiftyone.layout import Layout, arrange, declare, extended
from curate.connectors.fiftyone.marks import marks_of
from curate.connectors.fiftyone.patches import copied_to, drop_copies, show_statuses
from curate.connectors.fiftyone.samples import BATCH, Renderer, measures_table, shows_already
from curate.connectors.fiftyone.target import State, Target, new_target, open_target, shows
from curate.connectors.fiftyone.views import save_views, shown_in_views
from curate.dataset import Dataset, open_dataset
from curate.dataset.rows import Numbers, Rows, compare, rows_at
from curate.errors import CurateError
from curate.formats.losses import LossReport

Progress = Callable[[int, int], None]

_WRITERS: Final = 2
"""Batches sent to the database while the next is made."""


@dataclass(frozen=True)
class Published:
    """What bringing the App up to date did.

    Attributes:
        added: Samples that are new.
        changed: Samples that were brought up to date.
        removed: Samples of images that are no longer in the dataset.
        waiting: Samples that were changed in the App meanwhile, and are left for the next time.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    waiting: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def publish_all(
    fiftyone: Any, dataset: Dataset, losses: LossReport, progress: Progress | None = None
) -> tuple[Target, Published]:
    """Make the FiftyOne dataset of a dataset; one that is there under its name is replaced."""
    if fiftyone.dataset_exists(dataset.name):
        old = open_target(fiftyone, fiftyone.load_dataset(dataset.name))
        copies = copied_to(stage for view in old.dataset._doc.saved_views for stage in view.view_stages)
        fiftyone.delete_dataset(dataset.name)
        drop_copies(old, copies)
    layout = extended(Layout(), dataset)
    target = new_target(fiftyone, dataset, layout)
    declare(fiftyone, target.dataset, layout, _kinds(dataset), dataset)
    renderer = Renderer(dataset, layout, target.make_id, losses)
    total = dataset.count("images")
    done = 0
    for count in insert_all(target, renderer.documents()):
        done += count
        if progress is not None:
            progress(done, total)
    losses.carried("images", done)
    losses.carried("annotations", dataset.count("annotations"))
    _finish(target, State(str(dataset.path), layout=layout), dataset, None)
    return target, Published(added=done)


def publish_changes(
    target: Target,
    state: State,
    dataset: Dataset,
    losses: LossReport,
    *,
    taken: dict[Any, Document],
    progress: Progress | None = None,
) -> Published:
    """Bring a FiftyOne dataset from the commit that it shows to another.

    Args:
        target: The FiftyOne dataset.
        state: What it shows, of the same dataset.
        dataset: The commit that it is to show.
        losses: Gets what cannot be shown.
        taken: Samples whose changes have been taken over, by their ids; they are made anew too.
        progress: Told (done, total).
    """
    shown = open_dataset(dataset.name, commit=state.commit)
    changed, removed = changed_images(shown, dataset)
    changed |= {image_id for each in taken if (image_id := unmark(each))} - removed
    deleted = {image_id: location for image_id, location in target.missing(shown).items() if image_id not in removed}
    changed |= deleted.keys()
    reason = "of samples in the App: their images stay in the dataset, and are shown again"
    losses.dropped("deletions", reason, sorted(deleted.values()), len(deleted))
    layout = state.layout
    if state.commit != dataset.commit.number:
        layout = extended(layout, dataset)
        declare(target.fiftyone, target.dataset, layout, _kinds(dataset), dataset)
    target.delete(removed)
    renderer = Renderer(dataset, layout, target.make_id, losses)
    result = Published(removed=len(removed))
    ids = sorted(changed)
    for start in range(0, len(ids), BATCH):
        result = _write(target, renderer, ids[start : start + BATCH], taken, result)
        if progress is not None:
            progress(min(start + BATCH, len(ids)), len(ids))
    if state.commit != dataset.commit.number or layout != state.layout:
        _finish(target, replace(state, layout=layout), dataset, shown)
    return result


def insert_all(target: Target, batches: Iterable[list[Any]], *, own: bool = True) -> Iterator[int]:
    """Add samples while the next are being made; gives how many each time."""
    pending: list[tuple[Future[None], int]] = []
    with ThreadPoolExecutor(_WRITERS) as writers:
        for batch in batches:
            pending.append((writers.submit(target.insert, batch, own=own), len(batch)))
            if len(pending) > _WRITERS:
                first, count = pending.pop(0)
                first.result()
                yield count
        for first, count in pending:
            first.result()
            yield count


def is_of(state: State, dataset: Dataset) -> bool:
    """Whether the commit that a FiftyOne dataset shows is one of a dataset's, which may have been made anew."""
    with suppress(CurateError):
        return state.commit > 0 and open_dataset(dataset.name, commit=state.commit).commit.time == state.time
    return False


def changed_images(old: Dataset, new: Dataset) -> tuple[set[str], set[str]]:
    """Images of which a sample would be another at another commit: new or changed ones, and those that are gone."""
    changed: set[str] = set()
    removed: set[str] = set()
    if _differs(old, new, "images"):
        found = compare(old.scan("images"), new.scan("images"), "image_id", ignore=["content_hash"])
        for numbers in (found.added, found.changed):
            changed |= _texts(new, "images", "image_id", numbers)
        removed = _texts(old, "images", "image_id", found.removed)
    if _differs(old, new, "annotations"):
        found = compare(old.scan("annotations"), new.scan("annotations"), "annotation_id")
        for dataset, numbers in ((new, found.added), (new, found.changed), (old, found.removed)):
            changed |= _texts(dataset, "annotations", "image_id", numbers)
    if _differs(old, new, "findings"):
        found = compare(old.scan("findings"), new.scan("findings"), "id", ignore=["commit"])
        for dataset, numbers in ((new, found.added), (new, found.changed), (old, found.removed)):
            changed |= _texts(dataset, "findings", "image_id", numbers)
        before, after = (_copies(dataset) for dataset in (old, new))
        changed |= {each for each in before.keys() | after.keys() if before.get(each) != after.get(each)}
    changed |= _measured_anew(old, new) | _sliced_anew(old, new)
    return changed - removed, removed


def _write(
    target: Target, renderer: Renderer, ids: Sequence[str], taken: dict[Any, Document], so_far: Published
) -> Published:
    """Make the samples of some images anew; those that the App has made as they should be stay."""
    there = target.modified(ids)
    looked_at = {id_: document["last_modified_at"] for id_, document in taken.items()}
    seen = {id_: when for id_, (when, in_app) in there.items() if not in_app or looked_at.get(id_) == when}
    documents = [document for batch in renderer.documents(ids) for document in batch]
    new = [document for document in documents if document["_id"] not in there]
    known = [document for document in documents if document["_id"] in seen]
    right = [document for document in known if shows_already(taken.get(document["_id"]), document)]
    right_ids = {document["_id"] for document in right}
    target.insert(new)
    target.acknowledge(right, seen)
    changed = target.update((document for document in known if document["_id"] not in right_ids), seen)
    return replace(
        so_far,
        added=so_far.added + len(new),
        changed=so_far.changed + changed,
        waiting=so_far.waiting + len(documents) - len(new) - len(known),
    )


def _finish(target: Target, state: State, dataset: Dataset, shown: Dataset | None) -> None:
    """What is of the dataset as a whole: views, map, similarity, editor; then say that it is shown."""
    state = update_runs(target, state, dataset, shown)
    update_editor(target, state.layout, dataset)
    if shown is None:
        state = replace(state, views=shown_in_views(dataset))
    elif _differs(shown, dataset, "findings"):
        show_statuses(target, dataset)
    save_views(target, dataset)
    arrange(target.fiftyone, target.dataset, state.layout)
    target.write_state(shows(state, dataset))


def _kinds(dataset: Dataset) -> list[str]:
    there = set(dataset.table("findings", columns=["kind"])["kind"].to_pylist())
    return [kind for kind in KINDS if kind in there]


def _differs(old: Dataset, new: Dataset, table: str) -> bool:
    return old.commit.tables.get(table) != new.commit.tables.get(table)


def _copies(dataset: Dataset) -> dict[str, str | None]:
    marks = marks_of(from_table(dataset.table("findings")))
    return {image_id: each.copies for image_id, each in marks.items() if each.copies is not None}


def _measured_anew(old: Dataset, new: Dataset) -> set[str]:
    table = measures_table(new)
    if table is None or not _differs(old, new, table):
        return set()
    before: Iterable[Rows] = old.scan(table) if table in old.commit.tables else ()
    found = compare(before, new.scan(table), "id")
    return _texts(new, table, "id", np.sort(np.concatenate([found.added, found.changed])))


def _sliced_anew(old: Dataset, new: Dataset) -> set[str]:
    """Images that are in other slices than before."""
    if not _differs(old, new, MEMBERS):
        return set()
    before, after = (
        {name: set(each.image_ids.to_pylist()) for name, each in read_slices(d).items()} for d in (old, new)
    )
    changed: set[str] = set()
    for name in before.keys() | after.keys():
        changed |= before.get(name, set()) ^ after.get(name, set())
    return changed


def _texts(dataset: Dataset, table: str, column: str, numbers: Numbers) -> set[str]:
    """The values of a column in some rows."""
    if not len(numbers):
        return set()
    pieces = rows_at(dataset.scan(table, columns=[column]), np.sort(numbers))
    return {text for piece in pieces for text in piece[column].to_pylist()}
