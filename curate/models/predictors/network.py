"""An ONNX file that takes images: one at a time or many, channels first or last, told their sizes or not."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.models.predictors.base import Size
from curate.models.predictors.sidecar import Sidecar
from curate.models.runtime import Feed, Graph, Port, Precision, open_graph

T = TypeVar("T")
Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
"""What a network gave for one image, by the name of the output."""

_DTYPES: Final = frozenset({"float32", "float16", "uint8"})


@dataclass(frozen=True)
class Network:
    """A graph, and how images go in.

    Attributes:
        path: The file.
        graph: What runs.
        entry: The input that takes images.
        layout: Order of its axes, behind the batch's.
        batched: Whether it has an axis for the batch.
        batch: How many images a call takes; None for any number.
        sizes: An input that wants (width, height) of each image, or None.
        split: Whether outputs have an axis for the batch.
        memory: Where inputs are put together.
    """

    path: Path
    graph: Graph
    entry: Port
    layout: Literal["nchw", "nhwc"]
    batched: bool
    batch: int | None
    sizes: Port | None
    split: bool
    memory: Memory = field(default_factory=lambda: Memory(), compare=False, repr=False)

    @property
    def channels(self) -> int | None:
        """Of its input; None where open."""
        return self._sides[0]

    @property
    def size(self) -> tuple[int | None, int | None]:
        """(height, width) of its input; None where open."""
        return self._sides[1:]

    @property
    def _sides(self) -> tuple[int | None, int | None, int | None]:
        first, second, third = [side or None for side in (self.entry.shape or ())[-3:]]
        return (third, first, second) if self.layout == "nhwc" else (first, second, third)

    @property
    def whole(self) -> Network:
        """The same for one image at a time, with outputs as they are."""
        return replace(self, batch=self.batch or 1, split=False)

    def run(
        self,
        images: Sequence[Array],
        outputs: Sequence[str],
        read: Callable[[int, Outputs], T],
        fill: Callable[[Array, Array], None] = np.copyto,
    ) -> list[T]:
        """Run on several prepared images, and read what the network gives for each.

        Args:
            images: In the network's layout, without the batch's axis; of one shape or several.
            outputs: Names of the outputs that are wanted.
            read: Called with an image's number and its outputs, in the threads that run the network. Outputs can be large, so
                they are let go of when it returns.
            fill: Called with where an image's values are to go, and the image, in the same threads; without, images are values.

        Raises:
            InputError: The network fails, gives NaN, or not one row for each image.
        """

        def run_call(numbers: list[int]) -> list[tuple[int, T]]:
            arrays = self._call([images[number] for number in numbers], outputs, fill)
            per_image = [
                {name: array[row] if self.split else array for name, array in zip(outputs, arrays, strict=True)}
                for row in range(len(numbers))
            ]
            return [(number, read(number, given)) for number, given in zip(numbers, per_image, strict=True)]

        calls = [call for same in _of_one_shape(images) for call in self.graph.pieces(same, self.batch)]
        results = dict(pair for pairs in self.graph.map(run_call, calls) for pair in pairs)
        return [results[number] for number in range(len(images))]

    def _call(self, images: list[Array], outputs: Sequence[str], fill: Callable[[Array, Array], None]) -> list[Array]:
        feed = self._feed(images, fill)
        try:
            arrays = self.graph.call(feed, outputs)
        except Exception as error:  # the runtimes' exceptions have no common base of their own
            reason = str(error).strip().partition("\n")[0]
            shape = images[0].shape
            raise InputError(f"the model fails on an input of shape {shape}: {reason}", where=self.path) from error
        return [self._checked(name, array, len(images)) for name, array in zip(outputs, arrays, strict=True)]

    def _feed(self, images: list[Array], fill: Callable[[Array, Array], None]) -> Feed:
        count = max(len(images), self.batch or 0)
        values = self.memory.array((count, *images[0].shape), np.dtype(self.entry.dtype))
        for image, target in zip(images, values, strict=False):
            fill(target, image)
        values[len(images) :] = 0
        height, width = values.shape[2:] if self.layout == "nchw" else values.shape[1:3]
        return {self.entry.name: values if self.batched else values[0], **self._told(count, width, height)}

    def _told(self, count: int, width: int, height: int) -> Feed:
        if self.sizes is None:
            return {}
        return {self.sizes.name: np.tile(np.array([[width, height]], self.sizes.dtype), (count, 1))}

    def _checked(self, name: str, array: Array, count: int) -> Array:
        if array.dtype.kind == "f":
            array = array.astype(np.float32, copy=False)
            if array.size and np.isnan(array.min()):
                raise InputError(
                    f"the model gives NaN in its output '{name}'", where=self.path, remedy="export it again"
                )
        if self.split and (not array.ndim or len(array) < count):
            raise InputError(
                f"the output '{name}' has shape {array.shape} for {count} images",
                where=self.path,
                remedy="export the model for one image at a time",
            )
        return array


class Memory(threading.local):
    """Memory for one array at a time in each thread: fresh pages for every input cost more than filling them."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        return Memory, ()  # what is in it is of this process only

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array with any values, which is written over by this thread's next call."""
        size = math.prod(shape) * dtype.itemsize
        if size > len(self._bytes):
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size].view(dtype).reshape(shape)


