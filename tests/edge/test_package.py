"""`curate package`: the folder that is made, the proof before it, and that nothing is left where it is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from curate.checks.store import stored_findings
from curate.cli import app
from curate.dataset import open_dataset
from curate.models.predictors.sidecar import DepthMapLayout, Logits, Sidecar, write_sidecar
from curate.runner import Package, Runner
from tests.models.onnx_models import channel_means, constant_model, grey_map, identity

CLASSES = ("red", "green", "blue")
DARK = 12
"""Images of the test split on which a model that does not see in the dark is wrong."""


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A dataset of reddish, greenish and bluish images, a part of them dark; returns the folder of the test images."""
    random = np.random.default_rng(0)
    for split, each in (("train", 20), ("test", 24)):
        for number, name in enumerate(CLASSES):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for place in range(each):
                light = 40 if place % 3 == 0 else random.uniform(120, 200)
                pixels = random.uniform(0.3, 0.6, (20, 30, 3)) * light
                pixels[..., number] += 0.35 * light
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{place:02d}.png")
    done = CliRunner().invoke(app, ["import", str(tmp_path / "images"), "-d", "colours"])
    assert done.exit_code == 0, done.stderr
    return tmp_path / "images" / "test"


def classifier(path: Path, *, scale: float = 0.1, mean: tuple[float, ...] = (0.0,)) -> Path:
    """Takes the brightest channel for the class."""
    model = channel_means(path)
    sidecar = Sidecar(classes=CLASSES, resize="squash", scale=scale, mean=mean, output=Logits(output="logits"))
    write_sidecar(model, sidecar)
    return model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return classifier(tmp_path / "colour.onnx")


def package(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["package", "-d", "colours", *map(str, arguments)])


def made(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    return read


def test_a_package_holds_all_that_a_device_needs(colours: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    done = package(
        "-m", f"onnx:{model}", "-o", folder, "--version", "2.1.0", "--ask", "0.4:0.8", "--name", "hue", "--json"
    )
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[0])
    assert said["package"] == "hue-2.1.0"
    assert said["refused"] == []
    assert said["parity"]["drop"] == 0
    assert said["parity"]["agreement"] == pytest.approx(1, abs=1e-6)
    assert {path.name for path in folder.iterdir()} == {
        *("MODEL_CARD.md", "SHA256SUMS", "labels.txt", "model.onnx", "package.json", "reference.npz"),
        *("requirements.txt", "runner.py"),
    }
    assert (folder / "labels.txt").read_text() == "red\ngreen\nblue\n"
    assert "onnxruntime" in (folder / "requirements.txt").read_text()
    opened = Package.open(folder)
    assert (opened.id, opened.ask, opened.classes) == ("hue-2.1.0", (0.4, 0.8), CLASSES)
    manifest = made(folder)
    assert manifest["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert manifest["metrics"]["original"]["images"] == 72
    reference = Runner(folder).reference
    assert reference is not None
    assert reference.uncertainties is not None
    assert len(reference.uncertainties) == 72
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for told in ("hue 2.1.0", "commit 1 of the dataset `colours`", "darkest fifth", "| red |", "Intended use"):
        assert told in card
    assert open_dataset("colours").commit.number == 1  # nothing changed, so there is nothing to commit


def test_checksums_are_of_every_file(colours: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    assert package("-m", f"onnx:{model}", "-o", folder).exit_code == 0
    lines = (line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines())
    sums = {name: digest for digest, name in lines}
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "SHA256SUMS"
    }


def test_the_runner_in_it_runs_alone(colours: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    assert package("-m", f"onnx:{model}", "-o", folder).exit_code == 0
    image = colours / "green" / "01.png"
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "runner.py"), str(image)], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert said["label"] == "green"
    (result,) = Runner(folder).run([np.asarray(Image.open(image))])
    assert said["score"] == pytest.approx(result.probabilities.max(), abs=1e-6)  # type: ignore[union-attr]
    assert 0 < said["drift"] < 1


@pytest.fixture
def night_blind(tmp_path: Path) -> Path:
    """Sees as the other does by day; what is darker than 40 of 255 in all channels is red to it."""
    import onnx
    from onnx import helper, numpy_helper

    path = classifier(tmp_path / "blind.onnx")
    graph = onnx.load(path)
    for node in graph.graph.node:
        node.output[:] = ["means" if name == "logits" else name for name in node.output]
    constants = {"level": np.float32(4.5), "red": np.array([[9, 0, 0]], np.float32)}
    graph.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    graph.graph.initializer.append(numpy_helper.from_array(np.array([1]), "channels"))
    graph.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["means", "channels"], ["most"]),
            helper.make_node("Less", ["most", "level"], ["is_dark"]),
            helper.make_node("Where", ["is_dark", "red", "means"], ["logits"]),
        ]
    )
    onnx.save(graph, path)
    return path


