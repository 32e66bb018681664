"""Formats of many annotation files: which there are, and reading them one after another though some may be broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from curate.errors import FormatError
from curate.formats.files import list_files
from curate.formats.losses import LossReport

Content = TypeVar("Content")


def find_annotation_files(source: Path, *endings: str) -> tuple[Path, list[str]]:
    """The root of an import, and its annotation files.

    Args:
        source: A folder, or one annotation file, whose folder then is the root.
        *endings: Of the files in a folder, in lower case with the dot; files of the first come first.

    Returns:
        The root, absolute, and locations relative to it.
    """
    source = source.absolute()
    if source.is_file():
        return source.parent, [source.name]
    names = list_files(source)
    return source, [name for ending in endings for name in names if name.lower().endswith(ending)]


def read_each(
    root: Path, names: Sequence[str], load: Callable[[Path], Content], losses: LossReport, *, wanted: str
) -> Iterator[tuple[str, Content]]:
    """The content of each file that is of the format; the others are reported at the end.

    Args:
        root: Folder that the names are relative to.
        names: Files.
        load: Reads one; raises `FormatError` for a file that is broken or of another format.
        losses: Gets the files that could not be read.
        wanted: What the files should have been, for the error.

    Yields:
        A file's name, and what is in it.

    Raises:
        FormatError: Not one could be read.
    """
    problems: list[FormatError] = []
    for name in names:
        try:
            content = load(root / name)
        except FormatError as error:
            problems.append(error)
            continue
        yield name, content
    if len(problems) == len(names):
        if len(problems) == 1:
            raise problems[0]
        raise FormatError(f"there is no {wanted}", where=root, remedy="check the path, or say --format")
    for problem in problems:
        place = Path(problem.where).relative_to(root) if problem.where else "?"
        losses.dropped("annotation files", problem.what, place)
