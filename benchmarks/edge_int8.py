"""What INT8 wins and loses on trained models, and, where it wins less than it might, why: measured on this machine."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.dataset import open_dataset
from curate.edge.compress.frontier import Budget
from curate.edge.compress.graph import ready
from curate.edge.compress.latency import latencies
from curate.edge.compress.quantise import calibrate, quantise
from curate.edge.compress.search import Asked, compress
from curate.edge.scoring import Scores, drops, make_exam, score_model
from curate.models.predictors.network import open_network
from curate.models.predictors.onnx import OnnxPredictor
from curate.models.predictors.preparation import make_preparation
from curate.models.predictors.registry import load_predictor
from curate.models.runtime import Runtime
from curate.models.training.runs import MODEL_FILE, read_run, run_folder, run_names

MAX_DROP: Final = 0.01
MAX_SLICE_DROP: Final = 0.02

INSTRUCTIONS: Final = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
"""Those that matter to INT8, as Linux names them."""

LAYERS: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "3 x 3, 64 channels, 40 x 40": (64, 3, 1, 40),
    "1 x 1, 256 channels, 20 x 20": (256, 1, 1, 20),
    "3 x 3 of each of 128 channels alone, 40 x 40": (128, 3, 128, 40),
    "1 x 1, 192 channels, 6 x 6": (192, 1, 1, 6),
    "3 x 3 of each of 192 channels alone, 6 x 6": (192, 3, 192, 6),
}
"""Convolutions alone, as (channels, kernel, groups, side): what INT8 can win at most, and where it wins nothing."""

_RUNTIMES: Final[tuple[Runtime, ...]] = ("onnxruntime", "openvino")
_PROFILED: Final = 30  # runs of a model
_OPERATORS: Final = 5  # that are told


def measure_model(name: str, *, limit: int = 0, rounds: int = 15) -> dict[str, Any]:
    """Make a run smaller with `curate compress`, and measure both on images that it has not learnt from.

    Args:
        name: Of the run.
        limit: At most so many images; 0 for all of val and test.
        rounds: Of the clocks.
    """
    small = f"{name}-int8"
    if small not in run_names():
        budget = Budget(max_drop=MAX_DROP, max_slice_drop=MAX_SLICE_DROP)
        made = compress(
            Asked(f"run:{name}", name=small, budget=budget), command="benchmark", say=_say, report=lambda *_: None
        )
        if made.run is None:
            return {"part": "int8", "model": name, "refused": made.to_json()}
    run = read_run(small)
    assert run is not None
    chosen = run.compression or {}
    files = {"float": run_folder(name) / MODEL_FILE, "int8": run_folder(small) / MODEL_FILE}
    before, after, image = _scores(name, small, limit)
    lost = drops(before, after)
    seconds = {runtime: latencies(files, image, runtime=runtime, rounds=rounds) for runtime in _RUNTIMES}
    return {
        "part": "int8",
        "model": name,
        "architecture": run.model,
        "task": run.task,
        "scheme": chosen.get("name"),
        "images": len(before.image_ids),
        "metric": before.metric,
        "float": before.overall,
        "int8": after.overall,
        "drop": lost.overall,
        "drop_per_class": dict(lost.per_class),
        "slices": {
            part: {"images": count, "float": before.per_slice[part], "drop": lost.per_slice[part]}
            for part, count in lost.slice_images.items()
            if part in lost.per_slice
        },
        "bytes": {kind: path.stat().st_size for kind, path in files.items()},
        "ms": {runtime: {kind: 1000 * each for kind, each in found.items()} for runtime, found in seconds.items()},
        "times": {kind: profile(path, image) for kind, path in files.items()},
    }


def _scores(name: str, small: str, limit: int) -> tuple[Scores, Scores, npt.NDArray[np.float32]]:
    """Of both models on the splits val and test, and an input of one row."""
    run = read_run(name)
    assert run is not None
    models = [load_predictor(f"run:{each}") for each in (name, small)]
    exam = make_exam(open_dataset(run.plan.dataset), models[0], limit=limit)
    before, after = (score_model(exam, model, prepared=True) for model in models)
    predictor = models[0]
    assert isinstance(predictor, OnnxPredictor)
    network = open_network(run_folder(name) / MODEL_FILE, predictor.sidecar)
    image = make_preparation(predictor.sidecar, network.entry.dtype)(exam.pixels(0)).array[None]
    return before, after, image


def profile(path: Path, image: npt.NDArray[Any]) -> dict[str, Any]:
    """Where onnxruntime's time goes, in one thread.

    Returns:
        `share`: of the operators that take most; `converting`: what goes into turning floats into whole numbers and back.
    """
    import onnx
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "profile"))
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: image}
        for _ in range(_PROFILED):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
        nodes = onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node
        grouped = {node.name for node in nodes for each in node.attribute if each.name == "group" and each.i > 1}
    return shares(events, _PROFILED, grouped)


def shares(events: Sequence[Mapping[str, Any]], runs: int, grouped: Collection[str]) -> dict[str, Any]:
    """What each kind of operator takes, of onnxruntime's profile of some runs; the median run of each node counts.

    Args:
        events: The profile.
        runs: How often the model ran.
        grouped: Names of convolutions that see each channel, or group of channels, alone.
    """
    nodes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            kind = str(arguments["op_name"])
            if event["name"].removesuffix("_kernel_time") in grouped:
                kind += " in groups"
            nodes[event["name"], kind].append(float(event["dur"]))
    total: dict[str, float] = defaultdict(float)
    for (_, kind), durations in nodes.items():
        total[kind] += float(np.median(durations)) * len(durations) / runs
    whole = sum(total.values())
    most = sorted(total.items(), key=lambda item: -item[1])[:_OPERATORS]
    converting = sum(value for kind, value in total.items() if kind in ("QuantizeLinear", "DequantizeLinear"))
    return {
        "share": {kind: value / whole for kind, value in most},
        "converting": converting / whole if whole else 0.0,
    }


def measure_machine(rounds: int = 15) -> list[dict[str, Any]]:
    """What INT8 wins on single layers here: the most that a network of such layers could win."""
    flags = instructions()
    return [
        {"part": "layer", "layer": name, "instructions": flags, **_layer(*of, rounds)} for name, of in LAYERS.items()
    ]


def instructions() -> list[str]:
    """Which of `INSTRUCTIONS` the processor has; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    line = next((each for each in text.splitlines() if each.startswith(("flags", "Features"))), "")
    return [each for each in INSTRUCTIONS if each in line.split()]


