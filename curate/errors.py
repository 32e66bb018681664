"""Every error curate raises on purpose.

    CurateError                 what happened, where, and the remedy; exit status 2
    ├── UsageError              the command or call was wrong
    ├── InputError              a file or value from outside is wrong (also a ValueError)
    │   ├── FormatError         an annotation file or folder does not follow its format
    │   └── ImageError          an image cannot be read
    ├── DatasetError            the store refused
    │   ├── DatasetNotFound     no dataset of that name (also a LookupError)
    │   ├── DatasetExists       the name is taken
    │   ├── DatasetLocked       another process is writing; names it
    │   └── DatasetCorrupt      a commit or a table it names cannot be read
    └── UnavailableError        a server, a model's weights or an optional package is not there; exit status 3
        └── MissingExtra        an optional package is not installed (also an ImportError)

The command line prints the three parts and never a traceback; `--debug` shows it.
"""

from __future__ import annotations

from collections.abc import Callable


class CurateError(Exception):
    """Root of the tree.

    Args:
        what: One sentence saying what went wrong.
        where: File, line, key, image or address it happened at, or None.
        remedy: What the reader can do about it, or None.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        super().__init__(what, self.where, remedy)

    def __reduce__(self) -> tuple[Callable[..., CurateError], tuple[type[CurateError], str, str | None, str | None]]:
        # An exception is made again from `args`, which its own __init__ need not take: errors come back from other processes.
        return _again, (type(self), self.what, self.where, self.remedy)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.remedy is None else f"{text} ({self.remedy})"


def _again(kind: type[CurateError], what: str, where: str | None, remedy: str | None) -> CurateError:
    error = kind.__new__(kind)
    CurateError.__init__(error, what, where=where, remedy=remedy)
    return error


class UsageError(CurateError):
    """The command or call was wrong: an unknown option value, a missing argument."""


class InputError(CurateError, ValueError):
    """Something that came from outside is wrong."""


class FormatError(InputError):
    """An annotation file or folder does not follow its format."""


class ImageError(InputError):
    """An image is missing, truncated, too large or of an unknown kind."""


class DatasetError(CurateError):
    """The store refused a request."""


class DatasetNotFound(DatasetError, LookupError):
    """No dataset (or commit of it) has that name."""


class DatasetExists(DatasetError):
    """A dataset of that name is already there."""


class DatasetLocked(DatasetError):
    """Another process is writing to the dataset."""


class DatasetCorrupt(DatasetError):
    """A commit, or a table that a commit names, cannot be read."""


class UnavailableError(CurateError):
    """A server, a model's weights or an optional package is not there."""

    exit_code = 3


class MissingExtra(UnavailableError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed",
            remedy=f"pip install 'curate-vision[{extra}]'",
        )