def test_what_fails_in_the_dark_is_refused_and_leaves_nothing(
    colours: Path, model: Path, night_blind: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "device"
    folder.parent.mkdir()
    asked = ("-m", f"onnx:{night_blind}", "--against", f"onnx:{model}", "-o", folder)
    done = package(*asked, "--max-drop", "0.4")  # a third of the images is dark, two thirds of them not red
    assert done.exit_code == 0, done.stderr
    assert folder.is_dir()
    done = package(*asked[:-1], tmp_path / "out" / "second", "--max-drop", "0.01")
    assert done.exit_code == 1
    assert "no package was made: 0.2222 lost of all images, 0.01 allowed" in done.stderr
    assert [path.name for path in folder.parent.iterdir()] == ["device"]


def test_a_slice_alone_is_enough_to_refuse(colours: Path, model: Path, night_blind: Path, tmp_path: Path) -> None:
    done = package(
        *("-m", f"onnx:{night_blind}", "--against", f"onnx:{model}", "-o", tmp_path / "device", "--max-drop", "0.4"),
        *("--max-slice-drop", "0.3", "--slices", "height > 1"),
    )
    assert done.exit_code == 0, done.stderr  # the dark are 15 images: too few to judge by
    done = package(
        *("-m", f"onnx:{night_blind}", "--against", f"onnx:{model}", "-o", tmp_path / "other", "--max-drop", "0.4"),
        *("--max-slice-drop", "0.1", "--slices", "height > 1"),
    )
    assert done.exit_code == 1
    assert "lost on 'height > 1' (72 images)" in done.stderr
    assert not (tmp_path / "other").exists()


def test_images_whose_answer_changed_become_findings(
    colours: Path, model: Path, night_blind: Path, tmp_path: Path
) -> None:
    asked = ("-m", f"onnx:{night_blind}", "--against", f"onnx:{model}", "--max-drop", "1")
    assert package(*asked, "-o", tmp_path / "device").exit_code == 0
    dataset = open_dataset("colours")
    found = stored_findings(dataset)
    assert dataset.commit.number == 2
    assert 16 <= len(found) <= 20  # at most 20, of the 24 dark images
    assert {(each.kind, each.check) for each in found} == {("hard", "package")}
    assert {each.image.split("/")[-2] for each in found} >= {"green", "blue"}
    evidence = found[0].evidence
    assert next(iter(evidence["after"])) == "red"
    assert evidence["change"] == pytest.approx(found[0].score, abs=1e-3)
    assert package("-m", f"onnx:{model}", "-o", tmp_path / "same").exit_code == 0
    assert stored_findings(open_dataset("colours")) == []  # judged again, and no longer so


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--version", "2"), "is no version"),
        (("--ask", "0.8:0.4"), "lower score to a higher"),
        (("--ask", "half"), "is no band"),
        (("--max-drop", "2"), "no part of a metric"),
        (("--name", "a/b"), "cannot be a package's name"),
        (("--target", "abacus"), "abacus"),
        (("--metric", "AP50"), "there is no metric"),
        (("--where", "width > 1000"), "no image"),
    ],
)
def test_wrong_values_are_told_before_anything_is_made(
    more: tuple[str, ...], reason: str, colours: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    done = package("-m", f"onnx:{model}", "-o", tmp_path / "out" / "device", *more)
    assert done.exit_code == 2
    assert reason in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_a_place_that_is_taken_or_not_there_is_told(colours: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    done = package("-m", f"onnx:{model}", "-o", tmp_path / "taken")
    assert (done.exit_code, "that name already" in done.stderr) == (2, True)
    done = package("-m", f"onnx:{model}", "-o", tmp_path / "no" / "folder")
    assert (done.exit_code, "is not there" in done.stderr) == (2, True)


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_is_named_and_not_the_model(
    named: bool, colours: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy's error names what it copies first, and others name nothing."""

    def fail(source: Path, target: Path, **options: object) -> None:
        raise OSError(28, "No space left on device", *([str(source), None, str(target)] if named else []))

    monkeypatch.setattr("curate.edge.package.build.shutil.copyfile", fail)
    monkeypatch.setattr("curate.edge.package.build.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    (tmp_path / "out").mkdir()
    done = package("-m", f"onnx:{model}", "-o", tmp_path / "out" / "p")
    assert done.exit_code != 0
    assert "cannot be written: No space left" in done.stderr
    assert str(model) not in done.stderr
    assert re.search(rf"at: +{re.escape(str(tmp_path / 'out'))}$", done.stderr, re.MULTILINE), done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_models_that_no_runner_reads_are_refused(colours: Path, tmp_path: Path) -> None:
    depth = grey_map(tmp_path / "depth.onnx")
    write_sidecar(depth, Sidecar(resize="squash", scale=1 / 255, output=DepthMapLayout(output="predicted_depth")))
    done = package("-m", f"onnx:{depth}", "-o", tmp_path / "device")
    assert done.exit_code == 2
    assert "cannot be packaged" in done.stderr
    done = package("-m", "hf:somebody/model", "-o", tmp_path / "device")
    assert done.exit_code == 2
    assert "name a run" in done.stderr
    masks = {"o": np.zeros((1, 8, 84), np.float32), "p": np.zeros((1, 1, 16, 16), np.float32)}
    path = constant_model(tmp_path / "masks.onnx", masks, shape=("n", 3, 64, 64))
    (tmp_path / "masks.curate.json").write_text(
        '{"classes": ["a", "b", "c"], "resize": "squash", "scale": 1, "output": {"layout": "yolov8", "output": "o", '
        '"prototypes": "p"}}'
    )
    done = package("-m", f"onnx:{path}", "-o", tmp_path / "device")
    assert done.exit_code == 2
    assert "cannot be packaged" in done.stderr


def test_no_dataset_is_told(model: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["package", "-m", f"onnx:{model}", "-o", str(tmp_path / "device")])
    assert done.exit_code == 2
    assert "name one: --dataset" in done.stderr


# Looked for and not imported: that would report to its maker, which `curate.runner.import_openvino` prevents.
@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_gives_what_onnxruntime_gives(colours: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    done = package("-m", f"onnx:{model}", "-o", folder, "--target", "openvino")
    assert done.exit_code == 0, done.stderr
    assert {"model.xml", "model.bin"} <= made(folder)["files"].keys()
    pixels = np.asarray(Image.open(colours / "blue" / "03.png"))
    assert package("-m", f"onnx:{model}", "-o", tmp_path / "onnx").exit_code == 0
    (one,), (other,) = Runner(folder).run([pixels]), Runner(tmp_path / "onnx").run([pixels])
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-3)  # type: ignore[arg-type]
    (third,) = Runner(tmp_path / "onnx", backend="openvino").run([pixels])
    np.testing.assert_allclose(third.probabilities, other.probabilities, atol=1e-5)  # type: ignore[arg-type]


FAKE_TRTEXEC = """#!/bin/sh
[ "$1" = --help ] && { echo "&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --help"; exit 0; }
echo "$@" > asked.txt
for argument; do case "$argument" in --saveEngine=*) echo engine > "${argument#--saveEngine=}";; esac; done
"""


def test_tensorrt_gets_a_script_that_builds_the_engine(
    colours: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    folder = tmp_path / "device"
    done = package("-m", f"onnx:{model}", "-o", folder, "--target", "tensorrt")
    assert done.exit_code == 0, done.stderr
    assert "no engine was built" in done.stderr
    assert "not with TensorRT" in done.stderr
    script = [str(folder / "build_engine.sh")]
    assert subprocess.run(script, capture_output=True, check=False).returncode == 3  # no trtexec
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "trtexec").write_text(FAKE_TRTEXEC)
    (tools / "trtexec").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:/usr/bin:/bin"}
    assert subprocess.run([*script, "fp64"], env=environment, capture_output=True, check=False).returncode == 2
    subprocess.run(script, env=environment, check=True)
    asked = (folder / "asked.txt").read_text().split()
    assert asked[:2] == ["--onnx=model.onnx", "--saveEngine=model.engine"]
    assert {"--minShapes=image:1x3x8x8", "--maxShapes=image:8x3x8x8", "--fp16"} <= set(asked)
    subprocess.run([*script, "int8"], env=environment, check=True)
    assert {"--int8", "--calib=calibration.cache"} <= set((folder / "asked.txt").read_text().split())
    first, *lines = (folder / "calibration.cache").read_text().splitlines()
    assert first == "TRT-100300-MinMaxCalibration"
    scales = {
        name: np.frombuffer(bytes.fromhex(value), ">f4")[0] for name, value in (line.split(": ") for line in lines)
    }
    assert set(scales) >= {"image", "logits"}
    assert 0 < scales["logits"] <= scales["image"] <= 25.5 / 127  # pixels by the scale of 0.1


def test_an_engine_is_built_where_trtexec_is(
    colours: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trtexec").write_text(FAKE_TRTEXEC)
    (tmp_path / "trtexec").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    done = package("-m", f"onnx:{model}", "-o", tmp_path / "device", "--target", "tensorrt")
    assert done.exit_code == 0, done.stderr
    assert "model.engine" in made(tmp_path / "device")["files"]


def test_operators_that_tensorrt_lacks_are_named(colours: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    path = classifier(tmp_path / "odd.onnx")
    graph = onnx.load(path)
    graph.graph.node.insert(0, helper.make_node("Det", ["image"], ["unused"]))
    onnx.save(graph, path)
    done = package("-m", f"onnx:{path}", "-o", tmp_path / "device", "--target", "tensorrt")
    assert done.exit_code == 2
    assert "TensorRT lacks operators of the model: Det" in done.stderr


def test_tflite_without_its_python_says_how_to_get_it(
    colours: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CURATE_LITERT_PYTHON", raising=False)
    asked = ("-m", f"onnx:{model}", "-o", tmp_path / "device", "--target", "tflite")
    done = package(*asked)
    assert done.exit_code == 3
    assert "pip install litert-torch" in done.stderr
    done = package(*asked, "--python", tmp_path / "no-python")
    assert done.exit_code == 3
    assert "no such Python" in done.stderr
    assert not (tmp_path / "device").exists()


@pytest.mark.slow
def test_tflite_gives_what_onnxruntime_gives(colours: Path, model: Path, tmp_path: Path) -> None:
    if not os.environ.get("CURATE_LITERT_PYTHON"):
        pytest.skip("CURATE_LITERT_PYTHON names no Python with litert-torch")
    pytest.importorskip("ai_edge_litert")
    folder = tmp_path / "device"
    done = package("-m", f"onnx:{model}", "-o", folder, "--target", "tflite")
    assert done.exit_code == 0, done.stderr
    assert package("-m", f"onnx:{model}", "-o", tmp_path / "onnx").exit_code == 0
    pictures = [np.asarray(Image.open(path)) for path in sorted(colours.rglob("0*.png"))]
    for one, other in zip(Runner(folder).run(pictures), Runner(tmp_path / "onnx").run(pictures), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)  # type: ignore[arg-type]


def test_pixels_are_packaged_too(tmp_path: Path) -> None:
    from curate.edge.package.source import open_source, postprocessing, preprocessing

    model = identity(tmp_path / "map.onnx")
    (tmp_path / "map.curate.json").write_text(
        '{"task": "segment", "classes": ["a", "b"], "resize": "letterbox", "scale": 0.5, "mean": [1, 2, 3], '
        '"output": {"layout": "class_map", "output": "logits", "background": true}}'
    )
    source = open_source(f"onnx:{model}")
    pre, post = preprocessing(source), postprocessing(source)
    assert (pre["size"], pre["scale"], pre["mean"], pre["std"], pre["dtype"]) == (
        [32, 32],
        0.5,
        [1, 2, 3],
        [1.0],
        "float32",
    )
    assert post == {
        **{"layout": "class_map", "output": "logits", "background": True, "activation": "softmax"},
        **{"outputs": ["logits"], "min_score": 0.05, "nms_iou": 0.65, "most_objects": 300},
    }
