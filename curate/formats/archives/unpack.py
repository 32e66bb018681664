"""An archive as a folder, whole or not at all, with nothing written outside it.

A member that cannot be taken (a link, a device, a name that leads outside, damaged bytes) is reported and left out; an
archive that is encrypted, cut off or exceeds its limits is refused as a whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from curate.errors import FormatError, InputError
from curate.files import write_atomic
from curate.formats.archives.budget import Budget, Limits, Meter, TooMuch
from curate.formats.archives.folder import Folder, safe_place
from curate.formats.archives.kinds import Kind, archive_kind, kind_of_name, stem_of_archive
from curate.formats.archives.members import DamagedMember, Member, members
from curate.formats.files import is_image
from curate.formats.losses import Loss, LossReport

Report = Callable[[int, int], None]
"""Called with how many of an archive's bytes have been gone through, and how many it has."""

_JUNK: Final = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})


def unpack(
    archive: Path, target: Path, losses: LossReport, *, limits: Limits | None = None, report: Report | None = None
) -> Path:
    """Unpack an archive, and those inside it. If it was unpacked there before, only say again what was left out.

    Args:
        archive: A file that `archive_kind` knows.
        target: Folder to make, whole or not at all. What begins with its name and a dot, beside it, is of this function.
        losses: Members that are left out, or named anew.
        limits: When to refuse the archive.
        report: Called after each member.

    Returns:
        What to read: the target; the only folder in it, if there is nothing beside that, so that locations are those of
        the folder that was packed; or the only file in it, if that is no image.

    Raises:
        FormatError: The archive is encrypted, cut off, damaged, empty, or exceeds a limit.
        InputError: The disk is full.
    """
    record = target.with_name(f"{target.name}.unpacked.json")
    if not target.is_dir():
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            found = LossReport(strict=losses.strict)
            root = _Unpacker(archive, partial, limits or Limits(), found, report).run()
            content = {"root": root.relative_to(partial).as_posix(), "losses": [asdict(loss) for loss in found.losses]}
            write_atomic(record, json.dumps(content).encode())
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    content = json.loads(record.read_bytes())
    losses.include(Loss(**loss) for loss in content["losses"])
    return target / str(content["root"])


class _Unpacker:
    """Unpacks one archive, and those inside it, into a folder.

    Args:
        archive: The archive.
        target: An empty folder.
        limits: When to refuse it.
        losses: Members that are left out.
        report: Called after each member of the outermost archive.
    """

    def __init__(self, archive: Path, target: Path, limits: Limits, losses: LossReport, report: Report | None) -> None:
        self._archive = archive
        self._target = target
        self._budget = Budget(limits, archive, target)
        self._losses = losses
        self._report = report

    def run(self) -> Path:
        """Unpack; returns what to read."""
        kind = archive_kind(self._archive)
        assert kind is not None, "the caller has looked"
        opened = self._unpack(self._archive, kind, self._target, self._archive.name, depth=1)
        if not any(self._target.iterdir()):
            reasons = "".join(f"; {loss.reason}" for loss in self._losses.losses[:1])
            raise FormatError(
                f"there are no files in the archive{reasons}",
                where=self._archive,
                remedy="check that it is the right one",
            )
        return _root(self._target, opened)

    def _unpack(self, archive: Path, kind: Kind, target: Path, name: str, *, depth: int) -> set[Path]:
        """Unpack one archive and those in it; returns the folders that were archives in it."""
        size = archive.stat().st_size
        meter = Meter(self._budget, size)
        folder = Folder(self._archive, target)
        inner: dict[str, None] = {}
        for member in members(archive, kind, meter, self._losses):
            place = self._take(member, folder, name)
            if place is not None and kind_of_name(place) is not None:
                inner[place] = None
            if self._report is not None and depth == 1:
                self._report(min(member.packed, size), size)
        opened: set[Path] = set()
        for place in inner:
            opened |= self._unpack_nested(target / place, f"{name}/{place}", depth + 1)
        return opened

    def _take(self, member: Member, folder: Folder, archive: str) -> str | None:
        """Write a member's file; returns its place, or None if it was left out."""
        where = f"{archive}: {member.name}"
        try:
            if member.problem is not None:
                raise ValueError(member.problem)
            place = safe_place(member.name)
            if any(part in _JUNK or part.startswith("._") for part in place.split("/")):
                return None
            if folder.has(place):
                self._losses.dropped("files", "in the archive: the same name comes again; the last is kept", where)
            if "\\" in member.name:
                self._losses.converted("files", "in the archive: backslashes in the name are taken for slashes", where)
            if member.guessed is not None:
                reason = f"in the archive: the name is not in UTF-8; it is read as {member.guessed}"
                self._losses.converted("files", reason, where)
            folder.write(place, member.chunks)
        except DamagedMember as error:
            self._losses.dropped("files", "in the archive: damaged", f"{where}: {error}")
            return None
        except InputError:
            raise
        except ValueError as error:
            self._losses.dropped("files", f"in the archive: {error}", where)
            return None
        return place

    # ---------------------------------------------------------------------------------------------- archives in archives

    def _unpack_nested(self, path: Path, name: str, depth: int) -> set[Path]:
        """Put a folder in the place of an archive that was a member of another; it stays a file if that cannot be."""
        try:
            kind = archive_kind(path)
            if kind is None:
                return set()
            if depth > self._budget.limits.depth:
                reason = f"in {self._budget.limits.depth} others already; not opened"
                self._losses.dropped("archives", reason, name)
                return set()
            target = _free_folder(path)
            partial = path.with_name(f"{path.name}.partial")
            try:
                partial.mkdir()
                opened = self._unpack(path, kind, partial, name, depth=depth)
                root = _same_name(partial, target.name)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        except TooMuch:
            raise
        except FormatError as error:
            self._losses.dropped("archives", f"in the archive, but not opened: {error.what}", name)
            return set()
        self._budget.give_back(path.stat().st_size)
        path.unlink()
        root.rename(target)
        shutil.rmtree(partial, ignore_errors=True)
        return {target, *(target / each.relative_to(root) for each in opened if each.is_relative_to(root))}


def _root(folder: Path, opened: set[Path]) -> Path:
    """What of a folder is to be read; `opened` are folders that were archives, whose own content counts in turn."""
    entries = list(folder.iterdir())
    if len(entries) != 1:
        return folder
    if entries[0].is_file():
        return folder if is_image(entries[0].name) else entries[0]
    return _root(entries[0], opened) if entries[0] in opened else entries[0]


def _same_name(folder: Path, name: str) -> Path:
    """The only folder in a folder, if it has the name that the outer one is to have: images.zip with images/ in it."""
    entries = list(folder.iterdir())
    return entries[0] if [entry.name for entry in entries] == [name] and entries[0].is_dir() else folder


def _free_folder(path: Path) -> Path:
    """Where an archive inside another is unpacked: its name without the ending if that is free, else its whole name."""
    folder = path.with_name(stem_of_archive(path.name))
    return path if folder.exists() else folder
