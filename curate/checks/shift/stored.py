"""The slices that `curate shift` found, kept with the dataset: which images are in each, and how a model does there.

Two tables: `slices` has a row for each image of each slice, `slices/facts` one for each slice. Both are of the newest run
without a reference, and go back with it on `curate undo`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset import Dataset, Transaction
from curate.errors import UsageError

Kind = Literal["light", "content", "axis", "metadata"]
"""What a slice was found by: a set-up of light, a kind of content, the end of a measured axis, a value of the metadata."""

MEMBERS: Final = "slices"
FACTS: Final = "slices/facts"

_MEMBERS: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("slice", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ]
)
_FACTS: Final = pa.schema(
    [
        pa.field("slice", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("fails", pa.bool_(), nullable=False),
        pa.field("error", pa.float64()),
        pa.field("rest", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("errors_by", pa.string()),
        pa.field("mAP50", pa.float64()),
        pa.field("mAP50_rest", pa.float64()),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("classes", pa.string(), nullable=False),
        # JSON: what was measured, as in `Slice`.
        pa.field("measured", pa.string(), nullable=False),
        # Of the ids of its images.
        pa.field("digest", pa.string(), nullable=False),
    ]
)
_NUMBERS: Final = ("error", "rest", "p_value", "mAP50", "mAP50_rest")
_MOST_NAMED: Final = 12
_MOST_NEAR: Final = 8
_LIMIT: Final = re.compile(r" [<>]=.*")


@dataclass(frozen=True)
class Slice:
    """Some of the images that have something in common.

    Attributes:
        name: As printed; no two slices of a dataset share one.
        kind: What it was found by.
        image_ids: Of its images, sorted.
        fails: Whether more goes wrong on it than chance allows, and not only because it shares images with a slice of which
            that is surer.
        error: Mean error of its images in [0, 1], each group of copies counting once; None where no error is known.
        rest: Of the others.
        p_value: Of such an excess, corrected for all slices that were tried.
        errors_by: What says what is wrong: 'predictions/NAME', or 'findings'.
        mAP50: Of a detector on its images; None where there is none, or it was not asked for.
        mAP50_rest: On the others.
        metadata: Values that are more frequent than elsewhere, in words.
        classes: The largest, with their share here and elsewhere, in words.
        measured: For a set-up of light, what sets it apart: axis, median, rest and effect.
    """

    name: str
    kind: Kind
    image_ids: pa.StringArray
    fails: bool = False
    error: float | None = None
    rest: float | None = None
    p_value: float | None = None
    errors_by: str | None = None
    mAP50: float | None = None  # noqa: N815 - as the field writes it
    mAP50_rest: float | None = None  # noqa: N815
    metadata: str = ""
    classes: str = ""
    measured: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.image_ids)


def read_slices(dataset: Dataset | Transaction) -> Mapping[str, Slice]:
    """The slices by name: those that fail first, the surest before the others; none where `curate shift` has not run.

    Images that have been removed since are in none.
    """
    now = dataset.snapshot() if isinstance(dataset, Transaction) else dataset
    if not {MEMBERS, FACTS} <= now.commit.tables.keys():
        return {}
    there = now.table("images", columns=["image_id"])["image_id"].combine_chunks()
    members = now.table(MEMBERS, columns=["image_id", "slice"])
    members = members.filter(pc.is_in(members["image_id"], value_set=there)).sort_by("image_id")
    grouped = members.group_by("slice", use_threads=False).aggregate([("image_id", "list")])
    ids = {row: grouped["image_id_list"][k].values for k, row in enumerate(grouped["slice"].to_pylist())}
    slices = []
    for row in now.table(FACTS).drop_columns(["images", "digest"]).to_pylist():
        name = row.pop("slice")
        measured = tuple(json.loads(row.pop("measured")))
        inside = ids.get(name, pa.array([], pa.string()))
        slices.append(Slice(name=name, image_ids=inside, measured=measured, **row))
    return {each.name: each for each in slices}


def find_slice(slices: Mapping[str, Slice], name: str, *, where: object = None) -> Slice:
    """The slice of a name, which may be written as a file name would be, and as short as only one slice begins so.

    'dark_warm' finds 'dark, warm, light from above'. The limit of an axis may be left out, for it changes with the images: 'dark'
    finds 'dark (brightness <= 21)'.

    Args:
        slices: What `read_slices` gives.
        name: Its name, the `slug` of it, or how that begins.
        where: What asked for it, for the error: an option.

    Raises:
        UsageError: There is none, or there are several; the error lists those that are near, by their `short_names`.
    """
    if name in slices:
        return slices[name]
    wanted = slug(name)
    alike = [each for each in slices if slug(each) == wanted]
    alike = alike or [each for each in slices if slug(each.partition(" (")[0]) == wanted]
    alike = alike or [each for each in slices if wanted and slug(each).startswith(wanted)]
    if alike and all(slices[each].image_ids.equals(slices[alike[0]].image_ids) for each in alike):
        return slices[alike[0]]  # the only one, or found by light and by metadata alike
    if not slices:
        raise UsageError(f"there is no slice '{name}', nor any other", where=where, remedy="run 'curate shift' first")
    short = short_names(list(slices))
    if alike:
        what, named = f"'{name}' may be any of {len(alike)} slices", [short[each] for each in alike]
    else:
        what, named = f"there is no slice '{name}'", _nearest(wanted, short)
    more = f", and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
    said = "one of" if alike or len(named) > _MOST_NEAR else "near ones"
    raise UsageError(
        what, where=where, remedy=f"{said}: {', '.join(named[:_MOST_NAMED])}{more}; 'curate shift' lists all"
    )


def short_names(names: Sequence[str]) -> dict[str, str]:
    """What is enough to type for each of n slices: the fewest of its words, from the first, that no other name begins with.

    'dark, warm, light from above' is 'dark' or 'dark_warm'; of the ends of axes it is the word, 'dark', or with the axis,
    'dark_brightness'. Whatever slices come and go later, a longer beginning of the same name goes on to find it.
    """
    full = {name: slug(name) for name in names}
    words = {name: slug(name.partition(" (")[0]) for name in names}
    known = Counter(words.values())

    def is_enough(candidate: str, name: str) -> bool:
        if candidate == full[name]:
            return list(full.values()).count(candidate) == 1
        if known[candidate]:  # all the words of a name: it stands for that one
            return known[candidate] == 1 and words[name] == candidate
        return sum(each.startswith(candidate) for each in full.values()) == 1

    return {name: next((each for each in _beginnings(name) if is_enough(each, name)), name) for name in names}


def _beginnings(name: str) -> Iterator[str]:
    """A slice's name as text to type, from the shortest: more and more of its words, then its axis, at last all of it."""
    words, _, axis = name.partition(" (")
    parts = words.split(", ")
    yield from (slug(", ".join(parts[: count + 1])) for count in range(len(parts)))
    if axis:
        yield slug(f"{words} {_LIMIT.sub('', axis)}")
    yield slug(name)


