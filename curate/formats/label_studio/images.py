"""Which images a task shows, where their files are, and which of them a result is on.

Where an image's file is found, below the import's folder or the folder of images that the user named, its location is its
path relative to that folder. Where it is not, the location follows from the reference alone::

    /data/upload/1/0a1b2c3d-name.jpg            upload/1/0a1b2c3d-name.jpg
    /data/local-files/?d=folder/name.jpg        folder/name.jpg
    https://host/folder/name.jpg?token=...      host/folder/name.jpg
    s3://bucket/folder/name.jpg                 bucket/folder/name.jpg
    folder/name.jpg                             folder/name.jpg

Uploaded files get eight hexadecimal digits before their names; a file is looked for with them first, then without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from curate.formats.base import ReadOptions
from curate.formats.files import ImageLookup, is_image
from curate.formats.label_studio.config import Config
from curate.formats.label_studio.tasks import Task
from curate.formats.locations import safe_location
from curate.formats.values import mapping, sequence, text

OWN: Final = "curate"
"""Key, in the ``meta`` of tasks and regions that curate wrote, of what Label Studio has no place for."""

_UPLOAD_PREFIX: Final = re.compile(r"^[0-9a-f]{8}-(?=.)")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_IMAGE_KEY: Final = re.compile(r"image|img|picture|photo|page|frame", re.IGNORECASE)
_NUMBERED: Final = re.compile(r"_(\d{1,6})$")
_LIKE_A_PATH: Final = re.compile(r"\S*[/.]\S*")
_INLINE: Final = "data:"


@dataclass(frozen=True, slots=True)
class TaskImage:
    """An image of a task.

    Attributes:
        key: The data's field.
        item: Its place where the field is a list, else None.
        reference: As it is given.
    """

    key: str
    item: int | None
    reference: str

    @property
    def is_inline(self) -> bool:
        """Whether the reference is the image itself."""
        return self.reference.startswith(_INLINE)

    @property
    def name(self) -> str:
        """What tells it from the task's other images: 'image', 'pages.3'."""
        return self.key if self.item is None else f"{self.key}.{self.item}"


class Places:
    """Locations and files of images.

    Args:
        root: The import's folder.
        options: `images` is another place to look in.
    """

    def __init__(self, root: Path, options: ReadOptions) -> None:
        folder = root if options.images is None else options.images.absolute()
        self._base = root if folder.is_relative_to(root) else folder
        self._lookup = ImageLookup(folder)

    def find(self, image: TaskImage, task: Task) -> tuple[str, Path | None]:
        """Location and file of an image; None where there is no file."""
        if image.is_inline:
            return f"task-{safe_location(str(task.id)) or 'image'}", None
        location = location_of(image.reference)
        folders, _, name = location.rpartition("/")
        plain = _UPLOAD_PREFIX.sub("", name)
        names = [text(own_of(task, image).get("file")), location]
        if plain != name:
            names.append(f"{folders}/{plain}" if folders else plain)
        for each in filter(None, names):
            path = self._lookup.find(each)
            if path is not None:
                return path.relative_to(self._base).as_posix(), path
        return location, None


def location_of(reference: str) -> str:
    """What a reference names, without addresses of servers' own making; never outside the dataset."""
    try:
        parts = urlsplit(reference)
    except ValueError:  # "http://[": no address after all
        return safe_location(reference) or "image"
    if parts.path.rstrip("/").endswith("/data/local-files") or parts.path.startswith("data/local-files"):
        inner = parse_qs(parts.query).get("d", [""])[0]
        return safe_location(inner) or "image"
    if parts.path.startswith("/data/upload/") and not parts.netloc:
        return safe_location(unquote(parts.path.removeprefix("/data/")))
    if _ADDRESS.match(reference):
        query = f"?{parts.query}" if parts.query and not is_image(parts.path) else ""
        return safe_location(unquote(f"{parts.netloc}/{parts.path}") + query) or "image"
    return safe_location(reference) or "image"


def images_of(task: Task, config: Config) -> list[TaskImage]:
    """The images that a task shows, in the order of its data.

    They are the fields that the configuration's images show; without one, those that end as image files do, else those that
    are called so, else the only text, if it may be a path.
    """
    found = [image for key, value in task.data.items() for image in _images(key, value)]
    shown = {key.partition("[")[0] for key in config.images.values()}
    for chosen in (
        [image for image in found if image.key in shown],
        [image for image in found if image.is_inline or is_image(_path(image.reference))],
        [image for image in found if _IMAGE_KEY.search(image.key)],
    ):
        if chosen:
            return chosen
    return found if len(task.data) == 1 and len(found) == 1 and _LIKE_A_PATH.fullmatch(found[0].reference) else []


def image_of(result: Mapping[str, Any], task: Task, images: list[TaskImage], config: Config) -> int | str:
    """Which of the task's images a result is on; a text that says why, where it is on none."""
    to_name = text(result.get("to_name"))
    if to_name in config.others:
        return f"of '{to_name}', which is not an image"
    name = to_name.removeprefix("$")
    key = config.images.get(to_name, name).partition("[")[0]
    rows = [row for row, image in enumerate(images) if image.key == key]
    if not rows and name in task.data:
        return f"of '{to_name}', which is not an image"
    rows = rows or list(range(len(images)))
    item = result.get("item_index")
    if not isinstance(item, int) and (numbered := _NUMBERED.search(to_name)):
        item = int(numbered.group(1))
    if len(rows) > 1:
        rows = [row for row in rows if images[row].item == (item or 0)]
    return rows[0] if len(rows) == 1 else "on one of a task's images, and it is not said on which"


def own_of(task: Task, image: TaskImage) -> dict[str, Any]:
    """What curate wrote of an image when it wrote the task: its file, its split ..."""
    own = mapping(mapping(task.extra.get("meta")).get(OWN))
    return mapping(mapping(own.get("images")).get(image.name))


def _images(key: str, value: Any) -> Iterator[TaskImage]:
    if isinstance(value, str):
        if value.strip() and "\n" not in value:
            yield TaskImage(key, None, value.strip())
        return
    for number, each in enumerate(sequence(value)):
        # A list of references, or of pages with one each.
        texts = (
            [each] if isinstance(each, str) else [inner for inner in mapping(each).values() if isinstance(inner, str)]
        )
        references = [each for each in texts if is_image(_path(each))] or texts[:1]
        if len(references) == 1 and references[0].strip():
            yield TaskImage(key, number, references[0].strip())


def _path(reference: str) -> str:
    return location_of(reference).partition("?")[0]
