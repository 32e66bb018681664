"""`curate tag`: tags on images by which of several texts describes each best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset import begin
from curate.dataset.ids import Hashes, from_ids, positions
from curate.dataset.tags import TagChanges, checked_tag, write_tags
from curate.errors import UsageError
from curate.models.encoders.base import Vectors, require_text
from curate.models.gallery import Gallery, gallery_items, update_gallery
from curate.models.nearest import Float64s
from curate.models.passes import Progress
from curate.models.spaces import choose_encoder
from curate.models.zero_shot import Prompts, probabilities, prompt_vectors
from curate.wording import counted


@dataclass(frozen=True)
class TagCount:
    """What became of one tag.

    Attributes:
        tag: The tag.
        images: How many of the images looked at it fits.
        added: How many of them it is new on.
        removed: How many had it and have it no longer.
    """

    tag: str
    images: int
    added: int
    removed: int


@dataclass(frozen=True)
class TagResult:
    """What tagging came to.

    Attributes:
        tags: In the order of the prompts.
        images: One row for each image, by location: image (its location), image_id, tag (null where none is probable
            enough), best (the most probable), probability (of the best).
        summary: What was looked at, and by which encoder, in one line.
        notes: What a person should know; one sentence each.
    """

    tags: list[TagCount]
    images: pa.Table
    summary: str
    notes: list[str]

    def json_lines(self) -> Iterator[dict[str, Any]]:
        """A line for each image, then one for each tag: `kind` tells which."""
        for batch in self.images.to_batches(max_chunksize=1024):
            yield from ({"kind": "image", **row} for row in batch.to_pylist())
        yield from ({"kind": "table", "table": "tags", **asdict(count)} for count in self.tags)


def tag_dataset(
    name: str,
    prompts: Sequence[Prompts],
    *,
    threshold: float = 0.5,
    where: str | None = None,
    encoder: str | None = None,
    replace: bool = False,
    dry_run: bool = False,
    command: str,
    progress: Progress | None = None,
) -> TagResult:
    """Give each image the tag whose prompts describe it best, if that is probable enough; at most one of them each.

    Tags that an image has already stay. One commit, or none if nothing is new.

    Args:
        name: The dataset.
        prompts: The tags, at least two, and the texts that describe each.
        threshold: Probability from which on the best is given.
        where: SQL condition on the images; None for all.
        encoder: Spec of the encoder; None for the one that the dataset remembers.
        replace: Take away those of the tags that hold no longer.
        dry_run: Put no tags on, only tell which.
        command: The command line, for the history.
        progress: Told (done, total) while images are embedded.

    Raises:
        UsageError: The encoder knows no texts, the threshold is no probability, the condition cannot be understood, or there
            are no images.
        InputError: Not one image can be read.
        UnavailableError: The encoder's weights cannot be had.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"{threshold:g} is no probability", where="--threshold", remedy="a number from 0 to 1")
    names = [checked_tag(each.name) for each in prompts]
    with begin(name, command=command) as transaction:
        reader = require_text(choose_encoder(transaction.base, encoder))
        classes = prompt_vectors(reader, prompts)
        items = gallery_items(transaction.base, "images", where=where)
        gallery = update_gallery(transaction, reader, "images", items, remember=encoder is None, progress=progress)
        judged = _judge(gallery, classes, reader.logit_scale)
        best = pa.array(names).take(pa.array(judged.best))
        tags = pc.if_else(pa.array(judged.probability >= threshold), best, pa.scalar(None, pa.string()))
        changes = write_tags(transaction, judged.ids, tags, group=names, replace=replace, dry_run=dry_run)
    given = {row["values"]: row["counts"] for row in pc.value_counts(tags.drop_null()).to_pylist()}
    return TagResult(
        [TagCount(n, given.get(n, 0), changes.added[n], changes.others[n] if replace else 0) for n in names],
        _images(gallery, judged, best, tags),
        f"{name}: {counted(len(judged.ids), 'images')} looked at by {reader.name}",
        [*gallery.notes(len(judged.ids), "images"), *_notes(changes, tags, threshold, replace=replace)],
    )


@dataclass(frozen=True)
class _Judged:
    """The most probable class of n images.

    Attributes:
        ids: Of the images, ascending; shape (n,).
        best: Number of the class, the first of equal ones; int64 array of shape (n,).
        probability: Its probability, float64 array of shape (n,).
    """

    ids: Hashes
    best: npt.NDArray[np.int64]
    probability: Float64s


def _judge(gallery: Gallery, classes: Vectors, logit_scale: float) -> _Judged:
    """Judge the images batch by batch."""
    ids, best, probability = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for batch_ids, vectors in gallery.batches():
        found = probabilities(vectors, classes, logit_scale)
        ids.append(batch_ids)
        best.append(found.argmax(axis=1))
        probability.append(found.max(axis=1))
    all_ids = np.concatenate(ids)
    order = np.argsort(all_ids)
    return _Judged(all_ids[order], np.concatenate(best)[order], np.concatenate(probability)[order])


def _images(gallery: Gallery, judged: _Judged, best: pa.StringArray, tags: pa.StringArray) -> pa.Table:
    """The images as `TagResult` has them."""
    known = gallery.dataset.table("images", columns=["location", "image_id"])
    place = positions(from_ids(known["image_id"]), judged.ids)
    rows = pa.array(place[place >= 0])
    known = known.filter(pa.array(place >= 0))
    columns = {
        "image": known["location"],
        "image_id": known["image_id"],
        "tag": tags.take(rows),
        "best": best.take(rows),
        "probability": pa.array(judged.probability).take(rows),
    }
    return pa.table(columns).sort_by("image")


def _notes(changes: TagChanges, tags: pa.StringArray, threshold: float, *, replace: bool) -> list[str]:
    """What was not given a tag, and what has one that holds no longer."""
    notes = []
    if tags.null_count:
        notes.append(f"{counted(tags.null_count, 'images')}: no tag is at least {threshold:g} probable")
    if changes.others and not replace:
        count = changes.others.total()
        notes.append(
            f"{counted(count, 'tags')} from before that hold no longer are still there; --replace takes them away"
        )
    return notes
