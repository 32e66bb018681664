"""The encoder that needs nothing: a small network that ships with curate, in two views.

    builtin          what an image shows: for labels, duplicates and search
    builtin:style    how it was taken: light, colour, blur, noise, the way it is drawn

The network was trained on procedurally generated pictures only, by ``benchmarks/pretrain``: things made by formulas, drawn as
photographs, paintings, cartoons and sketches (after formula-driven pre-training, Kataoka et al., IJCV 2022). It learnt to tell
two pieces of one picture from pieces of others, under different lights (Chen et al., 'SimCLR', ICML 2020), which formula made
the thing, and, in the other view, which light and camera were at work. The semantic vector joins what it learnt with a fixed
descriptor of shape, texture and colour (`descriptor.py`), on their common principal components.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.imaging import Pixels, resize
from curate.models.encoders.base import Encoder, Vectors
from curate.models.runtime import Graph, open_graph

NAME: Final = "builtin-v1"
WEIGHTS: Final = "builtin_v1.onnx"
SEMANTIC: Final = "semantic"
STYLE: Final = "style"

SIDE: Final = 96
_CALL: Final = 16  # images a call: more gain nothing, and take more memory


def load(argument: str) -> Encoder:
    """The built-in encoder.

    Args:
        argument: Which view: '' or 'style'.

    Raises:
        UsageError: There is no such view.
    """
    if argument not in {"", STYLE}:
        raise UsageError(f"'builtin' has no view '{argument}'", remedy="write 'builtin' or 'builtin:style'")
    return BuiltinEncoder(argument)


class BuiltinEncoder:
    """See the module's docstring and `curate.models.encoders.base.Encoder`. Images are squashed to a square.

    Args:
        view: '' or 'style'.
    """

    def __init__(self, view: str = "") -> None:
        self.name = f"{NAME}:{view}" if view else NAME
        self.input_size = SIDE
        self._output = view or SEMANTIC
        self._graph = _graph()
        self.dimensions = int(self.encode([np.zeros((SIDE, SIDE, 3), np.uint8)]).shape[1])

    def prepare(self, pixels: Pixels) -> Pixels:
        """Squash to the network's input; uint8 of shape (SIDE, SIDE, 3)."""
        return resize(pixels, (SIDE, SIDE))

    def encode(self, prepared: Sequence[npt.NDArray[np.generic]]) -> Vectors:
        """Embed prepared images; float32 of shape (n, dimensions), rows of unit length."""
        batches = [np.stack(prepared[at : at + _CALL]) for at in range(0, len(prepared), _CALL)]
        # One row alone is multiplied by another routine, and would get other last digits than among others.
        batches = [batch if len(batch) > 1 else np.repeat(batch, 2, axis=0) for batch in batches]
        return np.concatenate(self._graph.run(batches, self._output))[: len(prepared)]


@cache
def _graph() -> Graph:
    """Both views are outputs of one graph, opened once."""
    with resources.as_file(resources.files("curate.models.encoders").joinpath(WEIGHTS)) as path:
        return open_graph(path)
