"""What a search looks for: words, an image file, or an image or annotation of the dataset; and its vector."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset import Dataset
from curate.dataset.query import quote
from curate.errors import InputError, UsageError
from curate.imaging import IMAGE_SUFFIXES, load_pixels
from curate.models.encoders.base import Encoder, Vectors, require_text
from curate.models.passes import crop_items, image_items
from curate.models.spaces import Content

_PREFIX: Final = re.compile(r"[0-9a-f]{4,15}")


@dataclass(frozen=True)
class Query:
    """What is looked for: exactly one of these.

    Attributes:
        text: Words that describe it.
        image: An image file.
        like: An image of the dataset, by id or location; of crops, an annotation by id. Four or more first digits of an id do.
    """

    text: str | None = None
    image: Path | None = None
    like: str | None = None

    def check(self) -> None:
        """Raise a `UsageError` unless it says one thing."""
        if [self.text, self.image, self.like].count(None) != 2:
            raise UsageError(
                "one thing is looked for at a time", remedy="give a text, or --image FILE, or --like ID; and only one"
            )
        if self.text is None:
            return
        if not self.text.strip():
            raise UsageError("an empty text describes nothing", remedy="say in words what to look for")
        path = Path(self.text)
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            raise UsageError("this is a file, not a text", where=path, remedy="--image searches by a file")


def encoded(query: Query, encoder: Encoder) -> Vectors | None:
    """The vector of a text or an image file, of shape (dimensions,); None for what the dataset holds.

    Raises:
        UsageError: The encoder knows no texts.
        ImageError: The image cannot be read.
        InputError: The vector is not made of numbers.
    """
    if query.text is not None:
        vector = require_text(encoder).encode_text([query.text])[0]
    elif query.image is not None:
        pixels = load_pixels(query.image, shortest_side=encoder.input_size)
        vector = encoder.encode([encoder.prepare(pixels)])[0]
    else:
        return None
    if not np.isfinite(vector).all():
        raise InputError(
            "the encoder gave a vector that is not made of numbers",
            where=encoder.name,
            remedy="check its weights and what input it expects",
        )
    return np.asarray(vector)


def item_like(dataset: Dataset, like: str, content: Content) -> pa.Table:
    """The image or annotation that is meant, as one row with the columns of `curate.models.passes.ITEMS`.

    Raises:
        UsageError: There is none, there are several, or the annotation has no box.
    """
    if content == "images":
        return image_items(_one(dataset, "images", like, "image_id", ["image_id", "location", "path"], "location"))
    annotation = _one(dataset, "annotations", like, "annotation_id", ["annotation_id", "image_id", "bbox"])
    image_id = quote(annotation["image_id"][0].as_py())
    image = dataset.table("images", columns=["image_id", "path"], where=f"image_id = {image_id}")
    if annotation["bbox"].null_count:
        raise UsageError("the annotation has no box", where=f"--like {like}", remedy="leave out --crops")
    return crop_items(annotation, image)


def _one(dataset: Dataset, table: str, like: str, key: str, columns: list[str], name: str | None = None) -> pa.Table:
    """The one row that has an id (or beginning of an id) or name."""
    condition = f"{key} = {quote(like)}" + (f" OR {name} = {quote(like)}" if name else "")
    found = dataset.table(table, columns=columns, where=condition)
    if not found.num_rows and _PREFIX.fullmatch(like):
        found = dataset.table(table, columns=columns, where=f"starts_with({key}, {quote(like)})")
    if found.num_rows == 1:
        return found
    what = table.removesuffix("s")
    if found.num_rows:
        raise UsageError(
            f"{found.num_rows:,} {table} have an id that begins with '{like}'",
            where="--like",
            remedy=f"give more of the id: {', '.join(pc.cast(found[key], pa.string()).to_pylist()[:3])} ...",
        )
    raise UsageError(
        f"the dataset has no {what} '{like}'",
        where=dataset.name,
        remedy="--json prints ids whole; --image searches by a file that is not in the dataset"
        + (f"; a {name} is given as it was imported" if name else ""),
    )
