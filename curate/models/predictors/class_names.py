"""What a model calls things, and what a dataset calls them.

A class of the model is taken for one of the dataset's if somebody says so, if the names are equal, or if they differ in case,
punctuation or number only ('Traffic_Lights', 'traffic light'). All else is a suggestion, which nobody but the user applies.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import yaml

from curate.errors import FormatError, InputError, UsageError
from curate.models.predictors.synonyms import BROADER, SAME
from curate.wording import counted

How = Literal["told", "before", "same", "alike", "new", "dropped", "unmatched"]
"""Why a class goes where it goes: somebody said so; it went there before; the names are equal, or almost; it is taken over as a
new class; somebody said that it is to be left out; the dataset has no such class."""

NOWHERE: Final = -1

_FILES: Final = frozenset({".json", ".yaml", ".yml"})
_LIKELY: Final = 0.8
_NAMED: Final = 12
_WORDS: Final = re.compile(r"[^\W_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PLURALS: Final = {
    "children": "child",
    "feet": "foot",
    "geese": "goose",
    "knives": "knife",
    "leaves": "leaf",
    "men": "man",
    "mice": "mouse",
    "people": "person",
    "teeth": "tooth",
    "wolves": "wolf",
    "women": "woman",
}


@dataclass(frozen=True)
class ClassMapping:
    """Where each class of a model goes.

    Attributes:
        classes: The model's, in the order of its class numbers.
        names: The dataset's, in their order, and behind them those that are new to it.
        targets: For each of the model's its place in `names`, `NOWHERE` if it is left out.
        how: For each of the model's, why.
        known: How many of `names` the dataset has already.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    targets: tuple[int, ...]
    how: tuple[How, ...]
    known: int

    @cached_property
    def target(self) -> npt.NDArray[np.int64]:
        """`targets` as an array of shape (classes,)."""
        return np.array(self.targets, dtype=np.int64)

    @cached_property
    def merged(self) -> npt.NDArray[np.bool_]:
        """Which of `names` stand for several classes of the model; shape (names,)."""
        return np.bincount(self.target[self.target >= 0], minlength=len(self.names)) > 1

    def add_up(self, probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Probabilities of the model's classes as those of `names`: where several become one, they add up.

        What the model gives to classes that are left out is lost, and nothing is made larger for it: the sum of a row that was
        1 is the probability that the thing is of any class of the dataset. Whatever compares classes divides by the sum.

        Args:
            probabilities: Shape (n, classes).

        Returns:
            float32 of shape (n, names).
        """
        added = np.zeros((len(self.names), len(probabilities)), dtype=np.float32)
        kept = np.flatnonzero(self.target >= 0)
        np.add.at(added, self.target[kept], probabilities.T[kept].astype(np.float32))
        return np.minimum(added.T, np.float32(1))

    def to_json(self) -> dict[str, str]:
        """Name in the dataset by name in the model, of the classes that are kept."""
        pairs = zip(self.classes, self.targets, strict=True)
        return {name: self.names[place] for name, place in pairs if place != NOWHERE}

    def of_kind(self, *how: How) -> list[str]:
        """The model's classes that go where they go for one of these reasons."""
        return [name for name, why in zip(self.classes, self.how, strict=True) if why in how]

    @cached_property
    def suggested(self) -> dict[str, str]:
        """What the dataset may call the classes that matched nothing; only where there is something likely."""
        found = {name: _likeliest(name, self.names[: self.known]) for name in self.of_kind("unmatched")}
        return {name: likely for name, likely in found.items() if likely is not None}

    def describe(self) -> list[str]:
        """What a person should know of it, a sentence each."""
        pairs = self.to_json()
        told = [name if name == own else f"{name} as '{own}'" for name, own in pairs.items()]
        lines = [f"{len(pairs):,} of the model's {counted(len(self.classes), 'classes')} are used: {_list(told)}"]
        unmatched = self.of_kind("unmatched")
        if unmatched:
            lines.append(
                f"left out, as the dataset has no such class: {_list(unmatched)}; --keep-unmapped adds what is found"
            )
        unknown = sorted(set(self.names) - set(pairs.values()), key=self.names.index)
        if unknown:
            lines.append(f"not looked for, as the model has no such class: {_list(unknown)}")
        if self.suggested:
            lines.append(f"perhaps the same, if you say so: {as_option(self.suggested)}")
        return lines


def match_classes(
    classes: Sequence[str],
    names: Sequence[str],
    *,
    told: Mapping[str, str] | None = None,
    before: Mapping[str, str] | None = None,
    keep_unmapped: bool = False,
    model: str = "the model",
) -> ClassMapping:
    """Find out which class of a dataset each class of a model is.

    A dataset without any classes takes over the model's.

    Args:
        classes: The model's.
        names: The dataset's.
        told: Names of the dataset by those of the model; '' leaves a class out.
        before: Where classes went in earlier runs into the same layer, unless `told` says otherwise: a class that the first
            run took over, and did not find, is no class of the dataset yet.
        keep_unmapped: Take classes over that the dataset does not have, and names in `told` that are new to it.
        model: Its name, for errors.

    Raises:
        UsageError: `told` names a class that the model or the dataset does not have; or no class is left.
    """
    keep_unmapped, before = keep_unmapped or not names, before or {}
    wanted = _told_by_class(told or {}, classes, names, keep_unmapped)
    by_name = {name: place for place, name in reversed([*enumerate(names)])}
    alike = _unique({place: normal(name) for place, name in enumerate(names)})
    all_names, targets, how = list(names), [], []
    for name in classes:
        why: How
        target = wanted.get(name)
        if target is not None:
            why = "told" if target else "dropped"
        elif name in before:
            target, why = before[name], "before"
        elif name in by_name:
            target, why = name, "same"
        elif normal(name) in alike:
            target, why = names[alike[normal(name)]], "alike"
        else:
            target, why = (name, "new") if keep_unmapped else ("", "unmatched")
        if target and target not in by_name:
            by_name[target] = len(all_names)
            all_names.append(target)
        targets.append(by_name[target] if target else NOWHERE)
        how.append(why)
    mapping = ClassMapping(tuple(classes), tuple(all_names), tuple(targets), tuple(how), len(names))
    if not mapping.to_json():
        raise _nothing_in_common(mapping, model)
    return mapping


def read_map(sources: Sequence[str]) -> dict[str, str]:
    """Read what `--map` was given.

    Args:
        sources: Each 'car=vehicle,truck=vehicle,person=', or a YAML or JSON file that holds names by names.

    Raises:
        UsageError: An entry has no '=', or a class is mapped twice.
        InputError: A file cannot be read.
        FormatError: It does not hold names by names.
    """
    mapping: dict[str, str] = {}
    for source in sources:
        pairs = _from_file(Path(source)) if Path(source.strip()).suffix.lower() in _FILES else _from_text(source)
        for name, target in pairs:
            if mapping.setdefault(name, target) != target:
                raise UsageError(
                    f"'{name}' is mapped to '{mapping[name]}' and to '{target}'", where="--map", remedy="say one"
                )
    return mapping


def as_option(mapping: Mapping[str, str]) -> str:
    """A mapping as it is typed: --map 'car=vehicle,person='."""
    return f"--map '{','.join(f'{name}={target}' for name, target in mapping.items())}'"


def normal(name: str) -> str:
    """A name without case, punctuation, spaces and plurals: equal for 'Traffic_Lights', 'trafficLight', 'traffic-light'."""
    spaced = _CAMEL.sub(" ", unicodedata.normalize("NFKC", name)).casefold()
    return "".join(map(_singular, _WORDS.findall(spaced))) or name


def _singular(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[: -2 if word.endswith(("sses", "xes", "zes", "ches", "shes")) else -1]


def _unique(keys: Mapping[int, str]) -> dict[str, int]:
    """Place of each key that only one place has."""
    values = list(keys.values())
    return {key: place for place, key in keys.items() if values.count(key) == 1}


def _told_by_class(
    told: Mapping[str, str], classes: Sequence[str], names: Sequence[str], keep_unmapped: bool
) -> dict[str, str]:
    """What was told, by the model's own spelling, to the dataset's own."""
    found: dict[str, str] = {}
    for name, target in told.items():
        own = _own(name, classes)
        if own is None:
            raise UsageError(f"the model has no class '{name}'", where="--map", remedy=_hint(name, classes))
        place = _own(target, names) if target else ""
        if place is None and not keep_unmapped:
            remedy = f"{_hint(target, names)}; --keep-unmapped makes it a new class"
            raise UsageError(f"the dataset has no class '{target}'", where="--map", remedy=remedy)
        found[own] = target if place is None else place
    return found


def _own(name: str, names: Sequence[str]) -> str | None:
    """The name as it stands among others, where it is one of them but for its spelling."""
    if name in names:
        return name
    alike = [each for each in names if normal(each) == normal(name)]
    return alike[0] if len(alike) == 1 else None


def _hint(name: str, names: Sequence[str]) -> str:
    likely = _likeliest(name, names)
    return f"did you mean '{likely}'?" if likely is not None else f"one of: {_list(names)}"


def _likeliest(name: str, names: Sequence[str]) -> str | None:
    """Which of some names most likely stands for the same, or for a wider class; None if none does."""
    rated = [(_likeness(name, each), each) for each in names]
    best = max(rated, key=lambda pair: pair[0], default=(0.0, ""))
    return best[1] if best[0] >= _LIKELY else None


def _likeness(one: str, other: str) -> float:
    """How likely two names stand for the same, in [0, 1]; only an order is meant."""
    first, second = normal(one), normal(other)
    if first == second:
        return 1.0
    if any({first, second} <= group for group in _SAME):
        return 0.95
    if first in _BROADER.get(second, ()):
        return 0.9
    words = [{_singular(word) for word in _WORDS.findall(each.casefold())} for each in (one, other)]
    if all(words) and (words[0] < words[1] or words[1] < words[0]):
        return 0.85
    return SequenceMatcher(None, first, second).ratio()


def _nothing_in_common(mapping: ClassMapping, model: str) -> UsageError:
    suggestion = f"if it fits, {as_option(mapping.suggested)}; " if mapping.suggested else ""
    return UsageError(
        f"the model and the dataset have no class in common: {_list(mapping.classes) or 'none'} against "
        f"{_list(mapping.names)}",
        where=model,
        remedy=f"{suggestion}--map 'MODEL_CLASS=DATASET_CLASS' says which is which, --keep-unmapped adds the model's",
    )


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _from_text(text: str) -> list[tuple[str, str]]:
    pairs = []
    for entry in filter(None, map(str.strip, text.split(","))):
        name, equals, target = (part.strip() for part in entry.partition("="))
        if not equals or not name:
            raise UsageError(
                f"'{entry}' does not map a class",
                where="--map",
                remedy="write 'car=vehicle,person=', or name a .yaml or .json file",
            )
        pairs.append((name, target))
    return pairs


def _from_file(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError("there is no such file", where=path, remedy="check --map") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the mapping cannot be read: {error}", where=path, remedy="save it as UTF-8") from error
    try:
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise FormatError(f"the mapping cannot be read: {str(error).partition(chr(10))[0]}", where=path) from error
    if not isinstance(content, dict):
        raise FormatError("the mapping is no object of names", where=path, remedy="write 'car: vehicle', one a line")
    return [(_name(name, path), "" if target is None else _name(target, path)) for name, target in content.items()]


def _name(value: Any, path: Path) -> str:
    """A class name; numbers are the names of some."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise FormatError(f"{value!r} is no name of a class", where=path, remedy="put it in quotes")
    return str(value).strip()


_SAME: Final = tuple({normal(name) for name in group} for group in SAME)
_BROADER: Final = {normal(name): {normal(each) for each in group} for name, group in BROADER.items()}