def _nearest(wanted: str, short: Mapping[str, str]) -> list[str]:
    """Short names of slices like the one that was meant: spelt nearly so, or with words of it; all of them if none is."""
    spelt = difflib.get_close_matches(wanted, list(short.values()), n=_MOST_NEAR, cutoff=0.6)
    words = set(wanted.split("_"))
    shared = {typed: len(words & set(slug(name).split("_"))) for name, typed in short.items()}
    sharing = sorted((typed for typed, count in shared.items() if count), key=lambda typed: -shared[typed])
    return list(dict.fromkeys([*spelt, *sharing]))[:_MOST_NEAR] or list(short.values())


def slug(name: str) -> str:
    """A name in lower-case letters, digits and underscores: 'dark, warm' is 'dark_warm'."""
    return "_".join("".join(char if char.isalnum() else " " for char in name.casefold()).split())


def store_slices(transaction: Transaction, slices: Sequence[Slice]) -> None:
    """Keep slices in place of those kept before; nothing is written where they are the same.

    Args:
        transaction: The commit being made.
        slices: No two of one name.
    """
    facts = pa.Table.from_pylist([_facts(each) for each in slices], schema=_FACTS)
    if transaction.has(FACTS) and transaction.read(FACTS).equals(facts):
        return
    transaction.overwrite(MEMBERS, _members(slices), _MEMBERS)
    transaction.overwrite(FACTS, [facts], _FACTS)
    transaction.count("slices", len(slices))


def _facts(part: Slice) -> dict[str, Any]:
    numbers = {name: _known(getattr(part, name)) for name in _NUMBERS}
    plain = {name: getattr(part, name) for name in ("kind", "fails", "errors_by", "metadata", "classes")}
    digest = hashlib.blake2b("".join(part.image_ids.to_pylist()).encode(), digest_size=8).hexdigest()
    measured = json.dumps(list(part.measured))
    return {"slice": part.name, "images": len(part), "measured": measured, "digest": digest, **plain, **numbers}


def _members(slices: Sequence[Slice]) -> Iterator[pa.Table]:
    for part in slices:
        repeated = [pa.repeat(pa.scalar(text), len(part)) for text in (part.name, part.kind)]
        yield pa.table([part.image_ids, *repeated], schema=_MEMBERS)


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
