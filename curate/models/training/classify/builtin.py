"""A head on what the built-in encoder sees: nothing to be fetched, and seconds of training.

The encoder stays as it is; a linear layer (or a small network) learns on its vectors. Encoder and head are written as one
graph, so that the trained model is a file like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.models.encoders import builtin
from curate.models.passes import Progress
from curate.models.predictors.sidecar import Logits, Sidecar
from curate.models.training.base import Example
from curate.models.training.classify.features import FeaturePass, Features, compute_features
from curate.models.training.exporting import compare

NAME: Final = "builtin"
HIDDEN: Final = 256

_OUTPUT: Final = "logits"


class BuiltinNetwork:
    """See the module's docstring, and `curate.models.training.classify.learner.Network`.

    Args:
        classes: Names of what is learnt.
        head: 'linear', or 'mlp' for one hidden layer.
        train: Ids of the images that are trained on: vectors are centred and scaled by theirs.
    """

    def __init__(self, classes: Sequence[str], head: str, train: Sequence[str]) -> None:
        self._encoder = builtin.load("")
        self._train = train
        self.module = _head(self._encoder.dimensions, len(classes), head)
        self.head_parameters = list(self.module.parameters())
        self.dtype = np.uint8
        self.sidecar = Sidecar(
            task="classify", classes=tuple(classes), size=builtin.SIDE, resize="squash", interpolation="bicubic",
            color="rgb", layout="nhwc", scale=1.0, output=Logits(output=_OUTPUT), about={"encoder": self._encoder.name},
        )  # fmt: skip

    def logits(self, inputs: Any) -> Any:
        """Of vectors of shape (n, dimensions)."""
        return self.module(inputs)

    def features(self, examples: Sequence[Example], folder: Path, progress: Progress | None) -> dict[str, Features]:
        """Vectors by image_id. The head is told where they lie."""
        import torch

        encoder = self._encoder
        network = FeaturePass(encoder.name, builtin.SIDE, encoder.prepare, encoder.encode, encoder.dimensions)
        found = compute_features(examples, network, folder, progress)
        known = np.stack(
            [found[each] for each in self._train if each in found] or [np.zeros(encoder.dimensions, np.float32)]
        )
        centre, spread = known.mean(axis=0), float(known.std(axis=0).mean())
        self.module.centre.copy_(torch.from_numpy(centre))
        self.module.scale.fill_(1 / max(spread, 1e-6))
        return found

    def write_graph(self, path: Path) -> None:
        """Encoder and head as one ONNX file, compared with the two."""
        import onnx
        import torch

        graph = onnx.load_from_string(resources.files("curate.models.encoders").joinpath(builtin.WEIGHTS).read_bytes())
        _append(graph, self.module)
        onnx.save(graph, str(path))
        pixels = np.random.default_rng(0).integers(0, 256, (5, builtin.SIDE, builtin.SIDE, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = self.module(torch.from_numpy(self._encoder.encode(list(pixels)))).numpy()
        compare(path, pixels, {_OUTPUT: expected})


def _head(dimensions: int, classes: int, kind: str) -> Any:
    import torch

    class Head(torch.nn.Module):  # type: ignore[misc]
        """Logits of vectors, which are centred and scaled first."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("centre", torch.zeros(dimensions))
            self.register_buffer("scale", torch.ones(()))
            sizes = [dimensions, classes] if kind == "linear" else [dimensions, HIDDEN, classes]
            self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in pairwise(sizes))
            self.dropout = torch.nn.Dropout(0.0 if kind == "linear" else 0.3)

        def forward(self, vectors: Any) -> Any:
            values = (vectors - self.centre) * self.scale
            for layer in self.layers[:-1]:
                values = self.dropout(torch.relu(layer(values)))
            return self.layers[-1](values)

    return Head()


def _append(model: Any, head: Any) -> None:
    """Put the head behind the encoder's graph, and make logits its only output."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    at, count = builtin.SEMANTIC, len(head.layers)
    for number, layer in enumerate(head.layers):
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        if number == 0:  # centring and scaling are part of the first layer
            bias = bias - (weight * head.scale.double()) @ head.centre.double()
            weight = weight * head.scale.double()
        names = [f"head/{number}/weight", f"head/{number}/bias"]
        for name, value in zip(names, (weight, bias), strict=True):
            graph.initializer.append(numpy_helper.from_array(value.float().numpy(), name))
        last = number == count - 1
        after = _OUTPUT if last else f"head/{number}/sum"
        graph.node.append(helper.make_node("Gemm", [at, *names], [after], transB=1))
        at = after
        if not last:
            graph.node.append(helper.make_node("Relu", [after], [f"head/{number}/out"]))
            at = f"head/{number}/out"
    rows = graph.input[0].type.tensor_type.shape.dim[0].dim_param or "n"
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, [rows, head.layers[-1].out_features]))
