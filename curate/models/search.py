"""`curate search`: the images, or annotated objects, of a dataset that are nearest to a text, an image or one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset import Dataset, Transaction, begin, open_dataset
from curate.dataset.ids import Hashes, from_ids, to_ids
from curate.dataset.tags import checked_tag, write_tags
from curate.errors import DatasetLocked, ImageError, UsageError
from curate.models.encoders.base import Encoder, Vectors
from curate.models.gallery import Gallery, gallery_items, stored_gallery, update_gallery
from curate.models.nearest import Nearest, nearest
from curate.models.passes import Progress
from curate.models.query import Query, encoded, item_like
from curate.models.spaces import Content, choose_encoder
from curate.names import GROUND_TRUTH
from curate.wording import counted


@dataclass(frozen=True)
class Match:
    """One result.

    Attributes:
        rank: From 1, the nearest first.
        score: Cosine to the query, in [-1, 1].
        image: The image's location, as imported.
        image_id: Its id.
        path: Its file; None where that was not found at import.
        annotation_id: Of the object that was found; None where images are searched. So are the next two.
        bbox: [x, y, width, height] in pixels.
        label: Its class.
    """

    rank: int
    score: float
    image: str
    image_id: str
    path: str | None
    annotation_id: str | None = None
    bbox: Sequence[float] | None = None
    label: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; of an image, without what only objects have."""
        left_out = ("annotation_id", "bbox", "label") if self.annotation_id is None else ()
        return {name: value for name, value in vars(self).items() if name not in left_out}


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        matches: Nearest first.
        summary: What was searched, and by which encoder, in one line.
        notes: What a person should know; one sentence each.
    """

    matches: list[Match]
    summary: str
    notes: list[str]


def search_dataset(
    name: str,
    query: Query,
    *,
    limit: int = 20,
    crops: bool = False,
    layer: str = GROUND_TRUTH,
    where: str | None = None,
    encoder: str | None = None,
    min_score: float = -1.0,
    tag: str | None = None,
    command: str,
    progress: Progress | None = None,
) -> SearchResult:
    """Find what is nearest to a query, after embedding what is not embedded yet.

    One commit if anything was embedded or tagged, else none. While another process writes, what is embedded already is
    searched.

    Args:
        name: The dataset.
        query: What is looked for.
        limit: How many results, at most.
        crops: Search the annotated boxes of a layer, each by itself, instead of images.
        layer: That layer.
        where: SQL condition on the images; None for all.
        encoder: Spec of the encoder; None for the one that the dataset remembers.
        min_score: Leave out lower cosines.
        tag: Put this tag on the images found, or on those that the objects found are on.
        command: The command line, for the history.
        progress: Told (done, total) while images are embedded.

    Raises:
        UsageError: The query is not one thing, or nothing that the dataset has; the encoder knows no texts; the condition
            cannot be understood; there is nothing to search.
        ImageError: The query's image cannot be read.
        InputError: Not one image of the dataset can be read.
        UnavailableError: The encoder's weights cannot be had.
        DatasetLocked: Another process is writing, and results were to be tagged.
    """
    query.check()
    if not -1 <= min_score <= 1:
        raise UsageError(f"{min_score:g} is no cosine", where="--min-score", remedy="a number from -1 to 1")
    put_on = None if tag is None else checked_tag(tag)
    content: Content = "crops" if crops else "images"
    try:
        with begin(name, command=command) as transaction:
            search = _prepare(transaction.base, query, encoder, content, layer, where)
            gallery = update_gallery(
                transaction, search.encoder, content, search.items, remember=encoder is None, progress=progress
            )
            result = _run(search, gallery, limit, min_score)
            return result if put_on is None else _tagged(transaction, result, put_on)
    except DatasetLocked:
        if put_on is not None:
            raise
        dataset = open_dataset(name)
        search = _prepare(dataset, query, encoder, content, layer, where)
        return _run(search, stored_gallery(dataset, search.encoder, content, search.items), limit, min_score)


@dataclass(frozen=True)
class _Search:
    """A query, and what it is compared with.

    Attributes:
        encoder: Of both.
        content: What is searched.
        items: The same, with what is asked for: columns of `curate.models.passes.ITEMS`.
        vector: The query's, of shape (dimensions,); None if it is one of the dataset's own.
        own: That one, as the one row of a table like `items`.
    """

    encoder: Encoder
    content: Content
    items: pa.Table
    vector: Vectors | None
    own: pa.Table | None


def _prepare(
    dataset: Dataset, query: Query, spec: str | None, content: Content, layer: str, where: str | None
) -> _Search:
    """Look at all that can be wrong with a query before anything is embedded for it."""
    encoder = choose_encoder(dataset, spec)
    vector = encoded(query, encoder)
    own = None if query.like is None else item_like(dataset, query.like, content)
    items = gallery_items(dataset, content, layer=layer, where=where)
    if own is not None and not pc.is_in(own["id"], items["id"].combine_chunks())[0].as_py():
        items = pa.concat_tables([items, own])
    return _Search(encoder, content, items, vector, own)


def _run(search: _Search, gallery: Gallery, limit: int, min_score: float) -> SearchResult:
    """Compare the query with all that has a vector, but for itself."""
    own = search.own
    vector = _own_vector(gallery, own) if own is not None else search.vector
    assert vector is not None
    if own is not None:
        gallery = gallery.without(from_ids(own["id"]))
    found = nearest(gallery.batches(), vector, limit, lowest=min_score)
    what = "images" if search.content == "images" else "objects"
    summary = f"{gallery.dataset.name}: {counted(found.searched, what)} searched by {search.encoder.name}"
    notes = gallery.notes(found.searched, what)
    return SearchResult(_matches(gallery.dataset, search.content, found), summary, notes)


def _own_vector(gallery: Gallery, own: pa.Table) -> Vectors:
    """The stored vector of one row."""
    own_id = own["id"][0].as_py()
    for left_out in gallery.left_out:
        if left_out.id == own_id:
            raise ImageError(
                left_out.reason, where=left_out.path or own_id, remedy="mend the file, or search by another"
            )
    vector = gallery.vector(own_id)
    if vector is None:
        raise UsageError(
            "it is not embedded yet", where=f"--like {own_id}", remedy="wait until the other process is done"
        )
    return vector


def _matches(dataset: Dataset, content: Content, found: Nearest) -> list[Match]:
    """What was found, with what is known of it."""
    boxes: dict[str, dict[str, Any]] = {}
    image_of = ids = to_ids(found.ids).to_pylist()
    if content == "crops":
        columns = ["annotation_id", "image_id", "bbox", "label"]
        boxes = _rows(dataset, "annotations", columns, found.ids)
        image_of = [boxes[each]["image_id"] for each in ids]
    images = _rows(dataset, "images", ["image_id", "location", "path"], from_ids(sorted({*image_of})))
    matches = []
    for rank, (own_id, image_id, score) in enumerate(zip(ids, image_of, found.cosines.tolist(), strict=True), start=1):
        image = images[image_id]
        match = Match(rank, score, image["location"], image_id, image["path"])
        if own_id in boxes:
            match = replace(match, annotation_id=own_id, bbox=boxes[own_id]["bbox"], label=boxes[own_id]["label"])
        matches.append(match)
    return matches


def _rows(dataset: Dataset, table: str, columns: Sequence[str], ids: Hashes) -> dict[str, dict[str, Any]]:
    """Some rows of a table by their id, the first of the columns."""
    wanted = to_ids(ids)
    rows = (batch.filter(pc.is_in(batch[columns[0]], wanted)) for batch in dataset.scan(table, columns=columns))
    return {row[columns[0]]: row for batch in rows for row in batch.to_pylist()}


def _tagged(transaction: Transaction, result: SearchResult, tag: str) -> SearchResult:
    """Put a tag on what was found, and say so."""
    images = from_ids(sorted({match.image_id for match in result.matches}))
    changes = write_tags(transaction, images, pa.array([tag] * len(images), pa.string()))
    had = f", {len(images) - changes.images:,} had it" if changes.images < len(images) else ""
    return replace(result, notes=[*result.notes, f"{counted(changes.images, 'images')} tagged '{tag}'{had}"])
