"""`curate select`: loads a dataset's images as arrays, asks a strategy, and keeps what it chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from curate.checks.base import left_out_note
from curate.checks.labels import Labels, load_predictions
from curate.dataset import Transaction, begin
from curate.errors import UsageError
from curate.loop.candidates import Candidates, describe, load_candidates, parse_budget, targets_of
from curate.loop.choose import Pool, choose, largest
from curate.loop.copies import known_copies
from curate.loop.doubt import classifier_disagreement, classifier_doubt
from curate.loop.layer_doubt import layer_disagreement, layer_doubt
from curate.loop.scores import Scores
from curate.loop.selection import Selected, write_selection
from curate.loop.strategies.ranked import IntArray, Ranked
from curate.loop.strategies.registry import MIX, STRATEGIES, Strategy
from curate.loop.suspects import failing_slices, open_mistakes
from curate.loop.vectors import principal_vectors
from curate.models.passes import Progress, image_items
from curate.models.spaces import choose_encoder, update_space
from curate.wording import counted

_MOST: Final = 0.5
"""A layer of predictions that has seen so much of the candidates is asked for its doubt, without being named."""


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        selected: Best first.
        locations: Of their images, as imported.
        summary: What chose them, and from what, in one line.
        notes: What a person should know; one sentence each.
        commit: Number of the commit that holds it.
    """

    selected: list[Selected]
    locations: list[str]
    summary: str
    notes: list[str]
    commit: int

    def __len__(self) -> int:
        return len(self.selected)


def select_images(
    name: str,
    *,
    budget: int | str,
    strategy: str = MIX,
    where: str | None = None,
    layer: str | None = None,
    encoder: str | None = None,
    held_out: str | None = None,
    seed: int = 0,
    command: str,
    progress: Progress | None = None,
) -> Selection:
    """Choose images to be labelled next, and keep the choice in the dataset: one commit.

    Args:
        name: The dataset.
        budget: How many images: a number, or a part of the candidates: '5%'.
        strategy: Name of one of `STRATEGIES`.
        where: SQL condition on the images; None for all without labels.
        layer: Layer of predictions whose doubt counts; None to find one, or to make do with a light classifier.
        encoder: Spec of the encoder; None for the one that the dataset remembers.
        held_out: A split of which nothing may be chosen; None for none.
        seed: Of everything random.
        command: The command line, for the history.
        progress: Told (done, total) while images are embedded.

    Raises:
        NothingLeft: Every image that may be chosen has labels already.
        UsageError: There is no such strategy or layer, the budget is none, no image is chosen, or there are no findings that
            the strategy goes by.
        UnavailableError: The encoder's weights cannot be had.
    """
    known = STRATEGIES.get(strategy)
    if known is None:
        raise UsageError(f"there is no strategy '{strategy}'", remedy=f"one of: {', '.join(STRATEGIES)}")
    notes: list[str] = []
    with begin(name, command=command) as transaction:
        suspected = known.evidence == "suspicion"
        candidates = load_candidates(transaction, where, suspected=suspected, notes=notes, held_out=held_out)
        count = parse_budget(str(budget), int(candidates.may.sum()))
        images = _load(transaction, candidates, encoder, seed, progress, notes)
        scores = _scores(images, known, layer, seed)
        if known.why is None and scores is None:
            known = STRATEGIES[MIX]
            notes.append("nothing says yet what is uncertain, with neither labels nor predictions: chosen for coverage")
        chosen = choose(known, images.pool, None if scores is None else scores.values, count, seed=seed)
        notes += _shortfalls(known, images.pool, count, len(chosen.rows))
        selected = _described(images, known, strategy, scores, chosen)
        write_selection(transaction, selected)
        number = transaction.number
    source = f", {scores.source}" if scores is not None else ""
    summary = f"{name}: {counted(len(selected), 'images')} chosen ({strategy}{source}); {describe(candidates)}"
    locations = images.labels.images["location"].take(pa.array(images.rows[chosen.rows])).to_pylist()
    return Selection(selected, locations, summary, notes, number)


@dataclass(frozen=True)
class _Images:
    """The n images that may be chosen or are labelled, as arrays.

    Attributes:
        transaction: The dataset.
        labels: The ground truth of all its images.
        rows: Places of the n images in it, ascending.
        pool: Of the n images.
        notes: What a person should know is added here.
    """

    transaction: Transaction
    labels: Labels
    rows: IntArray
    pool: Pool
    notes: list[str]

    @property
    def ids(self) -> pa.ChunkedArray:
        """Ids of the n images."""
        return self.labels.images["image_id"].take(pa.array(self.rows))


