"""What each command costs on ten times the images, counted in lines and bytes: nothing quadratic, no loop over rows.

Executed lines of Python are counted in all threads, so a loop over the rows of a table is ten times as many here, whatever it
does; work on whole columns is as many as before, and a few for each piece of 65,536 rows. Where a command still has one, the
table `EACH_IMAGE` says so. A list or a matrix of all pairs of rows shows in the bytes held at once. What is native is not
counted: where a processor counts its instructions (perf), machines like ours do not let it; a native loop over all pairs shows
here as the Python loop over its blocks, or as its matrix.

`python -m benchmarks.growth` has the seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.growth import COMMANDS
from benchmarks.growth_sets import Kind, make_set
from benchmarks.import_coco import generate

ROOT = Path(__file__).parents[1]
SIZES = {"first": 100, "small": 10_000, "large": 100_000}
"""Images, each of which has about seven rows in the tables; the first run is not counted."""
FEWER = {"first": 100, "small": 1_000, "large": 10_000}
"""The same for commands that learn, compare or draw, of which counting costs minutes."""

EACH_IMAGE = {
    "import": 75,  # its file is looked for, and what is decoded of it and of its nine boxes is handed to columns
    "quality": 80,  # the header of each image's file is read
    "check": 90,  # the same
    "report": 65,  # cards of more findings
    "mistakes, labels": 10,  # a fit takes more rounds
}
"""Lines that a command may execute for each further image, where a Python object for each cannot be helped yet."""
PIECES, FEWER_PIECES = 0.25, 0.75
"""The same of all others, on the larger and on the smaller sets: pieces of tables are more, and lists of what is shown. The
shortest loop over the images takes 1."""
BYTES = 12.0
"""Times as many, at most: in proportion, and a fifth."""
DIMENSIONS = 16
"""Of the vectors: how many does not change what is counted."""
CHEAP = ("info", "history", "findings", "findings --where", "export --where", "export", "evaluate")
SLOW = (
    "import",
    "quality",
    "duplicates",
    "leaks",
    "outliers",
    "mistakes, labels",
    "mistakes, boxes",
    "check",
    "report",
)


def encoder(folder: Path) -> str:
    """The spec of a network that projects 8 x 8 pixels."""
    weights = np.random.default_rng(0).standard_normal((3 * 8 * 8, DIMENSIONS)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["vector"])]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", DIMENSIONS])
    graph = helper.make_graph(nodes, "projection", [image], [vector], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "projection.onnx")
    return f"onnx:{folder / 'projection.onnx'}"


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Data folders of the large datasets, one for each size, by kind."""
    return make_homes(tmp_path_factory.mktemp("growth"), SIZES, ["boxes"])


@pytest.fixture(scope="module")
def smaller_homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The same of smaller datasets."""
    return make_homes(tmp_path_factory.mktemp("smaller"), FEWER, ["boxes", "labels"])


def make_homes(folder: Path, sizes: Mapping[str, int], kinds: Sequence[Kind]) -> dict[str, list[Path]]:
    spec = encoder(folder)
    made: dict[str, list[Path]] = {kind: [] for kind in (*kinds, "file")}
    with pytest.MonkeyPatch.context() as patch:
        for name, size in sizes.items():
            for kind in kinds:
                made[kind].append(home := folder / kind / name)
                home.mkdir(parents=True)
                patch.setenv("CURATE_HOME", str(home))
                make_set("grown", size, folder, kind, spec)
            made["file"].append(home := folder / "file" / name)
            home.mkdir(parents=True)
            generate(home / "labels.json", size, 1.0, 0)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
def test_ten_times_the_images_are_no_more_lines(name: str, homes: dict[str, list[Path]]) -> None:
    check(name, homes, SIZES, PIECES)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_what_learns_or_compares_takes_no_more_lines_either(name: str, smaller_homes: dict[str, list[Path]]) -> None:
    check(name, smaller_homes, FEWER, FEWER_PIECES)


def check(name: str, homes: dict[str, list[Path]], sizes: Mapping[str, int], each: float) -> None:
    command = COMMANDS[name]
    words = [word.format(file="{home}/labels.json", target="{home}/target") for word in command.words]
    given = [json.dumps([str(home) for home in homes[command.kind]]), json.dumps(words)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.counted_work", *given], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout.splitlines()[-1])
    allowed = EACH_IMAGE.get(name, each) * (sizes["large"] - sizes["small"])
    assert large["lines"] - small["lines"] <= allowed, (small, large)
    assert large["bytes"] <= BYTES * small["bytes"], (small, large)
    assert large["arrow"] <= BYTES * small["arrow"], (small, large)


def test_every_command_that_needs_no_pixels_is_counted() -> None:
    assert {*CHEAP, *SLOW} == {name for name in COMMANDS if not name.endswith("pixels")}
