"""Torch modules as ONNX files, as everything that is exported here is written. What a file gives is for the caller to compare."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

# With one row alone the exporter would take the number for a constant.
_TRACED_ROWS: Final = 2


def write_onnx(
    module: Any,
    example: npt.NDArray[Any],
    path: Path,
    *,
    given: str,
    outputs: Sequence[str],
    any_rows: bool = True,
    external_data: bool = False,
) -> None:
    """Write a torch module of one input as an ONNX file.

    Args:
        module: In eval mode, on the CPU; gives a tensor, or as many as there are outputs.
        example: Input; of at least two rows where their number is left open.
        path: Of the file.
        given: Name of the input.
        outputs: Names of what it gives.
        any_rows: Whether the file takes any number of rows, or one.
        external_data: Whether the weights are written to a file beside it, as those of more than 2 GB must be.

    Raises:
        Exception: It cannot be exported; torch's errors and onnxscript's have no common base.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations within the exporter, which nobody here can mend
        torch.onnx.export(
            module,
            (torch.from_numpy(example[: _TRACED_ROWS if any_rows else 1]),),
            str(path),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("rows")},) if any_rows else None,
            input_names=[given],
            output_names=list(outputs),
            external_data=external_data,
            verbose=False,
        )