def _layer(channels: int, kernel: int, groups: int, side: int, rounds: int) -> dict[str, Any]:
    """A convolution between two others' outputs, as float and as INT8: conversions at both ends are a few per cent."""
    import onnx

    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, channels, side, side)).astype(np.float32)
    model = ready_convolutions(channels, kernel, groups, side)
    with TemporaryDirectory() as folder:
        paths = {"float": Path(folder, "float.onnx"), "int8": Path(folder, "int8.onnx")}
        onnx.save(model, str(paths["float"]))
        made = ready(paths["float"])
        onnx.save(quantise(calibrate(made, "x", [image], ("extremes",)), "whole", "extremes"), str(paths["int8"]))
        found = {runtime: latencies(paths, image, runtime=runtime, rounds=rounds) for runtime in _RUNTIMES}
    return {"ms": {runtime: {kind: 1000 * each for kind, each in times.items()} for runtime, times in found.items()}}


def ready_convolutions(channels: int, kernel: int, groups: int, side: int, repeats: int = 8) -> Any:
    """Some convolutions in a row with ReLU after each: `onnx.ModelProto`."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    nodes: list[Any] = []
    weights: list[Any] = []
    at = "x"
    for number in range(repeats):
        shape = (channels, channels // groups, kernel, kernel)
        values = rng.normal(size=shape, scale=np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        pads = [kernel // 2] * 4
        nodes.append(
            helper.make_node("Conv", [at, f"w{number}"], [f"c{number}"], f"conv{number}", group=groups, pads=pads)
        )
        at = "y" if number == repeats - 1 else f"r{number}"
        nodes.append(helper.make_node("Relu", [f"c{number}"], [at], f"relu{number}"))
    dims = ["n", channels, side, side]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
