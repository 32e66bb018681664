"""Where predictions go: results in a spool, piece by piece, become annotations of a layer.

A layer is told for each image who says what is on it: a model, with some settings. What it has of an image is replaced as a
whole, so that no two authors are mixed on one image.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import Hashes, hash_text
from curate.dataset.query import in_layer
from curate.dataset.store import Transaction
from curate.errors import ImageError, InputError, UsageError
from curate.formats.base import ClassInfo
from curate.formats.importing import store_classes
from curate.formats.losses import LossReport
from curate.imaging import read_header
from curate.models.passes import LeftOut, fingerprints, image_items, is_known, is_last
from curate.models.predictors.base import Options
from curate.models.predictors.class_names import NOWHERE, ClassMapping
from curate.models.predictors.results import RESULTS, annotation_rows
from curate.models.predictors.seen import SEEN, SETTINGS_KEY, seen_table
from curate.models.spool import Spool, discard
from curate.names import ALL_LAYERS, ANNOTATORS, GROUND_TRUTH, PREDICTIONS, is_layer_name
from curate.wording import counted

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_SPOOLED: Final = pa.schema([SEEN.field("id"), SEEN.field("fingerprint"), *RESULTS])


@dataclass(frozen=True)
class LayerUpdate:
    """What bringing a layer of predictions up to date did.

    Attributes:
        layer: Its name.
        model: The model's.
        images: How many images were asked for.
        predicted: On how many of them there are new predictions, be it that there is nothing.
        reused: How many the model had seen before, as they are now.
        objects: How many annotations are new.
        left_out: Images without predictions, and why: they cannot be read.
        skipped: Boxes that no mask could be made for, and why.
        refused: On how many boxes there are no masks since the model cannot take their image, by the reason.
        dropped: How many things the model found, by its own classes, that the dataset has no class for.
        emptied: Of how many images that were not asked for the layer says nothing any more, since all of it was replaced.
    """

    layer: str
    model: str
    images: int
    predicted: int
    reused: int = 0
    objects: int = 0
    left_out: Sequence[LeftOut] = ()
    skipped: Sequence[LeftOut] = ()
    refused: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    emptied: int = 0


@dataclass(frozen=True)
class Author:
    """Who says what is in a layer.

    Attributes:
        model: The model's name.
        settings: JSON object of what else its predictions depend on (`settings_text`).
    """

    model: str
    settings: str

    @property
    def digest(self) -> str:
        """What stands for the settings in each row of a table."""
        return f"{hash_text(self.settings):016x}"


@dataclass(frozen=True)
class Images:
    """n images that are predicted on.

    Attributes:
        table: Columns image_id, path, width and height.
        prints: Texts that change when predictions would; null for a file that is not there.
    """

    table: pa.Table
    prints: pa.StringArray

    @property
    def ids(self) -> pa.StringArray:
        """Their ids."""
        return self.table["image_id"].combine_chunks()

    def sizes(self, rows: IntArray) -> IntArray:
        """[height, width] of k of them, 0 where neither the dataset nor the file tells; shape (k, 2)."""
        chosen = self.table.take(pa.array(rows))
        sides = [pc.fill_null(chosen[name], 0).to_numpy() for name in ("height", "width")]
        sizes = np.stack(sides, axis=1).astype(np.int64)
        for row in np.flatnonzero((sizes <= 0).any(axis=1)).tolist():
            sizes[row] = _size_in_file(chosen["path"][row].as_py())
        return sizes


@dataclass(frozen=True)
class Piece:
    """Results of some images, or of some boxes on them.

    Attributes:
        images: Row in `Images` of each of k results; shape (k,).
        results: Their columns of `curate.models.predictors.results.RESULTS`.
        keys: What tells each from others on its image, shape (k,); None where an image has one.
    """

    images: IntArray
    results: pa.Table
    keys: Hashes | None = None


def class_names(transaction: Transaction) -> list[str]:
    """Names of the dataset's classes, as the transaction has them so far."""
    return [info["name"] for info in transaction.classes]


def choose_images(transaction: Transaction, where: str | None = None, ids: Sequence[str] | None = None) -> Images:
    """The images that a condition, a list of ids, or both choose.

    Raises:
        UsageError: The condition cannot be understood, or chooses no image.
    """
    table = transaction.read("images", columns=["image_id", "path", "width", "height"], where=where)
    if ids is not None:
        table = table.filter(pc.is_in(table["image_id"], pa.array(ids, pa.string())))
    if table.num_rows == 0:
        raise UsageError(
            "there are no images to predict on",
            where=where or transaction.base.name,
            remedy="loosen --where, or import images",
        )
    return Images(table.combine_chunks(), fingerprints(image_items(table)))


