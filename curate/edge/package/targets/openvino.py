"""OpenVINO's own format: weights that are not quantised as float16, half the size; arithmetic on the device is float32."""

from __future__ import annotations

from typing import Final

from curate.edge.package.targets.base import Request, Written
from curate.errors import InputError, MissingExtra
from curate.runner import import_openvino

MODEL: Final = "model.xml"
WEIGHTS: Final = "model.bin"


def write(request: Request) -> Written:
    """Convert the model.

    Raises:
        MissingExtra: OpenVINO is not installed.
        InputError: It does not understand the model.
    """
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise MissingExtra("openvino", "openvino") from error
    source = request.source
    try:
        model = openvino.Core().read_model(source.path)
        openvino.save_model(model, request.folder / MODEL, compress_to_fp16=True)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"OpenVINO does not understand the model: {reason}", where=source.path, remedy="package it for onnx"
        ) from error
    return Written(MODEL, [MODEL, WEIGHTS])
