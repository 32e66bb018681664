"""TensorFlow Lite, for LiteRT, by litert-torch in a Python of its own: what it needs clashes with what curate needs.

    python3.11 -m venv ~/litert
    ~/litert/bin/pip install litert-torch ai-edge-litert onnx onnxruntime
    export CURATE_LITERT_PYTHON=~/litert/bin/python

That Python rebuilds the network in torch from the ONNX file and converts it; curate is read from where it is installed. Beside
curate only the runtime is needed, `pip install ai-edge-litert`: the package is compared with its original by it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import curate
from curate.edge.package.targets import litert_convert
from curate.edge.package.targets.base import Request, Written
from curate.errors import InputError, UnavailableError
from curate.models.predictors.layouts.read import output_names

MODEL: Final = "model.tflite"
VARIABLE: Final = "CURATE_LITERT_PYTHON"

_MINUTES: Final = 15
_HOW: Final = (
    "make one: python3 -m venv litert && litert/bin/pip install litert-torch ai-edge-litert onnx onnxruntime; "
    f"then name litert/bin/python by --python or ${VARIABLE}"
)


def write(request: Request) -> Written:
    """Convert the model; one image at a time goes into what comes out.

    Raises:
        UnavailableError: There is no Python with litert-torch.
        InputError: The model cannot be converted.
    """
    source, python = request.source, _python(request.python)
    if find_spec("ai_edge_litert") is None:
        raise UnavailableError(
            "LiteRT is not installed beside curate, to compare the package by",
            where="--target tflite",
            remedy="pip install ai-edge-litert",
        )
    assert source.sidecar.output is not None
    outputs = output_names(source.sidecar.output)
    job = {
        "model": str(source.path.resolve()),
        "to": str((request.folder / MODEL).resolve()),
        "shape": source.shape,
        "dtype": source.network.entry.dtype,
        "outputs": outputs,
    }
    said = _converted(python, job, source.path)
    return Written(
        MODEL,
        [MODEL],
        preprocess={"input": said["input"], "batch": 1},
        names=dict(zip(outputs, said["outputs"], strict=True)),
        notes=[f"converted by litert-torch {said['version']}; one image at a time"],
    )


def _python(named: str | None) -> str:
    python = named or os.environ.get(VARIABLE)
    if not python:
        raise UnavailableError("no Python with litert-torch is named", where="--target tflite", remedy=_HOW)
    if not Path(python).expanduser().is_file():
        raise UnavailableError("there is no such Python", where=python, remedy=_HOW)
    return str(Path(python).expanduser())


def _converted(python: str, job: Mapping[str, object], path: Path) -> dict[str, Any]:
    """Run the conversion, and what it says of the file.

    Raises:
        UnavailableError: The Python lacks something.
        InputError: The model cannot be converted.
    """
    own = Path(curate.__file__).resolve().parents[1]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "VIRTUAL_ENV")}
    # Not PYTHONPATH: beside curate there may be packages that are not that Python's.
    command = [python, litert_convert.__file__, str(own), json.dumps(job)]
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60 * _MINUTES, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"the conversion was not done after {_MINUTES} minutes", where=path) from error
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == litert_convert.LACKS:
        raise UnavailableError(f"that Python lacks something: {last}", where=python, remedy=_HOW)
    if done.returncode:
        reason = last or (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise InputError(
            f"the model cannot be converted to TensorFlow Lite: {reason}",
            where=path,
            remedy="package it for onnx; of a compressed run, package the run that it was compressed from",
        )
    said: dict[str, Any] = json.loads(last)
    return said
