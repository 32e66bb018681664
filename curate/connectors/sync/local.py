"""The dataset's side of a sync: reads the annotations of the images at hand, and gathers what is to be written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from curate.connectors.base import RemoteAnnotation, Row
from curate.connectors.sync.content import digest, rows_of, table_of
from curate.dataset import Transaction
from curate.dataset.ids import annotation_ids, hash_texts
from curate.dataset.query import in_layer, quote
from curate.dataset.schema import IMAGES
from curate.names import GROUND_TRUTH, PREDICTIONS

_IMAGES_AT_ONCE: Final = 500


@dataclass
class Local:
    """What a transaction reads and will write.

    Attributes:
        transaction: The commit being made.
        remote: Address of the project on the other side.
        written: Rows that are new or changed, by id.
        dropped: Ids of annotations to take away.
        images: Images that are new or changed, by id.
        known: Ids of the annotations that are there already.
    """

    transaction: Transaction
    remote: str
    written: dict[str, Row] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def rows(self, image_ids: Iterable[str]) -> dict[str, dict[str, Row]]:
        """The ground truth of some images: rows by annotation id, by image id."""
        return self._by_image(image_ids, in_layer(GROUND_TRUTH))

    def beside(self, image_ids: Iterable[str]) -> dict[str, dict[str, Row]]:
        """Everything but the ground truth of some images, in the same way."""
        return self._by_image(image_ids, f"NOT ({in_layer(GROUND_TRUTH)})")

    def write(self, row: Row) -> None:
        """Write a row that is new or changed."""
        self.written[row["annotation_id"]] = row
        self.dropped.discard(row["annotation_id"])

    def drop(self, annotation_ids: Iterable[str]) -> None:
        """Take annotations away."""
        for each in annotation_ids:
            self.written.pop(each, None)
            self.dropped.add(each)

    def new_row(self, image_id: str, location: str, remote: RemoteAnnotation) -> Row:
        """A row for what is only on the server; the same each time."""
        id_ = annotation_ids(hash_texts([location]), remote.layer, self.remote, keys=hash_texts([remote.remote_id]))[
            0
        ].as_py()
        own = {
            "annotation_id": id_,
            "image_id": image_id,
            "layer": remote.layer,
            "source": self.remote,
            "source_id": remote.remote_id,
        }
        return {**remote.row, "attributes": dict(remote.row.get("attributes") or {}), **own}

    def take_beside(
        self, image_id: str, location: str, there: Sequence[RemoteAnnotation], here: Mapping[str, Row]
    ) -> None:
        """Take the layers beside ground truth as they are on the server, in place of what came from there before.

        Predictions that the dataset has from elsewhere (curate has pushed them) are not taken a second time.

        Args:
            image_id: The image.
            location: Its location.
            there: Its annotations on the server in other layers than ground truth.
            here: Those in the dataset.
        """
        own = {row["layer"] for row in here.values() if row["source"] != self.remote}
        rows = [
            self.new_row(image_id, location, each)
            for each in there
            if not (each.layer.startswith(PREDICTIONS) and each.layer in own)
        ]
        for row in rows:
            known = here.get(row["annotation_id"])
            if known is None or digest(known) != digest(row):
                self.write(row)
        ids = {row["annotation_id"] for row in rows}
        self.drop(key for key, row in here.items() if row["source"] == self.remote and key not in ids)

    def finish(self) -> None:
        """Write all of it, and count it for the history."""
        transaction = self.transaction
        if self.images:
            known = transaction.base.table("images", columns=["image_id"])["image_id"].to_pylist()
            new = self.images.keys() - set(known)
            texts = [
                {**image, "metadata": json.dumps(image["metadata"], ensure_ascii=False) if image["metadata"] else None}
                for image in self.images.values()
            ]
            transaction.upsert("images", pa.Table.from_pylist(texts, schema=IMAGES), "image_id")
            transaction.count("images added", len(new))
            transaction.count("images changed", len(self.images) - len(new))
        changed = self.written.keys() & self.known
        transaction.delete("annotations", "annotation_id", pa.array(sorted(self.dropped & self.known), pa.string()))
        if self.written:
            transaction.upsert("annotations", table_of(self.written.values()), "annotation_id")
        transaction.count("annotations added", len(self.written) - len(changed))
        transaction.count("annotations changed", len(changed))
        transaction.count("annotations removed", len(self.dropped & self.known))

    def _by_image(self, image_ids: Iterable[str], condition: str) -> dict[str, dict[str, Row]]:
        found: dict[str, dict[str, Row]] = {image_id: {} for image_id in image_ids}
        for row in self._read(list(found), condition):
            found[row["image_id"]][row["annotation_id"]] = row
        return found

    def _read(self, image_ids: Sequence[str], condition: str) -> Iterable[Row]:
        for start in range(0, len(image_ids), _IMAGES_AT_ONCE):
            chosen = ", ".join(map(quote, image_ids[start : start + _IMAGES_AT_ONCE]))
            rows = rows_of(
                self.transaction.base.table("annotations", where=f"({condition}) AND image_id IN ({chosen})")
            )
            self.known.update(row["annotation_id"] for row in rows)
            yield from rows