def require_readable(left_out: Sequence[LeftOut], count: int) -> None:
    """Raise an `InputError` if not one of so many images could be read."""
    if left_out and len(left_out) == count:
        first = left_out[0]
        raise InputError(
            f"not one of {counted(count, 'images')} can be read; the first: {first.reason}",
            where=first.path or first.id,
            remedy="import again with --images FOLDER",
        )


def settings_text(mapping: ClassMapping | None, options: Options | None, **more: object) -> str:
    """What predictions depend on beside the model, as JSON: thresholds, prompts, which class is which."""
    settings: dict[str, Any] = {}
    if options is not None:
        settings |= {
            "min_score": options.min_score,
            "nms_iou": options.nms_iou,
            "most_objects": options.most_objects,
            "prompts": list(options.prompts),
        }
    if mapping is not None:
        settings["classes"] = mapping.to_json()
    return json.dumps(settings | more, sort_keys=True, ensure_ascii=False)


def authors(transaction: Transaction, layer: str) -> list[Author]:
    """Who says what is in a layer, as far as that is known."""
    if not transaction.has(seen_table(layer)):
        return []
    rows = transaction.read(seen_table(layer), columns=["model", "settings"])
    settings = _settings(transaction, layer)
    return [
        Author(row["model"], settings.get(row["settings"], "{}"))
        for row in rows.group_by(["model", "settings"]).aggregate([]).to_pylist()
    ]


def seen_by(transaction: Transaction, layer: str, author: Author) -> pa.Table:
    """Columns id and fingerprint of the images whose predictions in a layer are an author's."""
    if not transaction.has(seen_table(layer)):
        return SEEN.empty_table()
    rows = transaction.read(seen_table(layer))
    own = pc.and_(pc.equal(rows["model"], author.model), pc.equal(rows["settings"], author.digest))
    return rows.filter(own)


def open_spool(transaction: Transaction, layer: str, author: Author, names: Sequence[str]) -> Spool:
    """Where an author's results for a layer are kept until they are committed. Their labels are numbers of these names."""
    folder = transaction.base.path / "spool" / seen_table(layer).replace("/", "-")
    return Spool(folder, _SPOOLED, f"{author.model} {author.settings} {hash_text(json.dumps(list(names))):016x}")


def spooled_rows(spool: Spool, ids: pa.ChunkedArray, prints: pa.StringArray, stored: BoolArray) -> BoolArray:
    """Which rows of a spool are to be stored: the last ones of items as they are now that are not stored already.

    Args:
        spool: m rows.
        ids: Of n items.
        prints: Their fingerprints.
        stored: Which of them are stored, shape (n,).

    Returns:
        Shape (m,).
    """
    rows = spool.read(["id", "fingerprint"])
    lacking = ids.filter(pa.array(~stored))
    known = pa.table({"id": lacking, "fingerprint": prints.filter(pa.array(~stored))})
    return is_last(rows["id"]) & is_known(rows["id"], rows["fingerprint"].combine_chunks(), known)


def spooled_pieces(spool: Spool, wanted: BoolArray) -> Iterator[pa.Table]:
    """The rows wanted, part by part: they need not all fit into memory."""
    start = 0
    for piece in spool.pieces():
        rows = wanted[start : start + piece.num_rows]
        start += piece.num_rows
        if rows.any():
            yield piece.replace_schema_metadata(None).filter(pa.array(rows)).combine_chunks()


def discard_spool(transaction: Transaction, spool: Spool, ids: pa.ChunkedArray) -> None:
    """After the commit, delete the spool, unless it holds what a wider run left for the next one like it."""
    spooled = spool.read(["id"])["id"]
    if pc.all(pc.is_in(spooled, ids.combine_chunks())).as_py() is not False:
        transaction.after_commit(partial(discard, spool.parts()))


def clear_layer(transaction: Transaction, layer: str) -> pa.StringArray:
    """Take away all that a layer has; the ids of the images that it spoke of, if only to say that there is nothing."""
    rows = transaction.read("annotations", columns=["annotation_id", "image_id"], where=in_layer(layer))
    images = rows["image_id"].combine_chunks()
    transaction.delete("annotations", "annotation_id", rows["annotation_id"].combine_chunks())
    transaction.count("annotations removed", rows.num_rows)
    if transaction.has(seen_table(layer)):
        images = pa.concat_arrays([images, transaction.read(seen_table(layer))["id"].combine_chunks()])
        transaction.overwrite(seen_table(layer), [SEEN.empty_table()], SEEN)
        _keep_settings(transaction, layer, {})
    return pc.unique(images)


