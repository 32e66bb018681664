"""What a comparison of two packages has counted: pairs in the order in which they were, kept beside the dataset.

A bettor may look after every pair because nothing that he has bet on changes and nothing comes before it. So a pair is written
down once, with its difference as it was, and what is labelled later comes after. The record also settles that a test cannot be
tried again until it says what one likes: another seed, a runtime, or a correction of old labels leaves it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from curate.errors import InputError
from curate.files import write_atomic
from curate.runner import Package

FOLDER: Final = "comparisons"
"""In the dataset's own."""

_FORMAT: Final = 1


@dataclass(frozen=True)
class Pair:
    """One pair.

    Attributes:
        difference: By how much the record's first package was better, in [-1, 1].
        images: Ids of those whose mean it is.
    """

    difference: float
    images: tuple[str, ...]


class Record:
    """Pairs of two packages under one condition on the images.

    Which of the two is named first does not matter: the record has an order of its own, and `read` and `append` turn the sign.

    Args:
        dataset: Its folder.
        first: One package.
        second: The other.
        condition: Which images are looked at, JSON-ready: another is another question.
    """

    def __init__(self, dataset: Path, first: Package, second: Package, condition: Any) -> None:
        prints = [_print(each) for each in (first, second)]
        self._turned = prints[0] > prints[1]
        self._both = _digest(sorted(prints))
        self.path = dataset / FOLDER / f"{self._both}-{_digest(condition)}.json"
        self._about = {"packages": sorted([first.id, second.id]), "condition": condition}

    @property
    def others(self) -> int:
        """How many records there are of the same packages under other conditions."""
        return sum(each != self.path for each in self.path.parent.glob(f"{self._both}-*.json"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the block nobody else appends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            yield

    def read(self) -> list[Pair]:
        """The pairs so far, in their order.

        Raises:
            InputError: The record cannot be read.
        """
        try:
            content = json.loads(self.path.read_bytes())
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']}")
            pairs = [Pair(self._sign * float(value), tuple(map(str, images))) for value, images in content["pairs"]]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"the pairs that were counted before cannot be read: {error}",
                where=self.path,
                remedy="bring the file back from a copy; without it the test begins anew, and what it said before does not count",
            ) from error
        return pairs

    def append(self, before: Sequence[Pair], new: Sequence[Pair]) -> None:
        """Write down new pairs after those that `read` gave."""
        rows = [[self._sign * pair.difference, list(pair.images)] for pair in (*before, *new)]
        content = {"format": _FORMAT, **self._about, "pairs": rows}
        write_atomic(self.path, json.dumps(content, ensure_ascii=False).encode())

    @property
    def _sign(self) -> int:
        return -1 if self._turned else 1


def in_order(images: Sequence[Sequence[str]]) -> list[int]:
    """Places of new pairs in the order in which they are counted: as good as drawn, and the same for everybody."""
    return sorted(range(len(images)), key=lambda place: sha256("\n".join(sorted(images[place])).encode()).digest())


def _print(package: Package) -> str:
    """What a package answers with: its model and how it is read. Its name, and when it was made, do not matter."""
    manifest = package.manifest
    parts = {name: manifest[name] for name in ("task", "classes", "preprocess", "postprocess")}
    stem = Path(manifest["model"]["file"]).stem  # OpenVINO's numbers are in a second file
    return _digest([parts, {name: told for name, told in manifest["files"].items() if Path(name).stem == stem}])


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
