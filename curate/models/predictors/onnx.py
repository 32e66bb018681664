"""Any detector, segmenter, classifier or depth estimator in ONNX; see `curate.models.runtime` for what runs it.

Layouts of outputs are recognised, or described in a JSON file beside the model: `curate.models.predictors.sidecar`.

``onnx:PATH?precision=bf16`` is faster and less exact, where OpenVINO is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from msgspec.structs import replace as replace_struct

from curate.errors import InputError, UsageError
from curate.imaging import Pixels
from curate.models.encoders.external_data import external_files
from curate.models.encoders.weights import weights_digest
from curate.models.predictors.base import Options, Prediction
from curate.models.predictors.coco import coco_names
from curate.models.predictors.layouts.numbers import Outputs
from curate.models.predictors.layouts.read import count_classes, output_names, read
from curate.models.predictors.network import Network, open_network
from curate.models.predictors.postprocess import Limits
from curate.models.predictors.preparation import Prepared, make_preparation
from curate.models.predictors.recognise import Known, recognise
from curate.models.predictors.sidecar import DepthMapLayout, Detections, Rows, Sidecar, read_sidecar, sidecar_path
from curate.models.runtime import Precision, precision_suffix, split_precision
from curate.wording import counted

_BACKGROUND: Final = "background"
_BLANK_SIDE: Final = 256  # of an image to try a model with that takes any size
_LIST_RANK: Final = 2  # of a list of boxes that has no axis for the batch


def load(argument: str, options: Options) -> OnnxPredictor:
    """Load a model from an ONNX file.

    Args:
        argument: Path of the file.
        options: Which objects count.

    Raises:
        UsageError: No path was given, or prompts, which no such model understands.
        InputError: The file or its sidecar cannot be read, or it is not clear what the model gives.
    """
    if not argument:
        raise UsageError("'onnx' needs the path of a model", remedy="write onnx:PATH")
    location, precision = split_precision(argument)
    path = Path(location).expanduser()
    if not path.is_file():
        raise InputError("the ONNX file is not there", where=path)
    beside = [each for each in (*external_files(path), sidecar_path(path)) if each.is_file()]
    digest = weights_digest(path, *beside)
    return open_predictor(f"onnx:{path.name}{precision_suffix(precision)}@{digest}", path, options, precision)


def open_predictor(name: str, path: Path, options: Options, precision: Precision = "f32") -> OnnxPredictor:
    """A predictor from an ONNX file and the sidecar beside it, under a name that is unique to them.

    Raises:
        UsageError: There are prompts, which no such model understands.
        InputError: As for `load`.
    """
    if options.prompts:
        raise UsageError(
            "an ONNX model does not take prompts", where=path, remedy="leave --prompts out, or use an 'hf:' model"
        )
    sidecar = read_sidecar(path)
    network = open_network(path, sidecar, precision)
    known = recognise(network, sidecar)
    return OnnxPredictor(name, network, known, options)


class OnnxPredictor:
    """An ONNX file that is ready to run; see `curate.models.predictors.base.Predictor`.

    Attributes:
        sidecar: All that is known of the model, what was recognised included: fit to be written beside it.
        notes: What was guessed, for people.
    """

    def __init__(self, name: str, network: Network, known: Known, options: Options) -> None:
        sidecar = known.sidecar
        self.name = name
        self._path = network.path
        if sidecar.output is None or sidecar.task is None:
            raise ValueError("a predictor needs a sidecar that `recognise` has completed")
        self._output = sidecar.output
        self._names = output_names(sidecar.output)
        self.task = sidecar.task
        self._limits = _limits(options, sidecar)
        try:
            self._preparation = make_preparation(sidecar, network.entry.dtype)
            self.input_size = self._preparation.input_size
            self._network, count = self._try(network)
        except InputError as error:
            raise self._located(error) from error
        self.classes, notes = _class_names(network.path, known, count)
        self.notes = (*known.guesses, *notes)
        self.sidecar = replace_struct(sidecar, classes=self.classes)

    def prepare(self, pixels: Pixels) -> Prepared:
        """Scale and pad one image as the model wants it; uint8 of shape (height, width, 3), RGB."""
        return self._preparation.fit(pixels)

    def predict(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        """What is on n prepared images.

        Raises:
            InputError: The model fails, gives NaN, shapes that are not its layout's, or a class that has no name.
        """

        def read_one(number: int, outputs: Outputs) -> Prediction:
            return read(self._output, outputs, prepared[number].placement, self._limits, len(self.classes))

        try:
            return self._network.run([each.array for each in prepared], self._names, read_one, self._preparation.fill)
        except InputError as error:
            raise self._located(error) from error

    def _try(self, network: Network) -> tuple[Network, int | None]:
        """The network as it will be run, and how many classes it tells apart, from a run on blank images.

        Exporters promise any number of images for graphs that take one: such are given one at a time.
        """
        side = self._preparation.size or (_BLANK_SIDE, _BLANK_SIDE)
        blank = self._preparation(np.zeros((*side, 3), np.uint8))
        if isinstance(self._output, Detections | Rows):
            (rank,) = network.whole.run([blank.array], self._names[:1], lambda _, given: given[self._names[0]].ndim)
            if rank == _LIST_RANK:
                network = network.whole

        def count(_: int, outputs: Outputs) -> int | None:
            read(self._output, outputs, blank.placement, self._limits, sys.maxsize)
            return count_classes(self._output, outputs, blank.placement.input)

        try:
            counts = network.run([blank.array] * (network.batch or 2), self._names, count)
        except InputError:
            if network.batch is not None:
                raise
            network = replace(network, batch=1)
            counts = network.run([blank.array], self._names, count)
        return network, counts[0]

    def _located(self, error: InputError) -> InputError:
        """An error of a part that does not know the file."""
        if error.where == str(self._path):
            return error
        path = sidecar_path(self._path)
        remedy = error.remedy or f"say how its outputs are to be read in {path}"
        return InputError(error.what, where=self._path, remedy=remedy)


def _limits(options: Options, sidecar: Sidecar) -> Limits:
    """What counts: what a person asks for, else the sidecar's, else the default."""
    min_score, nms_iou = options.min_score, options.nms_iou
    if min_score == Options.min_score and sidecar.min_score is not None:
        min_score = sidecar.min_score
    if nms_iou == Options.nms_iou and sidecar.nms_iou is not None:
        nms_iou = sidecar.nms_iou
    return Limits(min_score, nms_iou, options.most_objects)


