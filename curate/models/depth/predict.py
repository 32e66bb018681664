"""`curate predict` with a model that estimates depth: maps in place of a layer; one commit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from curate.dataset.store import begin, open_dataset
from curate.errors import UsageError
from curate.models.depth.maps import MapsUpdate, update_maps
from curate.models.passes import Progress
from curate.models.predictors.base import Predictor
from curate.wording import counted


@dataclass(frozen=True)
class DepthResult:
    """What predicting depth did.

    Attributes:
        update: What became of the maps.
        commit: Number of the dataset's newest commit afterwards.
        notes: What a person should know; one sentence each.
    """

    update: MapsUpdate
    commit: int
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "table": self.update.table,
            **{key: value for key, value in asdict(self.update).items() if key != "table"},
            "left_out": [asdict(each) for each in self.update.left_out],
            "commit": self.commit,
        }

    def describe(self) -> str:
        """A sentence for a person."""
        update = self.update
        return (
            f"{update.table}: {counted(update.predicted, 'depth maps')} made with {update.model}; "
            f"{update.reused:,} were there already"
        )


def predict_depth(
    name: str,
    predictor: Predictor,
    *,
    where: str | None = None,
    replace: bool = False,
    batch_size: int | None = None,
    refused: tuple[str, ...] = (),
    command: str,
    progress: Progress | None = None,
) -> DepthResult:
    """Make the maps of depth that a dataset's images lack; one commit, or none if nothing is new.

    Args:
        name: The dataset.
        predictor: One that estimates depth.
        where: As for `curate.models.depth.maps.update_maps`.
        replace: The same.
        batch_size: The same.
        refused: Options that were given and mean nothing for depths: with any, nothing is done.
        command: The command line, for the history.
        progress: Told (done, to do).

    Raises:
        UsageError: There are refused options; or as `update_maps` raises it.
        InputError: As `update_maps` raises it.
    """
    if refused:
        raise UsageError(
            f"{refused[0]} has no meaning for a model that estimates depth",
            where=predictor.name,
            remedy=f"leave out {' and '.join(refused)}",
        )
    with begin(name, command=command) as transaction:
        update = update_maps(
            transaction, predictor, where=where, replace=replace, batch_size=batch_size, progress=progress
        )
    notes = [*getattr(predictor, "notes", ()), *_notes(update)]
    return DepthResult(update, open_dataset(name).commit.number, notes)


def _notes(update: MapsUpdate) -> list[str]:
    notes = []
    if update.predicted > update.metric:
        notes.append(
            "depths are relative: larger is farther within one image, and images cannot be compared with one another"
        )
    if update.empty:
        notes.append(f"{counted(update.empty, 'depth maps')} know no depth at all")
    if update.flat:
        notes.append(f"{counted(update.flat, 'depth maps')} say the same depth everywhere")
    if update.left_out:
        notes.append(f"{counted(len(update.left_out), 'images')} cannot be read; the first: {update.left_out[0]}")
    return notes
