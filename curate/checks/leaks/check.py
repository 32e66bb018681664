"""`curate leaks`: findings from links across splits, and a split without them where that is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.checks.base import Check, Judgement, Settings, judged_again, left_out_note
from curate.checks.duplicates.dataset import IMAGE_COLUMNS, dataset_pairs
from curate.checks.duplicates.pairs import NEAR, SAME_BYTES, SAME_PIXELS, SAME_SOURCE, Pairs
from curate.checks.findings import Finding, Related
from curate.checks.leaks.links import CHAINED, MOST_MATES, NOTHING, Links, links_across, units_of
from curate.checks.leaks.load import Images, IntArray, load_images
from curate.checks.leaks.resplit import suggest_split
from curate.checks.leaks.splits import DEFAULT_RATIOS, listed
from curate.dataset import Transaction
from curate.errors import UsageError
from curate.wording import counted

_KINDS: Final = {
    SAME_BYTES: "the same file as",
    SAME_PIXELS: "the same pixels as",
    NEAR: "a near-duplicate of",
    CHAINED: "a copy of a copy of",
    SAME_SOURCE: "from the same source as",
}


def judge(transaction: Transaction, settings: Settings) -> Judgement:
    """Find images that are copies of, or come from the same source as, images in another split.

    Args:
        transaction: The dataset.
        settings: Options `resplit` suggests a split that keeps such images together and writes it, unless `dry_run` says
            to show it only; `ratios` gives each split's share of the images, None to keep sizes and classes as they are.

    Raises:
        UsageError: No image is chosen, or a split is not among the ratios.
    """
    images = load_images(transaction, settings.layer, settings.where)
    notes: list[str] = []
    pairs = _verified(transaction, images, settings, notes)
    links = links_across(pairs, images.split, images.source, images.order)
    summary = _summary(transaction.base.name, images, links)
    tables: dict[str, list[dict[str, Any]]] = {}
    if settings.options.get("resplit"):
        before, images = images, _resplit(images, pairs, settings.options.get("ratios"), notes)
        tables = _tables(before, images)
        left = links_across(pairs, images.split, images.source, images.order)
        moved = counted(_moved(before, images).size, "images")
        summary += f"; the suggested split moves {moved} and leaves {counted(len(left), 'pairs')}"
        if settings.options.get("dry_run"):
            images = before
        else:
            _write(transaction, before, images)
            links = left
    _note_limits(images, units_of(pairs, images.source), notes)
    return Judgement(
        [f for f in _findings(images, pairs, links) if f.score >= settings.min_score],
        summary,
        notes,
        judged=judged_again(transaction, images.ids, settings.where),
        tables=tables,
    )


CHECK: Final = Check("leaks", judge, ("leak",))


def _verified(transaction: Transaction, images: Images, settings: Settings, notes: list[str]) -> Pairs:
    """Pairs of the images that were compared; sources are known from the images' groups."""
    pairs, left_out = dataset_pairs(
        transaction, images.table.select(IMAGE_COLUMNS), encoder=settings.encoder, progress=settings.progress
    )
    unread = "images cannot be read, and copies of them are found by their bytes only"
    notes += left_out_note(left_out, len(images), unread)
    return pairs.take(pairs.kind != SAME_SOURCE)


def _findings(images: Images, pairs: Pairs, links: Links) -> list[Finding]:
    """One for each image that has a copy in a split that comes before its own."""
    image = np.concatenate([links.first, links.second])
    other = np.concatenate([links.second, links.first])
    link = np.tile(np.arange(len(links)), 2)
    order = np.lexsort((other, -links.score[link], image))
    image, other, link = image[order], other[order], link[order]
    units = units_of(pairs, images.source)
    home = np.full(len(images), len(images.splits), np.int64)
    there = images.split >= 0
    np.minimum.at(home, units[there], images.split[there])
    bounds = np.append(np.flatnonzero(np.diff(image, prepend=-1)), len(image))
    findings = []
    for start, end in itertools.pairwise(bounds.tolist()):
        row = int(image[start])
        if (images.split[other[start:end]] < images.split[row]).any():
            target = images.splits[home[units[row]]]
            findings.append(_finding(images, pairs, links, row, other[start:end], link[start:end], target))
    return findings


def _finding(
    images: Images, pairs: Pairs, links: Links, image: int, others: IntArray, rows: IntArray, target: str
) -> Finding:
    """The finding on one image; `rows` are its links to `others`, the surest first."""
    splits = images.split[others]
    best = int((splits < images.split[image]).argmax())
    own, theirs = images.splits[images.split[image]], images.splits[splits[best]]
    link, copies = int(rows[best]), int((links.kind[rows] != SAME_SOURCE).sum())
    mates = len(others) - 1
    more = f", and so {'is 1' if mates == 1 else f'are {mates:,}'} more" if mates else ""
    counts = {name: int((splits == k).sum()) for k, name in enumerate(images.splits) if (splits == k).any()}
    evidence: dict[str, Any] = {
        "why": f"in {own}, but {_KINDS[int(links.kind[link])]} {images.locations[others[best]]} in {theirs}{more}",
        "splits": counts,
        "copies": copies,
        "same_source": len(others) - copies,
        "remedy": f"move it to {target}, or take these out of {listed(list(counts))}; --resplit suggests it for all",
    }
    if links.pair[link] != NOTHING:
        evidence["transform"] = _transform(pairs, int(links.pair[link]))
    return Finding(
        kind="leak",
        score=float(links.score[link]),
        image=images.locations[image],
        image_id=images.ids[image],
        check=CHECK.name,
        given=own,
        suggested=target,
        related=[
            Related(images.locations[row], images.ids[row], None, float(links.score[link]))
            for row, link in zip(others.tolist(), rows.tolist(), strict=True)
        ],
        evidence=evidence,
    )


