"""Trained networks as ONNX files that give what torch gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import UnavailableError
from curate.models.encoders.hub import first_line
from curate.models.runtime import open_graph
from curate.models.torch_onnx import write_onnx

TOLERANCE: Final = 1e-3
"""How far an output of the file may be from torch's, as a part of the largest of its values."""

_REMEDY: Final = (
    "try a newer torch and onnxscript, or another --model; the trained weights are kept: --resume goes on from here"
)


def export_module(module: Any, example: npt.NDArray[Any], path: Path, *, outputs: Sequence[str]) -> None:
    """Write a torch module of one input as an ONNX file with any number of rows, and compare what it gives.

    Args:
        module: In eval mode, on the CPU; gives a tensor, or as many as there are outputs.
        example: Input of at least three rows.
        path: Of the file.
        outputs: Names of what it gives.

    Raises:
        UnavailableError: It cannot be exported, or gives something else.
    """
    import torch

    try:
        write_onnx(module, example, path, given="images", outputs=outputs)
        with torch.inference_mode():
            given = module(torch.from_numpy(example))
    except Exception as error:  # torch's and onnxscript's have no common base
        raise UnavailableError(
            f"the network cannot be exported to ONNX: {first_line(error)}", remedy=_REMEDY
        ) from error
    tensors = [given] if isinstance(given, torch.Tensor) else list(given)
    compare(path, example, {name: each.float().numpy() for name, each in zip(outputs, tensors, strict=True)})


def compare(path: Path, example: npt.NDArray[Any], expected: Mapping[str, npt.NDArray[Any]]) -> None:
    """See that a file gives what is expected of an example, for one row and for all of them.

    Args:
        path: Of the ONNX file.
        example: Its input, n rows.
        expected: Its outputs by name, n rows each.

    Raises:
        UnavailableError: It does not.
    """
    graph = open_graph(path, runtime="onnxruntime")
    for name, values in expected.items():
        one, every = graph.run([example[:1], example], name)
        scale = max(float(np.abs(values).max()), 1e-6)
        if one.shape != values[:1].shape or every.shape != values.shape:
            raise UnavailableError(
                f"the exported network gives shape {every.shape} as '{name}', torch {values.shape}",
                where=path,
                remedy=_REMEDY,
            )
        off = max(float(np.abs(one - values[:1]).max()), float(np.abs(every - values).max())) / scale
        if not off <= TOLERANCE:
            raise UnavailableError(
                f"the exported network gives another '{name}' than torch: off by {off:.2%}", where=path, remedy=_REMEDY
            )
