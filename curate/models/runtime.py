"""Running a network that is an ONNX file: onnxruntime by default, OpenVINO where `CURATE_RUNTIME=openvino` asks for it.

Numbers are the same on every run unless somebody asks for speed: arithmetic is float32, also where a runtime would take
less by itself (OpenVINO takes bfloat16 on processors that have it, CUDA takes TF32). Less is asked for in a spec, as in
``clip:ViT-B-32/laion2b_s34b_b79k?precision=bf16``, and stays in the name of what is made with it.

A graph that is pickled is opened again from its file, where it is unpickled: on a machine of a cluster, say, which must have that
file, with the same bytes, under the same path.

Each call of a network has one thread, and a batch is cut up into as many calls as there are threads. With threads inside
every layer, each layer waits for the slowest of them, and there are as many threads again that decode images.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

import curate
from curate.engine.local import default_threads
from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.runner import same_signal_stack

T = TypeVar("T")
R = TypeVar("R")
Array = npt.NDArray[Any]
Feed = Mapping[str, Array]
"""Inputs by name."""

Runtime = Literal["onnxruntime", "openvino"]
Precision = Literal["f32", "bf16"]

RUNTIME_VARIABLE: Final = "CURATE_RUNTIME"

_PRECISION_OPTION: Final = "?precision="
_CUDA: Final = "CUDAExecutionProvider"
# TF32 has 10 bits where float32 has 23, and the default search for the fastest convolution may end differently every time.
_CUDA_OPTIONS: Final = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
# Measured with convolutional networks (64 rows take 1.3 times as long each) and ViT-B-32 (1.1 times) at 224 pixels.
_MOST_ROWS: Final = 8
_NUMPY_NAMES: Final = {"float": "float32", "double": "float64"}
_PACKAGE: Final = Path(curate.__file__).parent


@dataclass(frozen=True)
class Origin:
    """What a graph was opened from: enough to open it again.

    Attributes:
        path: The file.
        runtime: What runs it.
        precision: Of the arithmetic.
    """

    path: Path
    runtime: Runtime
    precision: Precision


@dataclass(frozen=True)
class Port:
    """An input or output of a network.

    Attributes:
        name: In the file.
        shape: None for a side that is open; None as a whole where not even their number is known.
        dtype: What numpy calls it ('float32'), if it does.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class Graph:
    """A network that is ready to run.

    Attributes:
        inputs: What it takes.
        outputs: What it gives.
        workers: How many calls run at a time.
        most_rows: Of a call: more of them take longer each, as what is between two layers no longer fits in the cache of a
            core. None on a GPU, which wants as many as there are.
        metadata: What the file's maker wrote into it (`metadata_props`): texts by key.
        origin: What it was opened from.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    workers: int
    most_rows: int | None
    _call: Callable[[Feed, Sequence[str]], list[Array]]
    _pool: ThreadPoolExecutor
    metadata: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None

    def __reduce__(self) -> tuple[Callable[..., Graph], tuple[object, ...]]:
        if self.origin is None:
            raise TypeError("a graph that was not opened from a file cannot be pickled")
        path = self.origin.path.absolute()
        # What ships with curate is wherever that is installed.
        told = path.relative_to(_PACKAGE) if path.is_relative_to(_PACKAGE) else path
        return _reopen, (str(told), _weights_key(path), self.origin.runtime, self.origin.precision)

    def run(self, batches: Sequence[Array], output: str) -> list[Array]:
        """One output for each of several batches of the first input, several at a time; may be called from any thread."""
        entry = self.inputs[0].name
        return self.map(lambda batch: self.call({entry: batch}, [output])[0], batches)

    def call(self, feed: Feed, outputs: Sequence[str]) -> list[Array]:
        """Several outputs of one call, in this thread; those that work is given to by `map` may use it."""
        return self._call(feed, outputs)

    def map(self, work: Callable[[T], R], pieces: Sequence[T]) -> list[R]:
        """What some work that calls the network gives for each piece, several at a time; may be called from any thread."""
        if len(pieces) == 1 or self.workers == 1:
            return [work(piece) for piece in pieces]
        return list(self._pool.map(work, pieces))

    def pieces(self, rows: Sequence[Any] | Array, step: int | None) -> list[Any]:
        """Rows cut up for one call each: by `step`, or (None) for as many calls as run at a time, more if they were too large."""
        if step is None:
            calls = min(len(rows), max(self.workers, -(-len(rows) // (self.most_rows or len(rows)))))
            size, longer = divmod(len(rows), calls)
            starts = [call * size + min(call, longer) for call in range(calls + 1)]
        else:
            starts = [*range(0, len(rows), step), len(rows)]
        return [rows[start:end] for start, end in pairwise(starts)]


def open_graph(
    path: Path, *, runtime: Runtime | None = None, precision: Precision = "f32", threads: int | None = None
) -> Graph:
    """Open an ONNX file.

    Args:
        path: The file. Weights beside it are found if it names them.
        runtime: What runs it; None for what `$CURATE_RUNTIME` says, else what the precision needs.
        precision: Of the arithmetic: 'f32', or 'bf16' (OpenVINO only), which is faster and less exact.
        threads: Cores to use; None for `$OMP_NUM_THREADS`, else all that this process may use.

    Raises:
        InputError: The file is not a network that the runtime understands.
        UsageError: The runtime does not exist, or not with this precision on this machine.
        MissingExtra: The runtime is not installed.
    """
    chosen = _choose(runtime, precision)
    threads = _threads() if threads is None else max(1, threads)
    try:
        if chosen == "openvino":
            with same_signal_stack():
                graph = _open_openvino(path, precision, threads)
        else:
            graph = _open_onnxruntime(path, threads)
        return replace(graph, origin=Origin(path, chosen, precision))
    except (UsageError, MissingExtra):
        raise
    except Exception as error:  # neither runtime's exceptions have a common base of their own
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"the file is not an ONNX model that can be run: {reason}", where=path) from error


def split_precision(spec: str) -> tuple[str, Precision]:
    """Take the precision off the end of a spec: 'timm:x?precision=bf16' is 'timm:x' and 'bf16'.

    Raises:
        UsageError: There is no such precision.
    """
    rest, found, name = spec.rpartition(_PRECISION_OPTION)
    if not found:
        return spec, "f32"
    for precision in get_args(Precision):
        if name == precision:
            return rest, precision
    raise UsageError(f"there is no precision '{name}'", where=spec, remedy=f"one of: {', '.join(get_args(Precision))}")


def precision_suffix(precision: Precision) -> str:
    """What the name of something made with a precision ends in; nothing for float32."""
    return "" if precision == "f32" else _PRECISION_OPTION + precision


def _reopen(path: str, key: str, runtime: Runtime, precision: Precision) -> Graph:
    """The graph that was pickled, from the same file on this machine."""
    file = _PACKAGE / path  # which an absolute path replaces
    where = f"{file} on {platform.node()}"
    if not file.is_file():
        raise UnavailableError(
            "a model's file is not on this machine", where=where, remedy="put it where every machine finds it"
        )
    if _weights_key(file) != key:
        raise InputError(
            "a model's file on this machine is another one", where=where, remedy="put the same on every machine"
        )
    return open_graph(file, runtime=runtime, precision=precision)


def _weights_key(path: Path) -> str:
    from curate.models.encoders.external_data import external_files
    from curate.models.encoders.weights import weights_key

    return weights_key(path, *external_files(path))


def _choose(asked: Runtime | None, precision: Precision) -> Runtime:
    name = asked or os.environ.get(RUNTIME_VARIABLE) or ("onnxruntime" if precision == "f32" else "openvino")
    for runtime in get_args(Runtime):
        if name == runtime:
            break
    else:
        raise UsageError(
            f"there is no runtime '{name}'",
            where=RUNTIME_VARIABLE,
            remedy=f"one of: {', '.join(get_args(Runtime))}",
        )
    if runtime == "onnxruntime" and precision != "f32":
        raise UsageError(
            f"onnxruntime does not compute in {precision}",
            remedy=f"unset {RUNTIME_VARIABLE}, or set it to openvino; or leave the precision out",
        )
    return runtime  # type: ignore[no-any-return]


def _threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(asked)) if asked.isdecimal() else default_threads()


def _open_onnxruntime(path: Path, threads: int) -> Graph:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    there = onnxruntime.get_available_providers()
    providers = [(_CUDA, _CUDA_OPTIONS)] if _CUDA in there else []
    session = onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    inputs, outputs = (
        tuple(_onnxruntime_port(each) for each in ports) for ports in (session.get_inputs(), session.get_outputs())
    )

    def call(feed: Feed, wanted: Sequence[str]) -> list[Array]:
        return [np.asarray(array) for array in session.run(list(wanted), dict(feed))]

    metadata = dict(session.get_modelmeta().custom_metadata_map)
    on_gpu = _CUDA in session.get_providers()
    return _graph(inputs, outputs, 1 if on_gpu else threads, None if on_gpu else _MOST_ROWS, call, metadata)


def _onnxruntime_port(port: Any) -> Port:
    dtype = port.type.removeprefix("tensor(").removesuffix(")")
    # A side is a number, the name of one that is open, or None.
    shape = None if port.shape is None else tuple(side if isinstance(side, int) else None for side in port.shape)
    return Port(port.name, shape, _NUMPY_NAMES.get(dtype, dtype))


def _open_openvino(path: Path, precision: Precision, threads: int) -> Graph:
    openvino = _import_openvino()
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError("this processor does not compute in bf16", remedy="leave the precision out")
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
    }
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", settings)
    inputs, outputs = (tuple(_openvino_port(each) for each in ports) for ports in (compiled.inputs, compiled.outputs))
    own = threading.local()  # a request is one thread's at a time

    def call(feed: Feed, wanted: Sequence[str]) -> list[Array]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        own.request.infer(dict(feed))
        return [np.array(own.request.get_tensor(output).data) for output in wanted]

    said = dict(model.get_rt_info().items()).get(
        "framework", {}
    )  # where OpenVINO puts what an ONNX file says of itself
    metadata = {key: model.get_rt_info(["framework", key]).astype(str) for key in said}
    return _graph(inputs, outputs, threads, _MOST_ROWS, call, metadata)


def _openvino_port(port: Any) -> Port:
    shape = port.get_partial_shape()
    sides = None if shape.rank.is_dynamic else tuple(s.get_length() if s.is_static else None for s in shape)
    return Port(port.get_any_name(), sides, np.dtype(port.get_element_type().to_dtype()).name)


def _import_openvino() -> Any:
    """OpenVINO without `openvino_telemetry`: it would report to its maker that it was imported."""
    telemetry = "openvino_telemetry"
    absent = telemetry not in sys.modules
    if absent:
        sys.modules[telemetry] = None  # type: ignore[assignment]  # importing it fails, which OpenVINO expects
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "openvino") from error
    finally:
        if absent:
            del sys.modules[telemetry]
    return openvino


def _graph(
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
    workers: int,
    most_rows: int | None,
    call: Callable[[Feed, Sequence[str]], list[Array]],
    metadata: Mapping[str, str],
) -> Graph:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="network")
    return Graph(inputs, outputs, workers, most_rows, call, pool, metadata)