def _transform(pairs: Pairs, row: int) -> dict[str, Any]:
    """How the later of two compared images shows the other: JSON-ready."""
    turn = pairs.matrix[row, :, :2]
    return {
        "mirrored": bool(pairs.mirrored[row]),
        "scale": round(float(np.sqrt(abs(np.linalg.det(turn)))), 3),
        "degrees": round(float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))), 1),
        "overlap": round(float(pairs.overlap[row]), 3),
        "correlation": round(float(pairs.correlation[row]), 3),
    }


def _resplit(images: Images, pairs: Pairs, ratios: Mapping[str, float] | None, notes: list[str]) -> Images:
    """The images as the suggested split has them."""
    if ratios is None and not (images.split >= 0).any():
        ratios = DEFAULT_RATIOS
        notes.append("no image has a split: they are divided " + ", ".join(f"{k} {v:g}" for k, v in ratios.items()))
    unnamed = [name for name in images.splits if ratios is not None and name not in ratios]
    if unnamed:
        raise UsageError(
            f"the set has a split '{unnamed[0]}' that is given no share",
            where="--ratios",
            remedy=f"name {listed(images.splits)}; '{unnamed[0]}=0' empties it",
        )
    images = images.with_splits(ratios or {})
    shares = None if ratios is None else [ratios.get(name, 0.0) for name in images.splits]
    units = units_of(pairs, images.source)
    return replace(images, split=suggest_split(images.split, units, images.content, len(images.splits), shares))


def _write(transaction: Transaction, before: Images, after: Images) -> None:
    """Put the images that moved into their new splits."""
    rows = _moved(before, after)
    if not len(rows):
        return
    table = before.table.take(pa.array(rows))
    names = pa.array([after.splits[k] if k >= 0 else None for k in after.split[rows]], pa.string())
    place = table.column_names.index("split")
    transaction.upsert("images", table.set_column(place, table.schema.field("split"), names), "image_id")
    transaction.count("images moved", len(rows))


def _moved(before: Images, after: Images) -> IntArray:
    return np.flatnonzero(before.with_splits(dict.fromkeys(after.splits, 0.0)).split != after.split)


def _tables(before: Images, after: Images) -> dict[str, list[dict[str, Any]]]:
    """Sizes, classes and moves, before and after."""
    before = before.with_splits(dict.fromkeys(after.splits, 0.0))
    old, new = before.split, after.split
    sizes = [
        {
            "split": name,
            "before": int((old == k).sum()),
            "after": int((new == k).sum()),
            "moved_in": int(((new == k) & (old != k)).sum()),
            "moved_out": int(((old == k) & (new != k)).sum()),
        }
        for k, name in enumerate(after.splits)
    ]
    per_class = {
        f"{name} {when}": np.asarray(after.content[np.flatnonzero(split == k)].sum(axis=0)).astype(int).tolist()
        for k, name in enumerate(after.splits)
        for when, split in (("before", old), ("after", new))
    }
    classes = [
        {"images of class": name, **{column: counts[row] for column, counts in per_class.items()}}
        for row, name in enumerate(after.classes)
    ]
    names = [*after.splits, None]
    moves = [
        {"image": after.locations[row], "from": names[old[row]], "to": names[new[row]]}
        for row in sorted(_moved(before, after).tolist(), key=after.locations.__getitem__)
    ]
    return {"Suggested split": sizes, "Class balance": classes, "Moves": moves}


def _summary(name: str, images: Images, links: Links) -> str:
    sizes = ", ".join(f"{split} {int((images.split == k).sum()):,}" for k, split in enumerate(images.splits))
    source = int((links.kind == SAME_SOURCE).sum())
    return (
        f"{name}: {counted(len(images), 'images')} ({sizes or 'no split'}); in different splits: "
        f"{counted(len(links) - source, 'pairs')} of copies, {counted(source, 'pairs')} of one source"
    )


def _note_limits(images: Images, units: IntArray, notes: list[str]) -> None:
    """Say which images cannot leak, and of which not all pairs are listed."""
    none = int((images.split < 0).sum())
    if none:
        notes.append(f"{none:,} of {len(images):,} images are in no split, and leak nowhere")
    inside = images.split >= 0
    keys, counts = np.unique(np.stack([units[inside], images.split[inside]]), axis=1, return_counts=True)
    splits_of = np.bincount(keys[0]) if keys.size else np.zeros(0, np.int64)
    large = np.unique(keys[0, (counts > MOST_MATES) & (splits_of[keys[0]] > 1)])
    if len(large):
        notes.append(
            f"{len(large):,} sources or groups of copies have more than {MOST_MATES} images in a split: of those, the "
            f"nearest {MOST_MATES} are listed for each image of another split"
        )
