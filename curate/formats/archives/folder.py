"""Writing what comes out of an archive into a folder, and nowhere else."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from curate.errors import InputError

_WINDOWS: Final = re.compile(
    r'(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?|.*[<>:"|?*\x00-\x1f].*|.*[. ]', re.IGNORECASE | re.DOTALL
)
_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


def safe_place(name: str, *, windows: bool = os.name == "nt") -> str:
    """Where in a folder a member of an archive may go.

    Args:
        name: As the archive has it. Backslashes count as slashes: Windows takes them so, and old tools there write them.
        windows: Whether the folder is on a system where a name may be a device's, or not be possible.

    Returns:
        A relative path with forward slashes, without '.' and '..'.

    Raises:
        ValueError: It may go nowhere; says why.
    """
    parts = re.split(r"[\\/]", name)
    if name[:1] in {"/", "\\"} or re.match(r"[A-Za-z]:", name) or ".." in parts:
        raise ValueError("its name leads outside the archive ('..', an absolute path or a drive)")
    parts = [part for part in parts if part not in {"", "."}]
    if not parts:
        raise ValueError("it has no name")
    if windows and any(_WINDOWS.fullmatch(part) for part in parts):
        raise ValueError("its name is not possible on Windows")
    return "/".join(parts)


class Folder:
    """A folder that fills with files, each at a place from `safe_place`.

    Args:
        archive: Where they come from, for errors.
        path: The folder; only what is written here is in it.
    """

    def __init__(self, archive: Path, path: Path) -> None:
        self.path = path
        self._archive = archive
        self._written: set[str] = set()
        self._folders: set[str] = set()

    def has(self, place: str) -> bool:
        """Whether a file was written under this very name."""
        return place in self._written

    def write(self, place: str, chunks: Callable[[], Iterator[bytes]]) -> None:
        """Write a file. One written before under the same name is replaced; one cut short by an error is removed.

        Raises:
            ValueError: The file cannot have this name; says why.
            InputError: The disk is full or fails.
        """
        path = self.path / place
        try:
            self._make_room(place, path)
            file = path.open("xb")
        except (FileExistsError, NotADirectoryError):
            raise ValueError("its name takes a file in the archive for a folder") from None
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise self._failed(error) from error
            raise ValueError(f"its name is not possible here ({error.strerror})") from error
        try:
            with file:
                for chunk in chunks():
                    file.write(chunk)
        except OSError as error:  # the source's own errors are none of the system's any more
            raise self._failed(error) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._written.add(place)

    def _make_room(self, place: str, path: Path) -> None:
        folder = place.rpartition("/")[0]
        if folder not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        if path.is_dir():
            raise ValueError("its name is that of a folder in the archive")
        if place in self._written:
            path.unlink()
            self._written.discard(place)
        elif path.exists():
            raise ValueError(
                "upper and lower case alone tell its name from another's, and this disk does not tell them apart"
            )

    def _failed(self, error: OSError) -> InputError:
        return InputError(
            f"the archive cannot be unpacked: {error.strerror or error}",
            where=self._archive,
            remedy="free some space, or set CURATE_HOME to a folder on a larger disk",
        )
