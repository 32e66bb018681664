"""Runtimes: what is told of a graph, batches in order, float32 unless asked otherwise, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from curate.errors import InputError, MissingExtra, UsageError
from curate.models.runtime import Port, open_graph, precision_suffix, split_precision

onnx = pytest.importorskip("onnx")

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is in the extra 'openvino'")
RUNTIMES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]
WIDTH = 256


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CURATE_RUNTIME", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def product(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A graph that multiplies rows by a matrix, and the matrix; its sums are long enough to tell float32 from less."""
    helper, types = onnx.helper, onnx.TensorProto
    matrix = np.random.default_rng(0).normal(size=(WIDTH, 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "matrix"], ["vectors"])],
        "product",
        [helper.make_tensor_value_info("rows", types.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("vectors", types.FLOAT, ["n", 8])],
        [onnx.numpy_helper.from_array(matrix, "matrix")],
    )
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path, matrix


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ports_and_float32_whatever_runs_it(
    product: tuple[Path, np.ndarray], runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, matrix = product
    monkeypatch.setenv("CURATE_RUNTIME", runtime)
    graph = open_graph(path, threads=2)
    assert graph.inputs == (Port("rows", (None, WIDTH), "float32"),)
    assert graph.outputs == (Port("vectors", (None, 8), "float32"),)
    for count in (1, 5, 3):
        (given,) = graph.run([rows(count)], "vectors")
        np.testing.assert_allclose(given, rows(count).astype(np.float64) @ matrix, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_many_batches_keep_their_order_and_their_numbers(product: tuple[Path, np.ndarray], runtime: str) -> None:
    path, matrix = product
    graph = open_graph(path, runtime=runtime, threads=3)  # type: ignore[arg-type]
    assert graph.workers == 3
    batches = [rows(1 + number % 7) for number in range(40)]
    for batch, given in zip(batches, graph.run(batches, "vectors"), strict=True):
        np.testing.assert_allclose(given, batch @ matrix, atol=1e-4)


def test_threads_are_those_of_the_machine_unless_somebody_says(
    product: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = product
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert open_graph(path).workers == here
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert open_graph(path).workers == 5
    assert open_graph(path, threads=2).workers == 2


def test_a_precision_is_part_of_a_spec() -> None:
    assert split_precision("clip:a/b") == ("clip:a/b", "f32")
    assert split_precision("clip:a/b?precision=bf16") == ("clip:a/b", "bf16")
    assert split_precision("?precision=f32") == ("", "f32")
    assert precision_suffix("f32") == ""
    assert split_precision("a" + precision_suffix("bf16")) == ("a", "bf16")
    with pytest.raises(UsageError, match=r"no precision 'int7'.*f32, bf16"):
        split_precision("timm:x?precision=int7")


def test_what_cannot_run_is_refused(product: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = product
    with pytest.raises(UsageError, match="onnxruntime does not compute in bf16"):
        open_graph(path, runtime="onnxruntime", precision="bf16")
    monkeypatch.setenv("CURATE_RUNTIME", "tensorflow")
    with pytest.raises(UsageError, match=r"CURATE_RUNTIME: there is no runtime 'tensorflow'.*onnxruntime, openvino"):
        open_graph(path)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_no_graph_is_named(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    with pytest.raises(InputError, match="not an ONNX model that can be run") as caught:
        open_graph(path, runtime=runtime)  # type: ignore[arg-type]
    assert caught.value.where == str(path)


def test_without_openvino_the_extra_is_named(product: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    for options in ({"runtime": "openvino"}, {"precision": "bf16"}):
        with pytest.raises(MissingExtra, match=r"curate-vision\[openvino\]"):
            open_graph(product[0], **options)  # type: ignore[arg-type]


@needs_openvino
def test_bf16_is_less_exact_and_only_by_choice(product: tuple[Path, np.ndarray]) -> None:
    path, matrix = product
    expected = rows(20) @ matrix
    try:
        graph = open_graph(path, precision="bf16")
    except UsageError as error:
        pytest.skip(str(error))
    (given,) = graph.run([rows(20)], "vectors")
    difference = np.abs(given - expected).max() / np.abs(expected).max()
    assert 1e-4 < difference < 0.05


@needs_openvino
def test_openvino_tells_nobody(product: tuple[Path, np.ndarray]) -> None:
    """On import it would report to its maker, by a package of its own."""
    program = (
        "import sys; from pathlib import Path; from curate.models.runtime import open_graph\n"
        "open_graph(Path(sys.argv[1]), runtime='openvino')\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(product[0])], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_openvino
def test_ctrl_c_does_not_crash_once_models_have_come_and_gone(product: tuple[Path, np.ndarray]) -> None:
    program = (
        "import gc, signal, sys; from pathlib import Path; from curate.models.runtime import open_graph\n"
        "models = [open_graph(Path(sys.argv[1]), runtime='openvino') for _ in range(2)]\n"
        "while models:\n"
        "    del models[0]; gc.collect()\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(product[0])], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted")
