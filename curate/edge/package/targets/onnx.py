"""ONNX, for onnxruntime (and OpenVINO, which reads it as well): the model's own file."""

from __future__ import annotations

import shutil
from typing import Final

from curate.edge.package.targets.base import Request, Written

MODEL: Final = "model.onnx"


def write(request: Request) -> Written:
    """Copy the model."""
    shutil.copyfile(request.source.path, request.folder / MODEL)
    return Written(MODEL, [MODEL])
