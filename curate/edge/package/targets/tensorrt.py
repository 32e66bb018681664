"""TensorRT: the ONNX file, seen to have no operator that TensorRT lacks, and a script that builds the engine on the device.

An engine is for one kind of GPU and one version of TensorRT, so it is built where it runs. INT8 needs either a quantised ONNX
file (`curate compress`), which TensorRT follows, or scales of all tensors: they are measured here, and the script writes them as
a calibration cache.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.edge.package.targets.base import Request, Written
from curate.errors import InputError, MissingExtra
from curate.models.predictors.preparation import make_preparation
from curate.runner import PackageError, load_image

MODEL: Final = "model.onnx"
ENGINE: Final = "model.engine"
SCRIPT: Final = "build_engine.sh"
SCALES: Final = "calibration.txt"

UNSUPPORTED: Final = frozenset(
    {
        *("BitShift", "Compress", "ConcatFromSequence", "ConvInteger", "Det", "DynamicQuantizeLinear", "MatMulInteger"),
        *("MaxRoiPool", "MaxUnpool", "Multinomial", "NegativeLogLikelihoodLoss", "QLinearConv", "QLinearMatMul"),
        *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"),
        *("SoftmaxCrossEntropyLoss", "SplitToSequence", "StringNormalizer", "TfIdfVectorizer", "Unique"),
    }
)
"""Operators that TensorRT's ONNX parser does not know (its own list: docs/operators.md of onnx-tensorrt)."""

_DOMAINS: Final = frozenset({"", "ai.onnx"})
_CALIBRATION_IMAGES: Final = 64
_MOST_BATCH: Final = 8
_MINUTES: Final = 30


def write(request: Request) -> Written:
    """Write the model and the script; build the engine where `trtexec` is.

    Raises:
        MissingExtra: onnx is not installed.
        InputError: The model has operators that TensorRT lacks, or the build fails.
    """
    source, folder = request.source, request.folder
    graph = _load(source.path)
    _require_supported(graph, source.path)
    shutil.copyfile(source.path, folder / MODEL)
    files, notes = [MODEL, SCRIPT], []
    quantised = any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
    if not quantised and request.images:
        scales = tensor_scales(graph, request)
        (folder / SCALES).write_text("".join(f"{name}: {value}\n" for name, value in scales), encoding="ascii")
        files.append(SCALES)
    open_batch = source.network.batch is None
    script = build_script(source.network.entry.name, source.shape, open_batch=open_batch, quantised=quantised)
    (folder / SCRIPT).write_text(script, encoding="ascii")
    (folder / SCRIPT).chmod(0o755)
    if shutil.which("trtexec"):
        _build(folder, "int8" if quantised else "fp16")
        files.append(ENGINE)
    else:
        notes.append(f"trtexec is not here: no engine was built; run {SCRIPT} on the device")
    notes.append("parity was measured with onnxruntime on this machine, not with TensorRT")
    return Written(MODEL, files, backend="onnxruntime", notes=notes)


def build_script(entry: str, shape: Sequence[int], *, open_batch: bool, quantised: bool) -> str:
    """`build_engine.sh`: calls trtexec, with a calibration cache for INT8 where the model is not quantised itself.

    Args:
        entry: Name of the model's input.
        shape: Of it, with one row.
        open_batch: Whether it takes any number of rows.
        quantised: Whether the model has scales of its own.
    """
    sides = "x".join(str(side) for side in shape[1:])
    shapes = [f"--{kind}Shapes='{entry}':{n}x{sides}" for kind, n in (("min", 1), ("opt", 1), ("max", _MOST_BATCH))]
    default = "int8" if quantised else "fp16"
    cache = "" if quantised else _CACHE
    return _SCRIPT.format(default=default, cache=cache, shapes=" ".join(shapes) if open_batch else "")


def tensor_scales(graph: Any, request: Request) -> list[tuple[str, str]]:
    """The scale of every float tensor, as TensorRT's calibration caches write it: the bytes of a float32 in hexadecimal.

    A scale is the largest magnitude on training images, by 127.
    """
    import onnx
    import onnxruntime

    graph = onnx.ModelProto.FromString(graph.SerializeToString())
    entry = request.source.network.entry.name
    had = {each.name for each in graph.graph.output}
    for node in graph.graph.node:
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name and name not in had)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs() if each.type == "tensor(float)"]
    largest = dict.fromkeys([entry, *names], 0.0)
    prepare = make_preparation(request.source.sidecar, request.source.network.entry.dtype)
    for path in request.images[:_CALIBRATION_IMAGES]:
        try:
            batch = prepare(load_image(path)).array[None]
        except PackageError:
            continue
        arrays = zip([entry, *names], [batch, *session.run(names, {entry: batch})], strict=True)
        for name, array in arrays:
            largest[name] = max(largest[name], float(np.abs(array.astype(np.float32)).max(initial=0.0)))
    return [(name, struct.pack(">f", value / 127).hex()) for name, value in largest.items() if value > 0]


def _load(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "train") from error
    return onnx.load(str(path))


def _require_supported(graph: Any, path: Path) -> None:
    strange = sorted(
        {
            node.op_type if node.domain in _DOMAINS else f"{node.domain}.{node.op_type}"
            for node in graph.graph.node
            if node.op_type in UNSUPPORTED or node.domain not in _DOMAINS
        }
    )
    if strange:
        raise InputError(
            f"TensorRT lacks operators of the model: {', '.join(strange)}",
            where=path,
            remedy="export the model without them, or package it for onnx",
        )


def _build(folder: Path, precision: str) -> None:
    try:
        done = subprocess.run(
            ["sh", SCRIPT, precision], cwd=folder, capture_output=True, text=True, timeout=60 * _MINUTES, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"trtexec was not done after {_MINUTES} minutes", where=SCRIPT) from error
    if done.returncode or not (folder / ENGINE).is_file():
        lines = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        raise InputError(f"trtexec cannot build the engine: {lines[-1]}", where=SCRIPT)


_CACHE: Final = """\
    # A calibration cache begins with the version of the TensorRT that reads it.
    version=$(trtexec --help 2>&1 | sed -n 's/.*\\[TensorRT v\\([0-9]*\\)\\].*/\\1/p' | head -n 1)
    [ -f calibration.txt ] || { echo "calibration.txt is not here: INT8 needs it" >&2; exit 2; }
    { echo "TRT-${version}-MinMaxCalibration"; cat calibration.txt; } > calibration.cache
    set -- "$@" --calib=calibration.cache
"""

_SCRIPT: Final = """\
#!/bin/sh
# Build model.engine for the GPU and the TensorRT of this machine: ./build_engine.sh [fp32|fp16|int8], default {default}.
set -eu
cd "$(dirname "$0")"
precision=${{1:-{default}}}
command -v trtexec > /dev/null || {{ echo "trtexec is not on the PATH: it comes with TensorRT" >&2; exit 3; }}
case "$precision" in
  fp32) set -- ;;
  fp16) set -- --fp16 ;;
  int8)
    set -- --int8 --fp16
{cache}    ;;
  *) echo "usage: $0 [fp32|fp16|int8]" >&2; exit 2 ;;
esac
exec trtexec --onnx=model.onnx --saveEngine=model.engine {shapes} "$@"
"""
