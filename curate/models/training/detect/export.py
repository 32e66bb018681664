"""A trained detector as one ONNX file with raw boxes and scores, and the sidecar that says how to read them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import UnavailableError
from curate.models.encoders.hub import first_line
from curate.models.predictors.sidecar import BoxesScores, write_sidecar
from curate.models.runtime import open_graph
from curate.models.torch_onnx import write_onnx
from curate.models.training.detect.data import PREPARATION
from curate.models.training.exporting import export_module

Array = npt.NDArray[Any]

NMS_IOU: Final = 0.6
"""Of two boxes of a class that overlap more, the surer stays."""

_BOXES, _SCORES, _IMAGES = "boxes", "scores", "images"
_MODEL: Final = "model.onnx"
_PIXELS: Final = 0.5  # that a box may be off
_SCORE: Final = 1e-3
_FOUND_AGAIN: Final = 0.9
_NO_CHECKS: Final = "TRANSFORMERS_DISABLE_TORCH_CHECK"


def export_detector(
    module: Any, size: tuple[int, int], classes: tuple[str, ...], folder: Path, about: Mapping[str, str]
) -> Path:
    """Write `model.onnx` and `model.curate.json`.

    Args:
        module: A `Detector` in eval mode on the CPU.
        size: (height, width) of its input.
        classes: Names in the order of class numbers.
        folder: Where to.
        about: What it is and where it came from.

    Returns:
        Path of the ONNX file.

    Raises:
        UnavailableError: It cannot be exported, or gives something else than before.
    """
    path = folder / _MODEL
    coarse = np.random.default_rng(0).integers(0, 256, (3, 3, -(-size[0] // 8), -(-size[1] // 8)))
    pixels = coarse.repeat(8, axis=2).repeat(8, axis=3)[:, :, : size[0], : size[1]]
    images = np.ascontiguousarray(pixels, dtype=np.float32)
    if module.fixed_batch:
        _export_for_one(module, images, path)
    else:
        export_module(module, images, path, outputs=[_BOXES, _SCORES])
    write_sidecar(
        path,
        msgspec.structs.replace(
            PREPARATION,
            task="detect",
            classes=classes,
            input=_IMAGES,
            size=size,
            layout="nchw",
            output=BoxesScores(boxes=_BOXES, scores=_SCORES),
            nms_iou=NMS_IOU if module.suppress else 1.0,
            about=dict(about),
        ),
    )
    return path


def _export_for_one(module: Any, images: Array, path: Path) -> None:
    """Write a module that takes one image at a time, and compare what the file gives.

    Raises:
        UnavailableError: It cannot be exported, or gives something else.
    """
    import torch

    try:
        with torch.no_grad(), _without_checks():
            write_onnx(module, images, path, given=_IMAGES, outputs=[_BOXES, _SCORES], any_rows=False)
            expected = [[each.numpy() for each in module(torch.from_numpy(image[None]))] for image in images]
    except Exception as error:  # torch's and onnxscript's have no common base
        raise UnavailableError(f"the detector cannot be exported to ONNX: {first_line(error)}", where=path) from error
    graph = open_graph(path, runtime="onnxruntime")
    for image, wanted in zip(images, expected, strict=True):
        given = [graph.run([image[None]], name)[0] for name in (_BOXES, _SCORES)]
        off = difference(given, wanted)
        if not off <= 1:
            raise UnavailableError(
                f"the exported detector gives other boxes or scores than before: {off:.2g} times what is allowed",
                where=path,
                remedy="export it with another version of torch and transformers",
            )


def difference(given: Sequence[Array], wanted: Sequence[Array]) -> float:
    """How far two lists of queries for one image are apart, by what is allowed; not a number where shapes are wrong.

    Queries are chosen by their scores, so which of the least sure ones were, and in which order, may hang on the last digit:
    nine in ten of the surer half must be found again, at any place.

    Args:
        given: Boxes of shape (1, k, 4) and scores of shape (1, k, classes).
        wanted: The same.
    """
    if any(a.shape != b.shape for a, b in zip(given, wanted, strict=True)):
        return float("nan")
    a, b = (np.concatenate([boxes[0] / _PIXELS, scores[0] / _SCORE], axis=1) for boxes, scores in (given, wanted))
    surest = np.argsort(-wanted[1][0].max(axis=1))[: -(-len(b) // 2)]
    nearest = np.abs(b[surest, None] - a[None]).max(axis=2).min(axis=1)
    return float(np.quantile(nearest, _FOUND_AGAIN, method="lower"))


@contextmanager
def _without_checks() -> Iterator[None]:
    """Keep transformers from looking at values, which cannot be traced."""
    before = os.environ.get(_NO_CHECKS)
    os.environ[_NO_CHECKS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_NO_CHECKS]
        else:
            os.environ[_NO_CHECKS] = before
