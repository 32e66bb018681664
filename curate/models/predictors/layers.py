"""Predictions as a layer of a dataset, within a transaction: each image is predicted once for a model and its settings.

    predict_dataset      a predictor's pass over the images that it has not seen yet, or not as they are now
    write_predictions    predictions that were made elsewhere: out of fold, say

Both replace what the layer had on the images they speak of, and keep in the table `predicted/NAME` which images the model has
seen. What was found is spooled and written piece by piece, so memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.store import Transaction
from curate.errors import InputError, UsageError
from curate.models.passes import LeftOut, Progress, image_items, is_known
from curate.models.predictors.base import Options, Prediction, Predictor
from curate.models.predictors.class_names import ClassMapping, match_classes
from curate.models.predictors.layer_store import (
    Author,
    BoolArray,
    Images,
    LayerUpdate,
    Piece,
    choose_images,
    class_names,
    discard_spool,
    layer_name,
    open_spool,
    require_readable,
    seen_by,
    settings_text,
    spooled_pieces,
    spooled_rows,
    write_layer,
)
from curate.models.predictors.predict_pass import PredictorPass, spool_pass
from curate.models.predictors.results import result_rows
from curate.models.spool import Spool

_WRITTEN_AT_ONCE = 64


def predict_dataset(
    transaction: Transaction,
    predictor: Predictor,
    *,
    layer: str,
    where: str | None = None,
    ids: Sequence[str] | None = None,
    mapping: ClassMapping | None = None,
    options: Options | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> LayerUpdate:
    """Predict on the images that the predictor has not seen with these settings, or not as they are now.

    What the layer has on these images of another model, or of other settings, is replaced; whether that is meant is for the
    caller to find out (`curate.models.predictors.predict`). A run that is interrupted, or killed, goes on where it stopped.

    Args:
        transaction: The commit being made.
        predictor: What predicts.
        layer: 'predictions/NAME'.
        where: SQL condition on the images; None for all.
        ids: Of the images to predict on, among those that `where` chooses; None for all of them.
        mapping: Which of the predictor's classes is which of the dataset's; None to go by the names.
        options: What the predictor was loaded with.
        batch_size: Images for each call of the predictor; None for as many as fit well into memory.
        progress: Told (done, to do).

    Raises:
        UsageError: The condition cannot be understood or chooses no image, no class is common, or the predictor gives depths.
        InputError: Not one image can be read; or the predictor gives what cannot be.
    """
    require_annotations(predictor)
    layer, options = layer_name(layer), options or Options()
    mapping = mapping or match_classes(predictor.classes, class_names(transaction), model=predictor.name)
    author = Author(predictor.name, settings_text(mapping, options))
    images = choose_images(transaction, where, ids)
    items = image_items(images.table)
    computation = PredictorPass(predictor, mapping, options.nms_iou)
    spool = open_spool(transaction, layer, author, mapping.names)
    stored = is_known(items["id"], images.prints, seen_by(transaction, layer, author))
    todo = np.flatnonzero(~stored & ~is_known(items["id"], images.prints, spool.read(["id", "fingerprint"])))
    with closing(spool):
        left_out, _ = spool_pass(
            computation, spool, items, images.prints, todo, batch_size=batch_size, progress=progress
        )
    require_readable(left_out, items.num_rows)
    return _store(transaction, layer, author, images, stored, mapping, spool, left_out)


def require_annotations(predictor: Predictor) -> None:
    """Raise a `UsageError` if what a predictor gives are no annotations."""
    if predictor.task == "depth":
        raise UsageError(
            "a map of depths makes no annotations",
            where=predictor.name,
            remedy="name a detector, segmenter or classifier",
        )


def write_predictions(
    transaction: Transaction,
    layer: str,
    image_ids: Sequence[str],
    predictions: Iterable[Prediction],
    classes: Sequence[str],
    *,
    model: str,
    mapping: ClassMapping | None = None,
    nms_iou: float = Options.nms_iou,
) -> LayerUpdate:
    """Write predictions that are there already, in place of what the layer has on their images.

    Args:
        transaction: The commit being made.
        layer: 'predictions/NAME'.
        image_ids: Of n images of the dataset, each once.
        predictions: One for each of them, taken from as they are written. Sizes of objects and maps may differ from those
            of the images: they are scaled.
        classes: Names of the model's classes.
        model: Name of the model, unique to its numbers.
        mapping: Which of the model's classes is which of the dataset's; None to go by the names.
        nms_iou: As for `curate.models.predictors.results.result_rows`.

    Raises:
        UsageError: No class is common, or there is no image.
        InputError: An image is not in the dataset, or a prediction is of something that cannot be.
    """
    layer = layer_name(layer)
    mapping = mapping or match_classes(classes, class_names(transaction), model=model)
    author = Author(model, settings_text(mapping, None))
    images = choose_images(transaction, ids=image_ids)
    # A file that is not there now may well have been when it was predicted on.
    images = replace(images, prints=pc.fill_null(images.prints, "no file"))
    places = pc.index_in(pa.array(image_ids, pa.string()), value_set=images.ids)
    if places.null_count or len(places) != images.table.num_rows:
        raise InputError("predictions are of images that the dataset does not have, or has once", where=layer)
    spool = open_spool(transaction, layer, author, mapping.names)
    rest, start = iter(predictions), 0
    with closing(spool):
        while batch := list(islice(rest, _WRITTEN_AT_ONCE)):
            own = places.slice(start, len(batch))
            start += len(batch)
            rows = result_rows(batch, mapping, nms_iou, model)
            spool.add([images.ids.take(own), images.prints.take(own), *rows.columns])
    nothing = np.zeros(len(places), dtype=np.bool_)
    return _store(transaction, layer, author, images, nothing, mapping, spool, ())


def _store(
    transaction: Transaction,
    layer: str,
    author: Author,
    images: Images,
    stored: BoolArray,
    mapping: ClassMapping,
    spool: Spool,
    left_out: Sequence[LeftOut],
) -> LayerUpdate:
    """Write what is spooled of the images that are not `stored`."""
    wanted = spooled_rows(spool, images.table["image_id"], images.prints, stored)
    done = spool.read(["id"])["id"].filter(pa.array(wanted)).combine_chunks()

    def pieces() -> Iterator[Piece]:
        for piece in spooled_pieces(spool, wanted):
            yield Piece(np.asarray(pc.index_in(piece["id"], value_set=images.ids), dtype=np.int64), piece)

    rows = np.flatnonzero(np.asarray(pc.is_in(images.ids, value_set=done)))
    update = write_layer(transaction, layer, author, images, rows, mapping, pieces)
    discard_spool(transaction, spool, images.table["image_id"])
    return replace(update, reused=int(stored.sum()), left_out=left_out)
