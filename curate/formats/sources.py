"""What a user names as the source of an import: a file, a folder, or an archive that is then read as a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.errors import CurateError, FormatError, InputError, UsageError
from curate.formats.archives import archive_kind, kind_of_name, unpack
from curate.formats.archives.kinds import Kind, stem_of_archive
from curate.formats.archives.unpack import Report as Report
from curate.formats.locations import file_name
from curate.formats.losses import Loss, LossReport
from curate.wording import counted


def kind_of_source(source: Path) -> Kind | None:
    """Check that a source can be read at all.

    Args:
        source: An absolute path.

    Returns:
        What kind of archive it is; None for a folder and for any other file.

    Raises:
        UsageError: It is not there, or is a pipe, a socket or a device.
        InputError: It cannot be read, or is empty; `FormatError` for an archive of a kind that is not opened.
    """
    try:
        mode = source.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        what = "there is no such file or folder" if missing else f"the source cannot be opened: {reason}"
        raise UsageError(what, where=source, remedy="check the path") from None
    if stat.S_ISDIR(mode):
        _check_folder(source)
        return None
    if not stat.S_ISREG(mode):
        raise UsageError("this is neither a file nor a folder", where=source, remedy="save it as a file first")
    if source.stat().st_size == 0:
        raise FormatError("the file is empty", where=source, remedy="check the path, or make the file again")
    return archive_kind(source)


@contextmanager
def opened(
    source: Path, kind: Kind | None, folder: Path, losses: LossReport, report: Report | None = None
) -> Iterator[Path]:
    """What is to be read of a source: itself, or what an archive unpacks to.

    What is raised or reported inside the block names the archive instead of the files it was unpacked to. What is raised also
    says what was left out of the archive, which may be why; and if the file only has an archive's name.

    Args:
        source: File, folder or archive.
        kind: From `kind_of_source`.
        folder: The source's own folder in the dataset (`curate.formats.source_files.source_folder`).
        losses: What is left out of an archive is reported.
        report: Called while it is unpacked.

    Raises:
        FormatError: The archive cannot be unpacked.
        InputError: The disk is full.
    """
    if kind is None:
        named = kind_of_name(source.name) if source.is_file() else None
        try:
            yield source
        except FormatError as error:
            if named is not None:
                error.what += f"; it is named as a {named} archive, but is none: check that it was downloaded whole"
            raise
        return
    name = file_name(stem_of_archive(source.name))
    refused = LossReport(strict=losses.strict)
    content = unpack(source, folder / "archive" / name, refused, report=report)
    left_out = [loss for loss in refused.losses if loss.outcome == "dropped"]
    losses.include(refused.losses)
    try:
        yield content
    except CurateError as error:
        _rename(error, content, source)
        if isinstance(error, FormatError):
            error.what += "".join(f"; {_left_out(loss)}" for loss in left_out)
        raise
    inside = os.path.join(content, "")  # noqa: PTH118 - with a slash at the end
    losses.rename_places(inside, f"{source.name}: ")
    losses.rename_places(str(content), source.name)


def _left_out(loss: Loss) -> str:
    return f"{counted(loss.count, loss.what)} in the archive left closed or out, {loss.reason}: {loss.places[0]}"


def _rename(error: CurateError, content: Path, source: Path) -> None:
    def named(text: str) -> str:
        return text.replace(str(content) + os.sep, f"{source}: ").replace(str(content), str(source))

    error.what = named(error.what)
    error.where = None if error.where is None else named(error.where)


def _check_folder(source: Path) -> None:
    try:
        with os.scandir(source) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        raise InputError(
            f"the folder cannot be read: {error.strerror}", where=source, remedy="check its permissions"
        ) from error
    if empty:
        raise FormatError("the folder is empty", where=source, remedy="check the path")
