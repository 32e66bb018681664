"""INT8 by NNCF (Apache licence), where it is installed: as an ONNX file, so that every runtime takes it.

It corrects the biases that rounding shifts, and chooses what to quantise as OpenVINO computes best.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.edge.compress.graph import has_attention
from curate.errors import InputError, MissingExtra


def quantise_by_nncf(model: Any, entry: str, images: Sequence[npt.NDArray[Any]], path: Path) -> None:
    """Write an INT8 model.

    Args:
        model: As `curate.edge.compress.graph.ready` gives it.
        entry: Name of its input.
        images: Inputs of one row each, which calibrate.
        path: Of the file.

    Raises:
        MissingExtra: NNCF is not installed.
        InputError: It cannot quantise the model.
    """
    import onnx

    try:
        import nncf
    except ImportError as error:
        raise MissingExtra("nncf", "compress") from error
    data = nncf.Dataset([{entry: np.ascontiguousarray(image)} for image in images])
    kind = nncf.ModelType.TRANSFORMER if has_attention(model) else None
    try:
        with redirect_stdout(io.StringIO()):  # where it draws bars
            made = nncf.quantize(copy.deepcopy(model), data, subset_size=len(images), model_type=kind)
    except Exception as error:  # nncf's errors and onnxruntime's have no common base
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"NNCF cannot quantise the model: {reason}", where=path.name) from error
    onnx.save(made, str(path))