def open_network(path: Path, sidecar: Sidecar, precision: Precision = "f32") -> Network:
    """Open an ONNX file and find the input that takes images.

    Raises:
        InputError: The file cannot be read, or does not take images.
    """
    graph = open_graph(path, precision=precision)
    entry = _image_port(path, graph, sidecar.input)
    shape = entry.shape or ()
    layout = sidecar.layout or ("nhwc" if shape[-1] in (1, 3) and shape[-3] not in (1, 3) else "nchw")
    others = [port for port in graph.inputs if port is not entry]
    wanted = getattr(sidecar.output, "sizes", None)
    sizes = next((port for port in others if _takes_sizes(port) and wanted in (None, port.name)), None)
    strange = [port.name for port in others if port is not sizes]
    if strange:
        raise InputError(
            f"the model wants more than images: {', '.join(strange)}",
            where=path,
            remedy="export it with the image as its only input",
        )
    _check_channels(path, shape[-1 if layout == "nhwc" else -3] or None, layout, sidecar.color)
    batched = len(shape) == 4
    batch = (shape[0] or None) if batched else 1
    return Network(path, graph, entry, layout, batched, batch, sizes, split=batched)


def _image_port(path: Path, graph: Graph, name: str | None) -> Port:
    inputs = {port.name: port for port in graph.inputs}
    if name is not None:
        if name not in inputs:
            raise InputError(f"the model has no input '{name}'", where=path, remedy=f"inputs: {', '.join(inputs)}")
        ports = [inputs[name]]
    else:
        ports = list(graph.inputs)
    for port in ports:
        if port.shape is not None and len(port.shape) in (3, 4) and port.dtype in _DTYPES:
            return port
    told = ", ".join(f"'{port.name}' is {port.dtype} of {_shape(port)}" for port in ports) or "it has none"
    raise InputError(
        f"the model has no input that takes images: {told}",
        where=path,
        remedy="export it with an input of shape (n, channels, height, width) of float32, float16 or uint8",
    )


def _check_channels(path: Path, channels: int | None, layout: str, color: str | None) -> None:
    wanted = {"gray": (1,), "rgb": (3,), "bgr": (3,), None: (1, 3)}[color]
    if channels is not None and channels not in wanted:
        raise InputError(
            f"the model takes {channels} channels, if its axes are '{layout}', and images have {' or '.join(map(str, wanted))}",
            where=path,
            remedy="say in the sidecar which 'layout' and 'color' the model was made for",
        )


def _shape(port: Port) -> str:
    return f"shape {port.shape}" if port.shape else "unknown shape"


def _takes_sizes(port: Port) -> bool:
    """Whether an input is D-FINE's and RT-DETR's `orig_target_sizes`, or one like it."""
    return port.shape is not None and len(port.shape) == 2 and port.shape[1] == 2


def _of_one_shape(images: Sequence[Array]) -> list[list[int]]:
    """Numbers of the images, those of one shape together."""
    groups: dict[Size | tuple[int, ...], list[int]] = {}
    for at, image in enumerate(images):
        groups.setdefault(image.shape, []).append(at)
    return list(groups.values())
