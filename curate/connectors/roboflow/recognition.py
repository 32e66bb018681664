"""Which annotation is which: the service gives them no ids, so the image's metadata notes what curate knows of them.

A note holds an annotation's ids, label and box. What is on the image is compared with the notes: first the same label at the
same place, then another label at the same place, then the best overlap. So an annotation keeps its id whether it was moved or
got another label. What resembles no note was drawn there; its id is then made of its place.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import numpy as np
from pycocotools import mask

from curate.formats.values import numbers, sequence, text

_OVERLAPS: Final = 0.5
_LONGEST: Final = 16_000
_DIGEST_BYTES: Final = 6


@dataclass(frozen=True)
class Seen:
    """An annotation as far as it can be recognised by.

    Attributes:
        label: Its class.
        box: [x, y, width, height], pixels.
    """

    label: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Known:
    """What curate knows of an annotation on the service.

    Attributes:
        remote_id: Its id there, as curate says.
        seen: What it was when it was sent, or last read.
        annotation_id: curate's own id; empty for what was drawn there.
        layer: Layer of predictions that it was sent from; empty for ground truth.
    """

    remote_id: str
    seen: Seen
    annotation_id: str = ""
    layer: str = ""


def dump(notes: Sequence[Known]) -> str | None:
    """Notes as one text; None if there are too many for it."""
    rows = [
        [note.remote_id, note.annotation_id, note.layer, note.seen.label, *(round(side, 2) for side in note.seen.box)]
        for note in dict.fromkeys(notes)
    ]
    said = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return said if len(said) <= _LONGEST else None


def load(said: object) -> list[Known]:
    """The inverse of `dump`; what is no note is left out."""
    try:
        rows = sequence(json.loads(text(said) or "[]"))
    except ValueError:
        return []
    return [note for row in rows if (note := _parsed(sequence(row))) is not None]


def recognise(seen: Sequence[Seen], notes: Sequence[Known]) -> list[Known | None]:
    """The note of each annotation, or None; no two have the same id."""
    found: list[Known | None] = [None] * len(seen)
    used: set[str] = set()

    def take(number: int, note: Known) -> None:
        if found[number] is None and note.remote_id not in used:
            found[number] = note
            used.add(note.remote_id)

    at_place: dict[tuple[int, ...], list[Known]] = defaultdict(list)
    for note in notes:
        at_place[_place(note.seen)].append(note)
    for same_label in (True, False):
        for number, each in enumerate(seen):
            for note in at_place.get(_place(each), []):
                if note.seen.label == each.label or not same_label:
                    take(number, note)
    rest = [number for number, each in enumerate(found) if each is None]
    free = [note for note in notes if note.remote_id not in used]
    for number, place in _best_overlaps([seen[number] for number in rest], [note.seen for note in free]):
        take(rest[number], free[place])
    return found


def place_ids(seen: Sequence[Seen], taken: Collection[str] = ()) -> list[str]:
    """Ids of annotations that have none, made of their places; equal places, and ids that are taken, are counted on."""
    used = set(taken)
    ids = []
    for each in seen:
        digest = hashlib.blake2b(repr(_place(each)).encode(), digest_size=_DIGEST_BYTES).hexdigest()
        candidates = (f"at:{digest}:{number}" if number > 1 else f"at:{digest}" for number in count(1))
        ids.append(next(name for name in candidates if name not in used))
        used.add(ids[-1])
    return ids


def _parsed(row: list[Any]) -> Known | None:
    box = numbers(row[4:])
    if len(row) != 8 or box is None or not text(row[0]):
        return None
    x, y, width, height = box
    return Known(text(row[0]), Seen(str(row[3]), (x, y, width, height)), text(row[1]), text(row[2]))


def _place(seen: Seen) -> tuple[int, ...]:
    """The box in hundredths of a pixel: sent and read again, a number may differ in its last digits."""
    return tuple(round(side * 100) for side in seen.box)


def _best_overlaps(seen: Sequence[Seen], others: Sequence[Seen]) -> list[tuple[int, int]]:
    """Pairs that overlap enough, those of the same label first, then by how much."""
    if not seen or not others:
        return []
    first, second = (np.array([each.box for each in group]) for group in (seen, others))
    iou = mask.iou(first, second, [0] * len(second))
    alike = np.array([each.label for each in seen])[:, None] == np.array([each.label for each in others])[None]
    rows, columns = np.nonzero(iou >= _OVERLAPS)
    order = np.lexsort((-iou[rows, columns], ~alike[rows, columns]))
    return [(int(rows[each]), int(columns[each])) for each in order]
