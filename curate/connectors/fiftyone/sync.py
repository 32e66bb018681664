"""Both ways between a dataset and the App: what was done there comes here, then what is new here goes there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from curate.connectors.fiftyone.edits import read_edits
from curate.connectors.fiftyone.labels import Document
from curate.connectors.fiftyone.patches import move_decisions
from curate.connectors.fiftyone.publish import Progress, Published, is_of, publish_all, publish_changes
from curate.connectors.fiftyone.samples import Renderer, stamp
from curate.connectors.fiftyone.take import take_edits
from curate.connectors.fiftyone.target import State, Target, find_target
from curate.connectors.fiftyone.views import tidy_views
from curate.dataset import open_dataset
from curate.errors import UsageError
from curate.formats.losses import LossReport

_MARGIN: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Attributes:
        taken: What the commit changed that took the App's edits over; empty if there were none.
        edited: How many samples were changed in the App.
        published: What was brought to the App.
        commit: Number of the dataset's newest commit.
        losses: What could not be carried, either way.
    """

    taken: dict[str, int]
    edited: int
    published: Published
    commit: int
    losses: LossReport = field(default_factory=LossReport)

    def __bool__(self) -> bool:
        return bool(self.taken or self.published)


@dataclass
class Link:
    """A dataset and the FiftyOne dataset that shows it, for as long as the database is connected.

    Attributes:
        fiftyone: The package.
        name: The dataset.
        command: The command line, for the history.
        target: The FiftyOne dataset; None until it is made.
    """

    fiftyone: Any
    name: str
    command: str
    target: Target | None = None
    _looked_at: datetime | None = None
    _count: int | None = None
    """Of samples after the last sync: another one means that some were deleted."""

    def sync(self, *, anew: bool = False, progress: Progress | None = None) -> Synced:
        """Bring both sides up to date: one commit for what was done in the App, then its samples.

        Args:
            anew: Make the FiftyOne dataset anew, after its edits were taken over.
            progress: Told (done, total) of the samples.

        Raises:
            UsageError: FiftyOne has another dataset of this name.
            DatasetLocked: There are edits to take over, and another process is writing to the dataset.
        """
        return self._sync(LossReport(), anew=anew, progress=progress)

    def _sync(self, losses: LossReport, *, anew: bool = False, progress: Progress | None = None) -> Synced:
        taken, documents = self._take(losses)
        dataset = open_dataset(self.name)
        state = self._state()
        if self.target is None or state is None or anew or not is_of(state, dataset):
            self.target, published = publish_all(self.fiftyone, dataset, losses, progress)
        else:
            edited = {document["_id"]: document for document in documents}
            published = publish_changes(self.target, state, dataset, losses, taken=edited, progress=progress)
        self._count = self.target.count()
        return Synced(taken, len(documents), published, dataset.commit.number, losses)

    def open(self, *, anew: bool = False, progress: Progress | None = None) -> Synced:
        """Sync before anybody looks; arguments and errors as for `sync`."""
        synced = self.sync(anew=anew, progress=progress)
        state = self._state()
        if self.target is not None and state is not None:
            tidy_views(self.target, state, open_dataset(self.name))
        return synced

    def pull(self) -> Synced:
        """Take what was done in the App over, and mark it as taken.

        Raises:
            UsageError: The dataset has never been in the App.
        """
        if self._state() is None:
            raise UsageError(
                "the dataset has not been in the App, or not completely",
                where=self.name,
                remedy=f"'curate app --dataset {self.name}' opens it",
            )
        return self.sync()

    def poll(self) -> Synced | None:
        """Sync if anything has changed on either side since the last time; None if nothing has."""
        state = self._state()
        if self.target is not None and state is not None and state.commit == open_dataset(self.name).commit.number:
            started, losses = stamp(), LossReport()
            changed = self._changed(self.target, state, losses) or self.target.count() != self._count
            if changed or losses.losses:
                return self._sync(losses)
            self._looked_at = started - _MARGIN
            return None
        return self.sync()

    def _take(self, losses: LossReport) -> tuple[dict[str, int], list[Document]]:
        """Take the App's edits over; returns what that changed, and the samples that were edited."""
        started = stamp()
        state = self._state()
        if self.target is None or state is None or not is_of(state, open_dataset(self.name)):
            return {}, []
        documents = self._changed(self.target, state, losses)
        edits = read_edits(documents, self._renderers(self.target, state), losses)
        taken = take_edits(self.name, edits, command=self.command, losses=losses) if edits else {}
        self._looked_at = started - _MARGIN
        return taken, documents

    def _changed(self, target: Target, state: State, losses: LossReport) -> list[Document]:
        """Samples that were changed in the App since it was last looked at."""
        move_decisions(target, state.layout, self._looked_at, losses)
        return target.changed(self._looked_at)

    def _renderers(self, target: Target, state: State) -> Callable[[int], Renderer]:
        def of(commit: int) -> Renderer:
            return Renderer(open_dataset(self.name, commit=commit), state.layout, target.make_id, LossReport())

        return of

    def _state(self) -> State | None:
        """What the App shows; None where that is nothing, or not complete."""
        if self.target is None:
            self.target = find_target(self.fiftyone, open_dataset(self.name))
        state = self.target.state() if self.target is not None else None
        return state if state is not None and state.commit > 0 else None
