"""Make the file that the package ships from a training run: ``python -m benchmarks.pretrain.export --folder RUN``.

One graph takes pixels and gives two unit vectors. The semantic one joins what the network learnt to see with the descriptor it
replaces, on their common principal components over rendered pictures, partly whitened. Weights are stored as bytes with a
scale for each row; arithmetic stays float32, so that numbers do not depend on a processor's instructions for bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor, nn

from benchmarks.pretrain.description import Description
from benchmarks.pretrain.network import Network
from benchmarks.pretrain.pictures import SIDE, pictures
from benchmarks.pretrain.record import keep
from curate.files import write_atomic
from curate.models.encoders import builtin

SHIPPED: Final = Path(builtin.__file__).with_name(builtin.WEIGHTS)

DIMENSIONS: Final = 512
DESCRIPTOR_WEIGHT: Final = 0.5
STYLE_WEIGHT: Final = 0.5
"""What the descriptor and the style count for beside what the network learnt to see, each of unit length."""

POWER: Final = 0.3
"""Components are divided by this power of their variance: 0.5 would be whitening."""

PICTURES: Final = 4000
_FIRST_PICTURE: Final = 1 << 40
"""Pictures that training has not seen."""

_SMALL: Final = 4096
"""Weights with fewer numbers than this stay as they are."""


class Builtin(nn.Module):
    """What is shipped."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.description = Description()
        self.projection = nn.Linear(DIMENSIONS, DIMENSIONS)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Semantic and style vectors of uint8 pixels of shape (n, SIDE, SIDE, 3)."""
        joined, style = self.joined(pixels)
        return F.normalize(self.projection(joined), dim=1), style

    def joined(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The parts of the semantic vector side by side, and the style vector."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        semantic, style = self.network(images)
        style = F.normalize(style, dim=1)
        described = self.description(F.avg_pool2d(images, SIDE // 32))
        parts = [DESCRIPTOR_WEIGHT * described, F.normalize(semantic, dim=1), STYLE_WEIGHT * style]
        return torch.cat(parts, dim=1), style


def main() -> None:
    """Read a checkpoint, write the graph and what is to be known of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="of the training run")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="default: the package's own, with its record")
    options = parser.parse_args()
    step, network = read_network(options.folder / "checkpoint.pt")
    model = Builtin(network).eval()
    numbers = range(_FIRST_PICTURE, _FIRST_PICTURE + PICTURES)
    fit_projection(model, pictures(0, numbers).pixels)
    write_atomic(options.output, to_bytes(model))
    if options.output == SHIPPED:
        print(json.dumps(keep(options.folder, step, options.output)))


def read_network(checkpoint: Path) -> tuple[int, Network]:
    """The averaged network of a checkpoint, and its step."""
    saved = torch.load(checkpoint, weights_only=True)
    prefix = "module.network."
    network = Network()
    network.load_state_dict({k.removeprefix(prefix): v for k, v in saved["average"].items() if k.startswith(prefix)})
    return int(saved["step"]), network.eval()


def fit_projection(model: Builtin, pixels: npt.NDArray[np.uint8]) -> None:
    """Principal components of what a model gives for pictures and their mirror images."""
    both = np.concatenate([pixels, pixels[:, :, ::-1]])
    with torch.inference_mode():
        joined = torch.cat(
            [model.joined(torch.from_numpy(part.copy()))[0] for part in np.array_split(both, 64)]
        ).double()
    mean = joined.mean(dim=0)
    variances, axes = torch.linalg.eigh(torch.cov((joined - mean).T))
    variances, axes = variances.flip(0)[:DIMENSIONS], axes.flip(1)[:, :DIMENSIONS]
    components = axes * (variances[0] / variances) ** POWER
    model.projection = nn.Linear(len(mean), DIMENSIONS)
    model.projection.weight.data = components.T.float().contiguous()
    model.projection.bias.data = -(mean @ components).float()


def to_bytes(model: Builtin) -> bytes:
    """The graph as an ONNX file, its large weights as bytes with scales."""
    example = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    count = torch.export.Dim("n")
    program = torch.onnx.export(
        model, (example,), dynamo=True, dynamic_shapes=({0: count},), input_names=["pixels"],
        output_names=[builtin.SEMANTIC, builtin.STYLE], verbose=False,
    )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    del proto.graph.value_info[:]
    for weight in list(proto.graph.initializer):
        values = numpy_helper.to_array(weight)
        # The descriptor's filters have no mean, and would have one if they were rounded.
        if values.dtype == np.float32 and values.size >= _SMALL and "bank" not in weight.name:
            _store_as_bytes(proto.graph, weight, values)
    proto.doc_string = ""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _store_as_bytes(graph: Any, weight: Any, values: npt.NDArray[np.float32]) -> None:
    """Replace a weight by bytes, times a scale for each slice along the axis on which that loses least."""
    best: tuple[float, npt.NDArray[np.int8], npt.NDArray[np.float32]] | None = None
    for axis in range(min(values.ndim, 2)):
        others = tuple(k for k in range(values.ndim) if k != axis)
        scale = np.maximum(np.abs(values).max(axis=others, keepdims=True) / 127, 1e-12).astype(np.float32)
        whole = np.round(values / scale).astype(np.int8)
        loss = float(np.square(whole * scale - values).sum())
        if best is None or loss < best[0]:
            best = loss, whole, scale
    assert best is not None
    name = weight.name
    graph.initializer.remove(weight)
    graph.initializer.extend(
        [numpy_helper.from_array(best[1], f"{name}/bytes"), numpy_helper.from_array(best[2], f"{name}/scale")]
    )
    nodes = [
        helper.make_node("Cast", [f"{name}/bytes"], [f"{name}/whole"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}/whole", f"{name}/scale"], [name]),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)


if __name__ == "__main__":
    main()
