"""Predictors by spec string: the name of a kind of predictor, and what it wants after a colon.

    onnx:/data/yolox.onnx            any ONNX detector, segmenter or classifier; a file beside it may describe it
    hf:PekingU/rtdetr_r18vd          transformers, by id on the hub
    hf:/data/my-detr                 the same, a folder on this disk
    run:bolts-1                      trained here by `curate train`

A predictor made from local weights has a digest of them in its name (``onnx:yolox.onnx@1f0c22ab``), so that what two versions of
a file say is never taken for one model's. ``results:FILE`` names no model, but what one has said already; `curate predict`
imports it, and ``results:FILE?ids=INSTANCES.json`` says whose ids it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from curate.errors import UsageError
from curate.models.predictors.base import Options, Predictor
from curate.registry import Registry

PREDICTORS: Final[Registry[Callable[[str, Options], Predictor]]] = Registry(
    "predictor",
    {
        "hf": "curate.models.predictors.hf.load:load",
        "onnx": "curate.models.predictors.onnx:load",
        "run": "curate.models.predictors.run:load",
    },
)
"""Loaders by name: each takes what stands after the colon, and what a person may ask of any predictor."""

RESULTS: Final = "results:"
"""What a spec begins with that names a file of results."""


def load_predictor(spec: str, options: Options | None = None) -> Predictor:
    """Load a predictor.

    Args:
        spec: As in the module's docstring.
        options: Thresholds and prompts; None for the defaults.

    Raises:
        UsageError: There is no such kind of predictor, or it does not understand the spec or the options.
        InputError: A file cannot be read, or is not a model of a known kind.
        UnavailableError: Weights that are neither on this disk nor to be fetched; `MissingExtra` for a package.
    """
    name, colon, argument = spec.partition(":")
    if not colon or not argument:
        raise UsageError(
            f"'{spec}' does not name a model",
            where="--model",
            remedy="write onnx:PATH, hf:ID, run:NAME or results:FILE",
        )
    if spec.startswith(RESULTS):
        raise UsageError("a file of results is no model", where=spec, remedy="import it with 'curate predict'")
    return PREDICTORS.get(name)(argument, options or Options())
