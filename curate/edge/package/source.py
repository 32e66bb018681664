"""What is packaged: a model with its sidecar, where it came from, and how it is read by `curate.runner`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.errors import InputError, UsageError
from curate.models.encoders.external_data import external_files
from curate.models.predictors.base import Options, Predictor
from curate.models.predictors.layouts.read import output_names
from curate.models.predictors.network import Network, open_network
from curate.models.predictors.onnx import OnnxPredictor
from curate.models.predictors.preparation import make_preparation
from curate.models.predictors.registry import load_predictor
from curate.models.predictors.sidecar import Sidecar
from curate.models.training.runs import MODEL_FILE, Run, read_run, run_folder
from curate.runner import LAYOUTS

OUTPUT_KEYS: Final = ("output", "boxes", "scores", "logits")
"""What in `postprocess` names outputs of the model."""

TASKS: Final = ("classify", "detect", "segment")


@dataclass(frozen=True)
class Source:
    """A model that can be packaged.

    Attributes:
        spec: As it was named.
        path: The ONNX file.
        predictor: It, ready to run.
        sidecar: All that is known of it.
        network: Its input.
        run: What it was trained as; None for a file.
        sha256: Of the file.
    """

    spec: str
    path: Path
    predictor: OnnxPredictor
    sidecar: Sidecar
    network: Network
    run: Run | None
    sha256: str

    @property
    def name(self) -> str:
        """What a package of it is called where nobody says."""
        return self.path.stem if self.run is None else self.run.name.replace("/", "-")

    @property
    def parent(self) -> str | None:
        """Spec of the model that it was compressed from; None for any other."""
        return None if self.run is None else self.run.parent

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its input, with one row.

        Raises:
            UsageError: It takes images of any size.
        """
        size = make_preparation(self.sidecar, self.network.entry.dtype).size
        if size is None:
            raise UsageError(
                "the model takes images of any size, and this target needs one",
                where=self.path,
                remedy="give 'size' and 'resize' in the sidecar, or package it for onnx",
            )
        channels = 1 if self.sidecar.color == "gray" else 3
        return (1, channels, *size) if self.network.layout == "nchw" else (1, *size, channels)


def open_source(spec: str) -> Source:
    """Find and open the model that is to be packaged.

    Args:
        spec: 'run:NAME' or 'onnx:PATH'.

    Raises:
        UsageError: It is no such spec, or the run does not exist, or its precision is not the file's own.
        InputError: The model cannot be read, or is not one that a package's runner can read.
    """
    kind, _, argument = spec.partition(":")
    if kind not in ("run", "onnx") or "?" in argument:
        raise UsageError(
            f"'{spec}' cannot be packaged", where="--model", remedy="name a run, run:NAME, or a file, onnx:PATH"
        )
    predictor = load_predictor(spec, Options())
    assert isinstance(predictor, OnnxPredictor)
    path = run_folder(argument) / MODEL_FILE if kind == "run" else Path(argument).expanduser()
    sidecar = predictor.sidecar
    network = open_network(path, sidecar)
    _require_readable(path, predictor, sidecar, network)
    run = read_run(argument) if kind == "run" else None
    return Source(spec, path, predictor, sidecar, network, run, _digest(path))


def preprocessing(source: Source) -> dict[str, Any]:
    """`preprocess` of a manifest: the sidecar's fields with nothing left open."""
    sidecar = source.sidecar
    dtype = np.dtype(source.network.entry.dtype)
    made = make_preparation(sidecar, dtype)
    return {
        "input": source.network.entry.name,
        "dtype": dtype.name,
        "batch": source.network.batch,
        "size": None if made.size is None else list(made.size),
        "resize": made.resize,
        "crop": made.crop,
        "multiple": made.multiple,
        "pad": made.pad,
        "interpolation": made.interpolation,
        "color": made.color,
        "layout": made.layout,
        "scale": 1.0 if sidecar.scale is None else sidecar.scale,
        "mean": list(sidecar.mean or (0.0,)),
        "std": list(sidecar.std or (1.0,)),
    }


def postprocessing(source: Source) -> dict[str, Any]:
    """`postprocess` of a manifest: the output layout with its parameters, and which objects count."""
    output, sidecar, defaults = source.sidecar.output, source.sidecar, Options()
    assert output is not None
    parameters = {key: getattr(output, key) for key in output.__struct_fields__}
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}
    return {
        "layout": _layout(source.sidecar),
        **{key: value for key, value in kept.items() if value is not None},
        "outputs": output_names(output),
        "min_score": defaults.min_score if sidecar.min_score is None else sidecar.min_score,
        "nms_iou": defaults.nms_iou if sidecar.nms_iou is None else sidecar.nms_iou,
        "most_objects": defaults.most_objects,
    }


def _layout(sidecar: Sidecar) -> str:
    return str(sidecar.output.__struct_config__.tag)  # type: ignore[union-attr]  # `recognise` has completed it


def _require_readable(path: Path, predictor: Predictor, sidecar: Sidecar, network: Network) -> None:
    """See that a package's runner can read what the model gives.

    Raises:
        InputError: It cannot; says what it can.
    """
    if predictor.task not in TASKS:
        raise InputError(
            f"a model for '{predictor.task}' cannot be packaged", where=path, remedy=f"its task is {', '.join(TASKS)}"
        )
    layout, output = _layout(sidecar), sidecar.output
    strange = [key for key in ("priors", "prototypes", "masks") if getattr(output, key, None) is not None]
    if layout not in LAYOUTS or strange:
        told = f"layout '{layout}'" + (f" with {', '.join(strange)}" if strange else "")
        raise InputError(
            f"the model's outputs have {told}, which a package's runner does not read",
            where=path,
            remedy=f"export it with one of: {', '.join(LAYOUTS)}",
        )
    if not network.batched or network.sizes is not None:
        raise InputError(
            "the model does not take images alone, in batches",
            where=path,
            remedy="export it with one input, [n, c, h, w]",
        )
    if beside := external_files(path):
        raise InputError(
            f"the model's weights are in another file, {beside[0].name}",
            where=path,
            remedy="save it as one file: onnx.save(onnx.load(PATH), PATH)",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
