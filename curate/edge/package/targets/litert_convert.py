"""Convert an ONNX file to TensorFlow Lite; run by a Python that has litert-torch: `litert_convert.py FOLDER-OF-CURATE JOB`.

The job is JSON, and so is the last line of what is printed: the file's names, or why there is none. Nothing of curate is imported
but the torch module that an ONNX file becomes (`curate.models.training.detect.graph`), which needs torch, onnx and onnxruntime.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final

LACKS: Final = 4
"""Exit status where a package is missing."""

_TOLERANCE: Final = 1e-3  # of the largest value of an output


def main() -> int:
    """Do the job of the command line; returns the exit status."""
    # The folder of this file has modules named as packages are: onnx, openvino.
    sys.path[0] = sys.argv[1]
    job = json.loads(sys.argv[2])
    try:
        import torch

        litert_torch = import_module("litert_torch")
        interpreter = import_module("ai_edge_litert.interpreter").Interpreter
        graphs = _without_trainer("curate.models.training.detect", "graph")
    except ImportError as error:
        print(error)
        return LACKS
    try:
        module = _module(graphs, job)
        torch.manual_seed(0)
        example = torch.randint(0, 256, job["shape"]).to(getattr(torch, job["dtype"]))
        with torch.inference_mode():
            expected = [each.numpy() for each in module(example)]
        litert_torch.convert(module, (example,)).export(job["to"])
        said = _names(interpreter(model_path=job["to"]), example.numpy(), expected)
    except Exception as error:  # whatever torch, onnx and the converter raise
        Path(job["to"]).unlink(missing_ok=True)
        print(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
        return 1
    print(json.dumps({**said, "version": version("litert-torch")}))
    return 0


def _without_trainer(package: str, name: str) -> Any:
    """A module of a package whose own `__init__` is passed over: it imports the trainer, which needs far more."""
    bare = ModuleType(package)
    bare.__path__ = [str(Path(sys.path[0], *package.split(".")))]
    sys.modules[package] = bare
    return import_module(f"{package}.{name}")


def _module(graphs: Any, job: dict[str, Any]) -> Any:
    """The network in torch, giving its outputs as a tuple.

    Raises:
        ValueError: It has operators that are not known in torch here.
    """
    import torch

    path = Path(job["model"])
    folded = graphs.fold(graphs.subgraph(graphs.read_model(path), job["outputs"], job["shape"]))
    unknown = sorted({node.op_type for node in folded.graph.node} - graphs.OPERATORS.keys())
    if unknown:
        raise ValueError(f"the network has operators that are not converted: {', '.join(unknown)}")
    network = graphs.GraphModule(path, job["outputs"], job["shape"])

    class Outputs(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network  # not `graph`: exported modules call something else so

        def forward(self, images: Any) -> Any:
            return tuple(self.network(images))

    return Outputs().eval()


def _names(interpreter: Any, example: Any, expected: list[Any]) -> dict[str, Any]:
    """What the file calls its input, and its outputs in the order of those expected, which they must equal.

    Raises:
        ValueError: They do not.
    """
    import numpy as np

    run = interpreter.get_signature_runner()
    entry = next(iter(run.get_input_details()))
    given = run(**{entry: example})
    names = []
    for wanted in expected:
        scale = max(float(np.abs(wanted).max()), 1e-6)
        near = [
            name
            for name, array in given.items()
            if name not in names
            and array.shape == wanted.shape
            and float(np.abs(array - wanted).max()) <= _TOLERANCE * scale
        ]
        if not near:
            raise ValueError(f"the converted file gives something else than torch, of shape {wanted.shape}")
        names.append(near[0])
    return {"input": entry, "outputs": names}


if __name__ == "__main__":
    raise SystemExit(main())
