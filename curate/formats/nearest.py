"""Images found by their names where the folders tell equal names apart: 'train/labelTxt/a.txt' means 'train/images/a.png'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from curate.formats.base import ReadOptions
from curate.formats.files import is_image, list_files
from curate.formats.locations import split_of


class NearestImages:
    """The images of a dataset, by name.

    Args:
        root: The folder that is imported.
        options: `images` is where to look instead; it may be elsewhere.
        files: Every file below the root, where they are known already.
        keep: Which images count; the others are masks and the like.

    Attributes:
        root: What locations are relative to.
        locations: Of every image, sorted.
    """

    def __init__(
        self,
        root: Path,
        options: ReadOptions,
        files: Sequence[str] | None = None,
        *,
        keep: Callable[[str], bool] = lambda _: True,
    ) -> None:
        folder = root if options.images is None else options.images.absolute()
        is_inside = folder.is_relative_to(root)
        self.root = root if is_inside else folder
        names = files if files is not None and is_inside else list_files(self.root)
        below = "" if folder == self.root else f"{folder.relative_to(root).as_posix()}/"
        self.locations = [name for name in names if name.startswith(below) and is_image(name) and keep(name)]
        self._by_stem: dict[str, list[str]] = {}
        for name in self.locations:
            self._by_stem.setdefault(PurePosixPath(name).stem, []).append(name)

    def find(
        self, place: str, stem: str, *, split: str | None = None, is_good: Callable[[str], bool] = lambda _: True
    ) -> str | None:
        """The image of a name that shares most folders with a file, and is not in another split.

        Args:
            place: Location of the file that speaks of the image.
            stem: The image's name without folders and ending.
            split: What the file is about; None to go by its folders.
            is_good: A further condition.
        """
        split = split or split_of(place)
        candidates = [
            name
            for name in self._by_stem.get(stem, [])
            if is_good(name) and (split is None or split_of(name) in {split, None})
        ]
        return max(candidates, key=lambda name: _shared_folders(place, name), default=None)


def images_beside(folder: Path) -> Path | None:
    """The folder 'images' in a folder of annotations, or beside it or the folder that it is in; None if there is none."""
    candidates = (above / "images" for above in (folder, folder.parent, folder.parent.parent))
    return next((images for images in candidates if images.is_dir()), None)


def _shared_folders(first: str, second: str) -> int:
    """How many leading folders two locations have in common."""
    pairs = zip(first.split("/")[:-1], second.split("/")[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
