"""What a model's classes are called, by its configuration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.models.predictors.base import VOID
from curate.models.predictors.hf.snapshots import CONFIG, Snapshot

_MADE_UP: Final = re.compile(r"LABEL_\d+")
_UNUSED: Final = frozenset({"n/a", "na", ""})
_NOTHING: Final = frozenset({"background", "no object", "no-object", "unlabeled", "unlabelled", "void"})


@dataclass(frozen=True)
class ClassNames:
    """The classes that count, and where they are among the model's.

    Attributes:
        names: Of the classes, each different.
        numbers: Number of each of the model's classes among `names`, `VOID` for one that is left out; int64 of shape (m,).
    """

    names: tuple[str, ...]
    numbers: npt.NDArray[np.int64]

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        """The model's numbers of `names`, in their order."""
        return np.flatnonzero(self.numbers != VOID)


def class_names(snapshot: Snapshot, id2label: Mapping[Any, Any], *, leave_out_nothing: bool) -> ClassNames:
    """Read the names of the classes.

    Numbers that a dataset skips ('N/A' in COCO's) are left out. Of several classes with one name, each gets its number after it.

    Args:
        snapshot: The model, for errors.
        id2label: Names by number, as a configuration has them.
        leave_out_nothing: Whether classes that stand for none ('background') are no classes here.

    Raises:
        InputError: The names are not there, or transformers made them up.
    """
    by_number = {int(number): str(name).strip() for number, name in id2label.items()}
    if not by_number or all(_MADE_UP.fullmatch(name) for name in by_number.values()):
        raise InputError(
            f"the model does not say what its {len(by_number) or ''} classes are called".replace("  ", " "),
            where=snapshot.folder / CONFIG,
            remedy='write their names into a copy of the folder: "id2label": {"0": "bolt", "1": "nut", ...}',
        )
    out = _UNUSED | (_NOTHING if leave_out_nothing else frozenset())
    count = Counter(by_number.values())
    numbers = np.full(max(by_number) + 1, VOID, np.int64)
    names: list[str] = []
    for number, name in sorted(by_number.items()):
        if name.lower() not in out:
            numbers[number] = len(names)
            names.append(name if count[name] == 1 else f"{name} ({number})")
    return ClassNames(tuple(names), numbers)