def _load(
    transaction: Transaction,
    candidates: Candidates,
    spec: str | None,
    seed: int,
    progress: Progress | None,
    notes: list[str],
) -> _Images:
    """Bring the images' vectors up to date and read them."""
    encoder = choose_encoder(transaction.base, spec)
    rows = np.flatnonzero(candidates.may | candidates.labelled)
    images = candidates.labels.images.take(pa.array(rows))
    update = update_space(transaction, encoder, "images", image_items(images), progress=progress)
    notes += left_out_note(update.left_out, len(rows), "images cannot be read, and cannot be chosen")
    vectors, there = principal_vectors(transaction, update.space, images["image_id"], seed=seed)
    rows = rows[there]
    if not candidates.may[rows].any():
        raise UsageError(
            "not one of the images to choose from can be read",
            where=transaction.base.name,
            remedy="import again with --images FOLDER",
        )
    copies = known_copies(transaction, candidates.labels.images["image_id"])[rows]
    pool = Pool(vectors, candidates.may[rows], candidates.labelled[rows], copies)
    return _Images(transaction, candidates.labels, rows, pool, notes)


def _scores(images: _Images, strategy: Strategy, layer: str | None, seed: int) -> Scores | None:
    """What a strategy goes by; None where it needs nothing, or there is nothing yet."""
    vectors = images.pool.vectors
    match strategy.evidence:
        case "none":
            return None
        case "suspicion":
            return open_mistakes(images.transaction, images.ids)
        case "slices":
            return failing_slices(images.transaction, images.ids, vectors, seed=seed)
        case "disagreement":
            models = list(_models(images, None).values())
            if len(models) > 1:
                return _of_rows(layer_disagreement(models), images.rows)
            targets = targets_of(images.labels, images.rows)
            classes = images.labels.classes
            return classifier_disagreement(vectors, targets, classes, seed=seed) if targets.enough else None
        case measure:
            models = list(_models(images, layer).values())
            if models:
                return _of_rows(layer_doubt(models[0], measure), images.rows)
            targets = targets_of(images.labels, images.rows)
            classes = images.labels.classes
            return classifier_doubt(vectors, targets, classes, measure, seed=seed) if targets.enough else None


def _models(images: _Images, layer: str | None) -> Mapping[str, Labels]:
    """The layer of predictions that was asked for, else those that have seen most of the candidates, the widest first."""
    named = None if layer is None else [layer]
    found = load_predictions(images.transaction.base, images.labels, named, images.notes)
    may = images.rows[images.pool.may]
    seen = {name: float(np.isin(may, model.covered_by(model)).mean()) for name, model in found.items()}
    kept = [name for name in sorted(found, key=lambda name: (-seen[name], name)) if layer or seen[name] >= _MOST]
    return {name: found[name] for name in kept}


def _of_rows(scores: Scores, rows: IntArray) -> Scores:
    """Scores of all images as those of the ones at hand."""
    return Scores(scores.values[rows], lambda row: scores.why(int(rows[row])), scores.source)


def _shortfalls(strategy: Strategy, pool: Pool, wanted: int, chosen: int) -> list[str]:
    """What to say where less was chosen, or looked at, than might be thought."""
    notes = []
    if chosen < wanted:
        notes.append(f"{chosen:,} of {wanted:,} could be chosen: the others are copies, or have no score")
    if strategy.whole and pool.may.sum() > largest(wanted):
        notes.append(f"of {int(pool.may.sum()):,} candidates {largest(wanted):,} were looked at")
    return notes


def _described(images: _Images, strategy: Strategy, name: str, scores: Scores | None, chosen: Ranked) -> list[Selected]:
    """What was chosen, with the reasons in words."""
    ids = images.ids.take(pa.array(chosen.rows)).to_pylist()
    selected = []
    for rank, (row, value) in enumerate(zip(chosen.rows.tolist(), chosen.value.tolist(), strict=True)):
        said = [strategy.why(value)] if strategy.why is not None else []
        if scores is not None and not np.isnan(scores.values[row]):
            said.append(scores.why(row))
        selected.append(Selected(ids[rank], rank, 1 - rank / len(ids), name, "; ".join(said)))
    return selected
