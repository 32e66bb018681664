"""Which image of the dataset an item on the server is; images that are only there are downloaded, once."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from curate.checks.measures.content import content_hash, update_content_hashes
from curate.connectors.base import Connector, Item
from curate.connectors.sync.local import Local
from curate.dataset.ids import image_ids
from curate.errors import ImageError, InputError
from curate.files import write_atomic
from curate.formats.locations import file_name, safe_location
from curate.formats.losses import LossReport
from curate.imaging import read_header

_AT_ONCE: Final = 4


@dataclass
class Images:
    """The images of a dataset, found by location and by content.

    Args:
        local: The dataset's side.
        connector: The other.
        losses: Images that cannot be had.
    """

    local: Local
    connector: Connector
    losses: LossReport
    rows: dict[str, dict[str, Any]] = field(init=False)
    _ids_of_hash: dict[str, str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.rows = {row["image_id"]: row for row in self.local.transaction.read("images").to_pylist()}

    def match(self, items: Sequence[Item], taken: Collection[str], *, last: bool) -> dict[str, str]:
        """Ids of the images that items are, by the items' ids; what is new is downloaded and will be written.

        Args:
            items: Items that nothing is linked to.
            taken: Images that are items already: an image is never two items of a project.
            last: Whether `taken` is final. If not, items whose image is taken are left out of the result.
        """
        found: dict[str, str] = {}
        used = set(taken)
        rest = []
        for item in items:
            own = self.by_own_id(item) or self._by_hash(item.content_hash)
            if own is None or (own in used and last):
                rest.append(item)
            elif own not in used:
                found[item.remote_id] = own
                used.add(own)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for item, (path, is_new) in zip(rest, pool.map(self._file_of, rest), strict=True):
                own = None if path is None else self._by_hash(content_hash(str(path)))
                if own is None or (own in used and last):
                    own = self._add(item, path)
                elif own in used:
                    continue
                elif path is not None and is_new:
                    path.unlink()  # the dataset has these bytes
                found[item.remote_id] = own
                used.add(own)
        return found

    def update(self, image_id: str, item: Item) -> None:
        """Note what the server says of an image that is here: its state there, and its split where it has none."""
        row = self.rows[image_id]
        metadata = self.metadata(image_id)
        said = {**metadata, **item.metadata}
        split = row["split"] or item.split
        if said != metadata or split != row["split"]:
            row |= {"metadata": said, "split": split}
            self.local.images[image_id] = row

    def metadata(self, image_id: str) -> dict[str, Any]:
        """What is known of an image that has no column."""
        text = self.rows[image_id]["metadata"]
        return dict(json.loads(text)) if isinstance(text, str) else dict(text or {})

    def by_own_id(self, item: Item) -> str | None:
        """The image that curate pushed as this item: its location and its bytes are the same."""
        row = self.rows.get(item.image_id or "")
        if row is None:
            return None
        if item.content_hash is not None and row["path"] is not None:
            row["content_hash"] = row["content_hash"] or content_hash(row["path"])
            if row["content_hash"] not in (None, item.content_hash):
                return None
        return str(row["image_id"])

    def _by_hash(self, hash_: str | None) -> str | None:
        """The image that was here before with the same bytes."""
        if hash_ is None:
            return None
        if self._ids_of_hash is None:
            self._ids_of_hash = self._hashes()
        return self._ids_of_hash.get(hash_)

    def _hashes(self) -> dict[str, str]:
        """Ids by content of the images that were here before; files that nobody has hashed are hashed now."""
        transaction = self.local.transaction
        if not self.rows:
            return {}
        update_content_hashes(transaction, transaction.read("images", columns=["image_id", "path"]))
        rows = transaction.read("images", columns=["image_id", "content_hash"]).to_pylist()
        for row in rows:
            self.rows[row["image_id"]]["content_hash"] = row["content_hash"]
        return {row["content_hash"]: row["image_id"] for row in reversed(rows) if row["content_hash"]}

    def _file_of(self, item: Item) -> tuple[Path | None, bool]:
        """The item's file in the dataset's folder, None if it cannot be had; and whether it was downloaded just now."""
        name = file_name(safe_location(item.location).rpartition("/")[2]) or "image"
        path = self.folder / file_name(re.sub(r"[^\w.-]", "-", item.remote_id)) / name
        if path.is_file():
            return path, False
        try:
            content = self.connector.download(item)
        except InputError as error:
            self.losses.converted("images", f"cannot be downloaded ({error.what}); kept without a file", item.location)
            return None, False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
        return path, True

    @property
    def folder(self) -> Path:
        """Where downloads lie: one folder for each project."""
        return self.local.transaction.base.path / "files" / file_name(re.sub(r"[^\w.-]+", "-", self.local.remote))

    def _add(self, item: Item, path: Path | None) -> str:
        """A new image; the same item has the same location each time, whatever else is in the project."""
        location = safe_location(item.location) or "image"
        image_id = image_ids([location])[0].as_py()
        if image_id in self.rows:
            location = f"{file_name(self.local.remote)}/{file_name(item.remote_id)}/{location}"
            image_id = image_ids([location])[0].as_py()
        width, height = self._size(item, path)
        row = {
            "image_id": image_id,
            "location": location,
            "path": None if path is None else str(path),
            "width": width,
            "height": height,
            "content_hash": None if path is None else content_hash(str(path)),
            "split": item.split,
            "tags": None if item.tags is None else list(item.tags),
            "group": item.group,
            "frame": item.frame,
            "metadata": dict(item.metadata),
            "source": self.local.remote,
            "source_id": item.remote_id,
        }
        self.rows[image_id] = self.local.images[image_id] = row
        return str(image_id)

    def _size(self, item: Item, path: Path | None) -> tuple[int | None, int | None]:
        if path is not None:
            try:
                header = read_header(path)
            except ImageError as error:
                self.losses.converted("images", f"cannot be read ({error.what}); kept as they are", item.location)
            else:
                return header.width, header.height
        return item.size or (None, None)
