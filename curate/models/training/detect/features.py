"""Where in an ONNX graph the features are: the maps from which a detector's last convolutions read off classes and boxes.

Going back from the outputs, the first convolutions on maps of a whole number of input pixels per cell are the detector's
predictions; what goes into them is wanted. Where there are none (an image encoder), the last map of each stride is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from curate.errors import InputError
from curate.models.training.detect.graph import open_session, subgraph

STRIDES: Final = (8, 16, 32, 64)
"""Of the maps that are of use, in input pixels per cell."""

# Others give numbers that are no features, of types that the session may not hand out.
_MAKE_MAPS: Final = {"Add", "BatchNormalization", "Clip", "Concat", "Conv", "Gelu", "HardSwish", "LeakyRelu", "MaxPool"} | {
    "Mish", "Mul", "PRelu", "Relu", "Resize", "Sigmoid"
}  # fmt: skip
_FEWEST: Final = 2  # predictions on one map alone are a classifier's, not a detector's


@dataclass(frozen=True)
class Feature:
    """One map, or several of the same stride that belong together.

    Attributes:
        stride: Input pixels per cell.
        tensors: Names in the graph.
        channels: Of all together.
    """

    stride: int
    tensors: tuple[str, ...]
    channels: int


def find_features(model: Any, shape: Sequence[int], names: Sequence[str] | None = None) -> list[Feature]:
    """The maps of an ONNX graph that a new head should read; finest first.

    Args:
        model: The ONNX model.
        shape: Of its input, with one row.
        names: Of tensors, where the user knows better.

    Raises:
        InputError: There are no such maps, or a name is wrong.
    """
    channels_last = shape[1] not in (1, 3)
    input_size = (shape[1], shape[2]) if channels_last else (shape[2], shape[3])
    shapes = _shapes(model, shape, names)
    maps = {name: found for name, sides in shapes.items() if (found := _as_map(sides, input_size)) is not None}
    chosen = names if names is not None else _before_predictions(model, maps) or _last_maps(model, maps)
    wrong = [name for name in chosen if name not in maps]
    if wrong:
        raise InputError(
            f"'{wrong[0]}' is no map of features: its shape is {shapes.get(wrong[0])}",
            remedy=f"name tensors of shape (n, channels, h, w) with {', '.join(map(str, STRIDES))} input pixels per cell",
        )
    if not chosen:
        raise InputError("no maps of features were found in the graph", remedy="name them with the option 'features'")
    levels: dict[int, list[str]] = defaultdict(list)
    for name in dict.fromkeys(chosen):
        levels[maps[name][0]].append(name)
    return [
        Feature(stride, tuple(levels[stride]), sum(maps[name][1] for name in levels[stride]))
        for stride in sorted(levels)
    ]


def _shapes(model: Any, shape: Sequence[int], names: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Of all tensors on the way from the image, as they are when it runs."""
    makers = (node.output[0] for node in model.graph.node if node.op_type in _MAKE_MAPS)
    wanted = list(makers if names is None else names)
    part = subgraph(model, wanted, shape)
    session = open_session(part)
    entry = session.get_inputs()[0]
    blank = np.zeros(shape, np.uint8 if entry.type == "tensor(uint8)" else np.float32)
    return {name: np.shape(value) for name, value in zip(wanted, session.run(wanted, {entry.name: blank}), strict=True)}


def _as_map(sides: Sequence[int], input_size: tuple[int, int]) -> tuple[int, int] | None:
    """(stride, channels) of a tensor of that shape; None for one that is no map of a useful stride."""
    if len(sides) != 4:
        return None
    for stride in STRIDES:
        if all(-(-side // stride) == own for side, own in zip(input_size, sides[2:], strict=True)):
            return stride, int(sides[1])
    return None


def _before_predictions(model: Any, maps: Mapping[str, Any]) -> list[str]:
    """Inputs of the last convolutions on the way to the outputs; none where they are on too few maps."""
    found = list(dict.fromkeys(_walk_back(model, maps)))
    return found if len({maps[name][0] for name in found}) >= _FEWEST else []


def _walk_back(model: Any, maps: Mapping[str, Any]) -> Iterator[str]:
    makers = {name: node for node in model.graph.node for name in node.output}
    waiting, seen = [each.name for each in reversed(model.graph.output)], set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type == "Conv" and node.input[0] in maps:
            yield node.input[0]
        else:
            waiting += reversed(node.input)


def _last_maps(model: Any, maps: Mapping[str, Any]) -> list[str]:
    """The last map of each stride, in the order of the graph."""
    last: dict[int, str] = {}
    for node in model.graph.node:
        for name in node.output:
            if name in maps:
                last[maps[name][0]] = name
    return list(last.values())