def _class_names(path: Path, known: Known, count: int | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of all classes, and what was guessed of them; `count` is None where only names tell how many there are."""
    names = known.names
    if isinstance(known.sidecar.output, DepthMapLayout):
        return (), ()
    if names is not None and count in (None, len(names.classes)):
        return names.classes, ()
    if names is not None and names.source == "sidecar":
        raise InputError(
            f"the sidecar names {len(names.classes)} classes, and the model tells {count} apart",
            where=sidecar_path(path),
            remedy="name each once, without a background",
        )
    if count is None:
        raise InputError(
            "the model gives class numbers, and nothing says what they mean",
            where=path,
            remedy=f"list the names in 'classes' in {sidecar_path(path)}, or in a file labels.txt beside the model",
        )
    if names is not None and names.background and count == len(names.classes) + 1:
        return (_BACKGROUND, *names.classes), ()
    notes = () if names is None else (f"{names.source} has {len(names.classes)} names, not {count}: not used",)
    coco = coco_names(count)
    if coco is not None:
        return coco, (*notes, f"nothing names the {count} classes; they are taken for COCO's")
    remedy = "name them in labels.txt beside the model, or in its sidecar"
    return tuple(f"class_{number}" for number in range(count)), (
        *notes,
        f"nothing names {counted(count, 'classes')}; {remedy}",
    )
