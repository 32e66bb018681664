"""The rows of Open Images' CSV files as annotations, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import Hashes, annotation_ids, ordinals, to_ids
from curate.formats.columns import Flags, Floats, Ints, annotations_table, fixed_lists, prediction_scores
from curate.formats.losses import LossReport
from curate.formats.open_images.images import Images
from curate.formats.open_images.masks import Masks, box_keys, draw_mask
from curate.formats.open_images.tables import Codes, TableFile, as_numbers, batches
from curate.formats.orientation import orient_annotations
from curate.geometry import rle_boxes
from curate.names import GROUND_TRUTH, PREDICTIONS

MACHINE_LAYER: Final = f"{PREDICTIONS}open_images"
"""Where labels by a machine go."""

_CORNERS: Final = ("XMin", "XMax", "YMin", "YMax")
_FLAGS: Final = {"IsOccluded": "occluded", "IsTruncated": "truncated", "IsDepiction": "depiction", "IsInside": "inside"}
_SAID: Final = ("Source", "Confidence", *_FLAGS)
LABEL_COLUMNS: Final = ("ImageID", "LabelName", "Source", "Confidence")
"""Columns of the files of labels."""

BOX_COLUMNS: Final = ("ImageID", "LabelName", *_CORNERS, "IsGroupOf", *_SAID)
"""Columns of the files of boxes."""

CLICK_COLUMNS: Final = tuple(f"XClick{number}{axis}" for number in range(1, 5) for axis in "XY")
"""Further columns of boxes that were made by four clicks."""

_MASKS_AT_ONCE: Final = 1024
_NO_SIZE: Final = "the image's size is not known, and coordinates are parts of it"


@dataclass
class Rows:
    """Turns rows into annotations.

    Attributes:
        images: The dataset's images.
        ids: Numbers of the image ids.
        mids: Numbers of the MIDs.
        names: What people call each MID.
        masks: Every mask there is.
        layer: The layer asked for.
        losses: Gets rows that cannot be kept.
        counts: How many annotations of each kind every image has so far.
        drawn: Which masks are part of a box by now.
    """

    images: Images
    ids: Codes
    mids: Codes
    names: pa.Array
    masks: Masks
    layer: str
    losses: LossReport
    counts: dict[str, Ints] = field(default_factory=dict)
    drawn: Flags = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = np.zeros(len(self.masks.key), dtype=np.bool_)

    def of_boxes(self, file: TableFile) -> Iterator[pa.Table]:
        """The boxes of a file, with the masks that belong to them."""
        has_clicks = set(CLICK_COLUMNS) <= set(file.header)
        for batch in batches(file, (*BOX_COLUMNS, *(CLICK_COLUMNS if has_clicks else ())), self.losses):
            image, label, kept = self._place(batch, file)
            corners = np.stack([as_numbers(batch[name]) for name in _CORNERS], axis=1)
            finite = np.isfinite(corners).all(axis=1)
            self._drop(kept & ~finite, "coordinates that are not finite numbers", batch, file)
            has_size = (self.images.stored[image] > 0).all(axis=1)
            self._drop(kept & finite & ~has_size, _NO_SIZE, batch, file)
            kept &= finite & has_size
            rows, mask = np.flatnonzero(kept), pa.array(kept)
            image, label, corners = image[rows], label[rows], corners[rows]
            said = {name: column.filter(mask) for name, column in batch.items()}
            group_of = as_numbers(said["IsGroupOf"])
            columns_of = {
                "type": "box",
                "bbox": fixed_lists(self._boxes(corners, image)),
                "iscrowd": pa.array(group_of == 1, mask=~np.isin(group_of, (0, 1))),
                "attributes": self._attributes(said, has_clicks, file),
            }
            if len(self.masks.key):
                columns_of |= self._masks_of(box_keys(image, label, corners), image, columns_of["attributes"])
            yield self._table("boxes", image, label, said["Confidence"], columns_of, file)

    def of_labels(self, file: TableFile) -> Iterator[pa.Table]:
        """The labels of a file that are not marked as absent; those by a machine apart."""
        for batch in batches(file, LABEL_COLUMNS, self.losses):
            image, label, kept = self._place(batch, file)
            absent = kept & (as_numbers(batch["Confidence"]) == 0)
            reason = "verified as absent: in the image's metadata"
            self.losses.converted("labels", reason, file.name, int(absent.sum()))
            by_machine = np.asarray(pc.equal(batch["Source"], "machine").fill_null(False))
            for layer, chosen in ((None, kept & ~absent & ~by_machine), (MACHINE_LAYER, kept & ~absent & by_machine)):
                if not chosen.any():
                    continue
                layer = layer if layer and self.layer == GROUND_TRUTH else self.layer
                said = {name: column.filter(pa.array(chosen)) for name, column in batch.items()}
                columns = {"type": "label", "attributes": self._attributes(said, False, file, layer)}
                yield self._table("labels", image[chosen], label[chosen], said["Confidence"], columns, file, layer)

    def of_masks(self) -> Iterator[pa.Table]:
        """The masks that belong to no box."""
        alone = np.flatnonzero(~self.drawn)
        for first in range(0, len(alone), _MASKS_AT_ONCE):
            rows, runs, sizes, attributes, ids = [], [], [], [], []
            for row in alone[first : first + _MASKS_AT_ONCE].tolist():
                drawn = draw_mask(self.masks, row, self.images.stored[self.masks.image[row]], self.losses)
                if drawn is not None:
                    rows.append(row)
                    runs.append(drawn[0])
                    sizes.append(drawn[1])
                    attributes.append(self._mask_attributes(row, {}))
                    ids.append(self.masks.texts[row][0])
            image = self.masks.image[rows]
            boxes = self._boxes(self.masks.box[rows], image)
            around = rle_boxes(runs, np.array(sizes, dtype=np.int64).reshape(-1, 2)) if runs else boxes
            columns = {
                "type": "mask",
                "bbox": fixed_lists(np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, around)),
                "rle": runs,
                "rle_size": sizes,
                "attributes": attributes,
                "source_id": ids,
            }
            nothing = pa.nulls(len(rows), pa.string())
            yield self._table("masks", image, self.masks.label[rows], nothing, columns, None)

    def _place(self, batch: Mapping[str, pa.Array], file: TableFile) -> tuple[Ints, Ints, Flags]:
        """Image row and MID number of each row, and which rows can be kept; images are 0 where not."""
        number = self.ids.of(batch["ImageID"], grow=False)
        label = self.mids.of(batch["LabelName"], grow=False)
        named = (number >= 0) & (label >= 0)
        self._drop(~named, "no image or no class is named", batch, file)
        image = np.where(named, self.images.row[number], -1) if len(self.images.row) else number
        self._drop(named & (image < 0), "their image is not there, as most that are listed", batch, file)
        kept: Flags = named & (image >= 0)
        return np.where(kept, image, 0), label, kept

    def _drop(self, rows: Flags, reason: str, batch: Mapping[str, pa.Array], file: TableFile) -> None:
        if rows.any():
            first = batch["ImageID"][int(np.flatnonzero(rows)[0])].as_py()
            self.losses.dropped("annotations", reason, f"{file.name}: {first}", int(rows.sum()))

    def _boxes(self, corners: Floats, image: Ints) -> Floats:
        """[x, y, width, height] in pixels, from parts of the image as it is stored."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = corners * np.repeat(
                np.where(self.images.stored[image] > 0, self.images.stored[image], np.nan), 2, axis=1
            )
            left, right, top, bottom = scaled.T
            return np.stack([left, top, right - left, bottom - top], axis=1)

    def _attributes(
        self, said: Mapping[str, pa.Array], has_clicks: bool, file: TableFile, layer: str | None = None
    ) -> pa.Array:
        """Attributes as JSON: rows that say the same are written once."""
        names = [name for name in _SAID if name in said]
        empty = pa.scalar("", pa.string())
        joined = pc.binary_join_element_wise(*(pc.coalesce(said[name], empty) for name in names), "\t")
        encoded = joined.dictionary_encode()
        keeps_score = (layer or self.layer).startswith(PREDICTIONS)
        texts = [
            _attributes_text(dict(zip(names, text.split("\t"), strict=False)), keeps_score)
            for text in encoded.dictionary.to_pylist()
        ]
        attributes = pa.array(texts, pa.string()).take(encoded.indices)
        return self._with_clicks(attributes, said, file) if has_clicks else attributes

    def _with_clicks(self, attributes: pa.Array, said: Mapping[str, pa.Array], file: TableFile) -> pa.Array:
        """Add the four points that a box was made by: parts of the image, as they are."""
        clicks = np.stack([as_numbers(said[name]) for name in CLICK_COLUMNS], axis=1)
        known = np.isfinite(clicks).all(axis=1) & (clicks >= 0).all(axis=1)
        if not known.any():
            return attributes
        points = pc.binary_join_element_wise(*(pa.array(column).cast(pa.string()) for column in clicks.T), ", ")
        opened = pc.replace_substring_regex(pc.coalesce(attributes, pa.scalar("{")), r"\}$", ", ")
        with_points = pc.binary_join_element_wise(opened, '"extreme_points": [', points, "]}", "")
        return pc.if_else(pa.array(known), with_points, attributes)

    def _masks_of(self, keys: Hashes, image: Ints, attributes: pa.Array) -> dict[str, Any]:
        """The columns that change where a box has a mask."""
        place = np.minimum(np.searchsorted(self.masks.key, keys), len(self.masks.key) - 1)
        matches = np.flatnonzero(self.masks.key[place] == keys)
        columns: dict[str, list[Any]] = {
            "type": ["box"] * len(keys),
            "rle": [None] * len(keys),
            "rle_size": [None] * len(keys),
            "source_id": [None] * len(keys),
            "attributes": attributes.to_pylist() if len(matches) else [None] * len(keys),
        }
        for row, mask in zip(matches.tolist(), place[matches].tolist(), strict=True):
            if self.drawn[mask]:
                continue
            self.drawn[mask] = True
            drawn = draw_mask(self.masks, mask, self.images.stored[image[row]], self.losses)
            if drawn is not None:
                said = json.loads(columns["attributes"][row] or "{}")
                columns["attributes"][row] = self._mask_attributes(mask, said)
                columns["type"][row], columns["source_id"][row] = "mask", self.masks.texts[mask][0]
                columns["rle"][row], columns["rle_size"][row] = drawn
        return columns if len(matches) else {}

    def _mask_attributes(self, row: int, said: dict[str, Any]) -> str | None:
        _, iou, clicks = self.masks.texts[row]
        said |= {"predicted_iou": value} if (value := _number(iou)) is not None else {}
        said |= {"clicks": clicks} if clicks else {}
        return json.dumps(said, ensure_ascii=False) if said else None

    def _table(
        self,
        kind: str,
        image: Ints,
        label: Ints,
        confidence: pa.Array,
        columns: dict[str, Any],
        file: TableFile | None,
        layer: str | None = None,
    ) -> pa.Table:
        layer = layer or self.layer
        count = self.counts.setdefault(f"{layer}\0{kind}", np.zeros(len(self.images.hashes), dtype=np.int64))
        place = count[image] + ordinals(image.astype(np.uint64)).astype(np.int64)
        np.add.at(count, image, 1)
        hashes = self.images.hashes[image]
        scores = as_numbers(confidence)
        scores = (
            np.where(np.isfinite(scores), scores, np.nan)
            if layer.startswith(PREDICTIONS)
            else np.full(len(scores), np.nan)
        )
        own = {
            "annotation_id": annotation_ids(hashes, layer, kind, keys=place.astype(np.uint64)),
            "image_id": to_ids(hashes),
            "layer": layer,
            "label": self.names.take(pa.array(label)),
            "score": prediction_scores(scores, layer, kind, self.losses),
            "source": None if file is None else file.name,
        }
        table = annotations_table(len(image), own | columns)
        return orient_annotations(table, image, self.images.headers, self.images.raw)


def _attributes_text(said: Mapping[str, str], keeps_score: bool) -> str | None:
    """The attributes of rows that say the same, as JSON; what is unknown (-1) is left out."""
    attributes: dict[str, Any] = {
        name: said[column] == "1" for column, name in _FLAGS.items() if said.get(column) in {"0", "1"}
    }
    if said.get("Source"):
        attributes["source"] = said["Source"]
    confidence = _number(said.get("Confidence"))
    if not keeps_score and confidence not in {None, 1.0}:
        attributes["confidence"] = confidence
    return json.dumps(attributes, ensure_ascii=False) if attributes else None


def _number(text: str | None) -> float | None:
    """A finite number, or None."""
    value = float(as_numbers(pa.array([text], pa.string()))[0])
    return value if np.isfinite(value) else None
