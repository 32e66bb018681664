"""Models trained here, by the name of their run: 'run:bolts-1', or 'run:bolts-1/fold-2' for a model of a run with folds.

A run's model is an ONNX file with its sidecar, so nothing that it was trained with is needed to predict.
"""

from __future__ import annotations

from curate.errors import InputError, UsageError
from curate.models.encoders.weights import weights_digest
from curate.models.predictors import onnx
from curate.models.predictors.base import Options, Predictor
from curate.models.predictors.sidecar import sidecar_path
from curate.models.runtime import precision_suffix, split_precision
from curate.models.training.runs import MODEL_FILE, read_run, run_folder


def load(argument: str, options: Options) -> Predictor:
    """Load a trained model.

    Args:
        argument: Name of the run; '?precision=bf16' may follow.
        options: As for every predictor.

    Raises:
        UsageError: There is no such run, it is unfinished, or it has a model for each fold.
        InputError: The model is not there, or cannot be read.
    """
    name, precision = split_precision(argument)
    path = run_folder(name) / MODEL_FILE
    run = read_run(name)
    if run is None:
        raise UsageError(
            f"the run '{name}' is unfinished", where=path.parent, remedy=f"curate train --name {name} --resume"
        )
    if run.folds is not None:
        models = ", ".join(f"run:{fold['name']}" for fold in run.folds)
        raise UsageError(
            f"the run '{name}' has a model for each fold",
            where=path.parent,
            remedy=f"name one of them: {models}; or train without --folds",
        )
    if not path.is_file():
        raise InputError("the model of the run is not there", where=path, remedy="train again under another name")
    spec = f"run:{name}{precision_suffix(precision)}@{weights_digest(path, sidecar_path(path))}"
    return onnx.open_predictor(spec, path, options, precision)
