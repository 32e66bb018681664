"""Tags of images: words that a user, or a command for them, puts on images to find them again by ``array_has(tags, 'night')``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import Hashes, from_ids, positions
from curate.dataset.store import Transaction
from curate.errors import UsageError


@dataclass(frozen=True)
class TagChanges:
    """What tagging images came to.

    Attributes:
        images: How many images have other tags than before.
        added: How many images each tag was put on.
        others: On how many of the images each other tag of the group stood; with `replace` it stands there no longer.
    """

    images: int = 0
    added: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)


def checked_tag(tag: str) -> str:
    """A tag without the spaces around it.

    Raises:
        UsageError: Nothing is left of it, or it is not text.
    """
    if not tag.strip():
        raise UsageError("an empty text is no tag", remedy="name the tag, e.g. night")
    try:
        tag.encode()
    except UnicodeEncodeError:  # bytes of a command line in another encoding
        raise UsageError(f"the tag {tag!r} is not UTF-8", remedy="name the tag, e.g. night") from None
    return tag.strip()


def write_tags(
    transaction: Transaction,
    image_ids: Hashes,
    tags: pa.StringArray,
    *,
    group: Collection[str] = (),
    replace: bool = False,
    dry_run: bool = False,
) -> TagChanges:
    """Put a tag on each of n images, behind those it has.

    Args:
        transaction: The commit being made; nothing is written where nothing changes.
        image_ids: Shape (n,), each once.
        tags: n tags; null for an image that gets none.
        group: Tags of which an image should have one at most.
        replace: Take away the tags of the group that an image does not get now.
        dry_run: Write nothing, only tell what would change.
    """
    order = np.argsort(image_ids)
    sorted_ids, sorted_tags = image_ids[order], tags.take(pa.array(order))
    total, changed = TagChanges(), []
    for batch in transaction.snapshot().scan("images"):
        place = positions(from_ids(batch["image_id"]), sorted_ids)
        rows = pa.Table.from_batches([batch]).filter(pa.array(place >= 0))
        given = sorted_tags.take(pa.array(place[place >= 0]))
        after, differs, changes = _retagged(rows["tags"].combine_chunks(), given, group, replace=replace)
        total = TagChanges(total.images + changes.images, total.added + changes.added, total.others + changes.others)
        column = rows.schema.get_field_index("tags")
        changed.append(rows.set_column(column, rows.schema.field(column), after).filter(differs))
    if total.images and not dry_run:
        transaction.upsert("images", pa.concat_tables(changed), "image_id")
        transaction.count("tags added", total.added.total())
        transaction.count("tags removed", total.others.total() if replace else 0)
    return total


def _retagged(
    tags: pa.ListArray, given: pa.StringArray, group: Collection[str], *, replace: bool
) -> tuple[pa.ListArray, pa.BooleanArray, TagChanges]:
    """The tags of n images after each was given one, and whether they differ from those before."""
    count = len(tags)
    flat, image = tags.flatten(), pc.list_parent_indices(tags).to_numpy().astype(np.int64)
    same = pc.fill_null(pc.equal(flat, given.take(pa.array(image))), False).to_numpy(zero_copy_only=False)
    other = pc.is_in(flat, pa.array([*group], pa.string())).to_numpy(zero_copy_only=False) & ~same
    has = np.bincount(image[same], minlength=count) > 0
    new = np.flatnonzero(given.is_valid().to_numpy(zero_copy_only=False) & ~has)
    kept = ~other if replace else np.ones(len(flat), dtype=bool)

    owner = np.concatenate([image[kept], new])
    values = pa.concat_arrays([flat.filter(pa.array(kept)), given.take(pa.array(new))])
    lengths = np.bincount(owner, minlength=count)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ordered = values.take(pa.array(np.argsort(owner, kind="stable")))
    after = pa.ListArray.from_arrays(pa.array(offsets), ordered, mask=pa.array(lengths == 0))

    differs = np.zeros(count, dtype=bool)
    differs[new] = True
    differs[image[~kept]] = True
    changes = TagChanges(
        int(differs.sum()),
        Counter(given.take(pa.array(new)).to_pylist()),
        Counter(flat.filter(pa.array(other)).to_pylist()),
    )
    return after, pa.array(differs), changes
