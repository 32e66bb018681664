"""How much may come out of an archive. Bytes are counted as they come: what an archive says of its sizes is not trusted."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from curate.errors import FormatError, InputError

_MB: Final = 1_000_000
_GB: Final = 1_000_000_000


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to before it is refused.

    Attributes:
        total: Bytes. 200 GB is more than any single archive that people hand around (ImageNet's training set: 138 GB), and
            few disks hold it twice; the room on the disk is a limit of its own.
        reserve: Bytes of the disk that stay free, for the dataset's tables and everyone else.
        ratio: Bytes unpacked for each byte packed. Images do not compress; the JSON of polygons does so 10 times, and blank
            uncompressed masks, which reach deflate's bound of 1,032, are never a whole archive.
        ratio_from: Bytes unpacked from which the ratio counts: less than this is no bomb.
        members: Files and folders. Each costs some 500 bytes of memory while a zip is open; the largest sets of one archive
            have under two million.
        depth: How deep archives may lie in archives to be opened, the outermost counted.
    """

    total: int = 200 * _GB
    reserve: int = 1 * _GB
    ratio: int = 200
    ratio_from: int = 100 * _MB
    members: int = 5_000_000
    depth: int = 3


class TooMuch(FormatError):
    """An archive would unpack to more than its limits: nothing of it is kept, also where it lies in another."""


class Budget:
    """Counts what comes out of an archive and of those inside it.

    Args:
        limits: When to stop.
        archive: The outermost archive.
        target: A folder on the disk that it is unpacked to.
    """

    def __init__(self, limits: Limits, archive: Path, target: Path) -> None:
        self.limits = limits
        self.archive = archive
        self.members = 0
        self.unpacked = 0
        self._room = shutil.disk_usage(target).free - limits.reserve

    def add_member(self) -> None:
        """Count a member.

        Raises:
            TooMuch: There are more than the limit.
        """
        self.members += 1
        if self.members > self.limits.members:
            raise self.too_much(f"it has more than {self.limits.members:,} members")

    def spend(self, count: int) -> None:
        """Count bytes.

        Raises:
            TooMuch: There are more than the limit.
            InputError: There are more than the disk has room for.
        """
        self.unpacked += count
        if self.unpacked > self.limits.total:
            raise self.too_much(f"it unpacks to more than {self.limits.total / _GB:,.9g} GB")
        if self.unpacked > self._room:
            raise InputError(
                f"the archive does not fit on the disk: it unpacks to more than the {max(self._room, 0) / _GB:,.1f} GB "
                "that may be used",
                where=self.archive,
                remedy="free some space, or set CURATE_HOME to a folder on a larger disk",
            )

    def give_back(self, count: int) -> None:
        """Uncount bytes that are not there any more: an inner archive that was itself unpacked."""
        self.unpacked -= count

    def too_much(self, why: str) -> TooMuch:
        """The error for an archive that exceeds a limit."""
        return TooMuch(
            f"the archive is refused: {why}",
            where=self.archive,
            remedy="it may be a decompression bomb; if you trust it, unpack it yourself and import the folder",
        )


class Meter:
    """Counts what comes out of one archive, against its own size and against the budget of all.

    Args:
        budget: The budget.
        packed: The archive's own size in bytes.
    """

    def __init__(self, budget: Budget, packed: int) -> None:
        self.budget = budget
        self.unpacked = 0
        self._most = max(budget.limits.ratio_from, budget.limits.ratio * packed)

    def spend(self, count: int) -> None:
        """Count bytes; raises as `Budget.spend` does."""
        self.unpacked += count
        if self.unpacked > self._most:
            raise self.budget.too_much(f"it unpacks to more than {self.budget.limits.ratio} times its size")
        self.budget.spend(count)
