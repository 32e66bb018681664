"""What each command costs on ten times the images, counted in instructions and bytes: nothing quadratic, no loop over rows.

Python's bytecode instructions are counted in all threads, so a loop over the rows of a table is ten times as many here, whatever
it does; work on whole columns is as many as before, and a few for each piece of 65,536 rows. Where a command still has one, the
table `EACH_IMAGE` says so. A list or a matrix of all pairs of
rows shows in the bytes held at once. What is native is not counted: where a processor counts its instructions (perf), machines
like ours do not let it; a native loop over all pairs shows here as the Python loop over its blocks, or as its matrix.

`python -m benchmarks.growth` has the seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.growth import COMMANDS
from benchmarks.growth_sets import make_set
from benchmarks.import_coco import generate

ROOT = Path(__file__).parents[1]
SIZES = {"first": 100, "small": 10_000, "large": 100_000}
"""Images; the first run is not counted."""

INSTRUCTIONS = 2.0
"""Times as many, at most, for ten times the rows: pieces of tables are more, and lists of what is shown."""
EACH_IMAGE = {
    "quality": 540,  # the header of each image's file is read
}
"""Instructions that a command may execute for each image beyond that, where a Python object for each cannot be helped yet."""
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
    """Data folders by kind, one for each size."""
    folder = tmp_path_factory.mktemp("growth")
    spec = encoder(folder)
    made: dict[str, list[Path]] = {kind: [] for kind in ("boxes", "labels", "file")}
    with pytest.MonkeyPatch.context() as patch:
        for name, size in SIZES.items():
            for kind in ("boxes", "labels"):
                made[kind].append(home := folder / kind / name)
                home.mkdir(parents=True)
                patch.setenv("CURATE_HOME", str(home))
                make_set("grown", size, folder, kind, spec)
            made["file"].append(home := folder / "file" / name)
            home.mkdir(parents=True)
            generate(home / "labels.json", size, 1.0, 0)
    return made


@pytest.mark.parametrize("name", [*CHEAP, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_ten_times_the_images_are_no_more_instructions(name: str, homes: dict[str, list[Path]]) -> None:
    command = COMMANDS[name]
    words = [word.format(file="{home}/labels.json", target="{home}/target") for word in command.words]
    given = [json.dumps([str(home) for home in homes[command.kind]]), json.dumps(words)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.counted_work", *given], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout.splitlines()[-1])
    allowed = EACH_IMAGE.get(name, 0) * (SIZES["large"] - SIZES["small"])
    assert large["instructions"] <= INSTRUCTIONS * small["instructions"] + allowed
    assert large["bytes"] <= BYTES * small["bytes"]
    assert large["arrow"] <= BYTES * small["arrow"]


def test_every_command_that_needs_no_pixels_is_counted() -> None:
    assert {*CHEAP, *SLOW} == {name for name in COMMANDS if not name.endswith("pixels")}