def write_layer(
    transaction: Transaction,
    layer: str,
    author: Author,
    images: Images,
    rows: IntArray,
    mapping: ClassMapping,
    pieces: Callable[[], Iterator[Piece]],
) -> LayerUpdate:
    """Replace what a layer has on some images.

    Args:
        transaction: The commit being made.
        layer: 'predictions/NAME'.
        author: Who says so.
        images: What `rows` and the pieces number.
        rows: The images that were seen, also those without a result.
        mapping: What the results' labels number. Names that are new to the dataset become classes of it if they occur.
        pieces: Gives the results, as often as it is called.
    """
    if not len(rows):
        return LayerUpdate(layer, author.model, images.table.num_rows, 0)
    ids = images.ids.take(pa.array(rows))
    _remove_annotations(transaction, layer, ids)
    _add_classes(transaction, mapping, pieces)
    place = {name: number for number, name in enumerate(mapping.names)}
    kept = np.array([place.get(name, NOWHERE) for name in class_names(transaction)], dtype=np.int64)
    dropped: Counter[str] = Counter()
    objects = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal objects
        for piece in pieces():
            numbers = np.asarray(pc.list_flatten(piece.results["left_out"]))
            dropped.update(mapping.classes[number] for number in numbers.tolist())
            own = images.ids.take(pa.array(piece.images))
            table = annotation_rows(
                own, piece.results, images.sizes(piece.images), layer, mapping.names, kept, piece.keys
            )
            objects += table.num_rows
            if table.num_rows:
                yield table

    found = tables()
    if (first := next(found, None)) is not None:
        transaction.append("annotations", chain([first], found))
    _note_seen(transaction, layer, author, ids, images.prints.take(pa.array(rows)))
    transaction.count("annotations added", objects)
    transaction.count("images predicted", len(rows))
    return LayerUpdate(layer, author.model, images.table.num_rows, len(rows), objects=objects, dropped=dropped)


def layer_name(text: str) -> str:
    """A layer of predictions by its name, with or without 'predictions/'.

    Raises:
        UsageError: It cannot be one.
    """
    name = PREDICTIONS + text.strip().removeprefix(PREDICTIONS)
    reserved = text.strip() in {GROUND_TRUTH, ALL_LAYERS} or text.startswith(ANNOTATORS)
    if reserved or not is_layer_name(name):
        raise UsageError(
            f"'{text}' cannot be a layer of predictions", where="--layer", remedy=f"write {PREDICTIONS}NAME, or NAME"
        )
    return name


def _remove_annotations(transaction: Transaction, layer: str, image_ids: pa.StringArray) -> None:
    if not transaction.has("annotations"):
        return
    rows = transaction.read("annotations", columns=["annotation_id", "image_id"], where=in_layer(layer))
    old = rows["annotation_id"].filter(pc.is_in(rows["image_id"], image_ids)).combine_chunks()
    transaction.delete("annotations", "annotation_id", old)
    transaction.count("annotations removed", len(old))


def _add_classes(transaction: Transaction, mapping: ClassMapping, pieces: Callable[[], Iterator[Piece]]) -> None:
    """Make names that are new to the dataset, and occur, classes of it."""
    new = sorted(set(mapping.names) - set(class_names(transaction)), key=mapping.names.index)
    if not new:
        return
    found: set[int] = set()
    for piece in pieces():
        objects = piece.results["objects"].combine_chunks().flatten()
        found.update(pc.unique(objects.field("label")).to_pylist())
    infos = [ClassInfo(name) for name in new if mapping.names.index(name) in found]
    store_classes(transaction, infos, LossReport())


def _note_seen(
    transaction: Transaction, layer: str, author: Author, ids: pa.StringArray, prints: pa.StringArray
) -> None:
    table = seen_table(layer)
    columns = [ids, prints, pa.repeat(author.model, len(ids)), pa.repeat(author.digest, len(ids))]
    if transaction.has(table):
        transaction.delete(table, "id", ids)
    transaction.append(table, [pa.table(columns, schema=SEEN)], SEEN)
    _keep_settings(transaction, layer, _settings(transaction, layer) | {author.digest: author.settings})


def _settings(transaction: Transaction, layer: str) -> dict[str, str]:
    """The settings that a layer was made with, by their digests."""
    return dict(transaction.info.get(SETTINGS_KEY, {}).get(layer, {}))


def _keep_settings(transaction: Transaction, layer: str, settings: Mapping[str, str]) -> None:
    layers = {**transaction.info.get(SETTINGS_KEY, {}), layer: dict(settings)}
    transaction.info = {**transaction.info, SETTINGS_KEY: {name: each for name, each in layers.items() if each}}


def _size_in_file(path: str | None) -> tuple[int, int]:
    """(height, width) that an image file states, (0, 0) if there is none."""
    if path is None:
        return 0, 0
    try:
        header = read_header(path)
    except ImageError:
        return 0, 0
    return header.height, header.width
