"""kill -9 at many points of an import and of a check: the dataset opens at a whole commit, and nothing holds a lock."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.dataset import Dataset, begin, dataset_names, open_dataset
from curate.dataset.home import home

POINTS = 12

# Runs a command, and kills itself without warning at the n-th call into the store or the functions that write files.
CHILD = """
import atexit, os, signal, sys
limit, seen, known = int(sys.argv.pop(1)), 0, {}
places = tuple(os.sep + place for place in ("curate/dataset/", "curate/files.py", "lance/dataset.py"))
def count(frame, event, argument):
    global seen
    file = frame.f_code.co_filename
    if file not in known:
        known[file] = any(place in file for place in places)
    if known[file] and event in ("call", "return", "c_call"):
        seen += 1
        if seen == limit:
            os.kill(os.getpid(), signal.SIGKILL)
import curate.cli
atexit.register(lambda: print("calls", seen, file=sys.stderr))
sys.argv[0] = "curate"
sys.setprofile(count)
curate.cli.main()
"""


def run(*arguments: str, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CHILD, str(kill_at), *arguments], capture_output=True, text=True)


def calls(result: subprocess.CompletedProcess[str]) -> int:
    assert result.returncode == 0, result.stderr
    return int(result.stderr.split()[-1])


def kill_points(total: int) -> Iterator[int]:
    """Spread over the whole run, half of them in its last fifth, where the commit is made."""
    early = np.linspace(1, 0.8 * total, POINTS // 2, endpoint=False)
    late = np.linspace(0.8 * total, total - 1, POINTS - POINTS // 2)
    return (int(point) for point in [*early, *late])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """24 pictures of two classes of squares, in COCO."""
    random = np.random.default_rng(0)
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(24):
        pixels = random.integers(0, 60, (48, 48, 3), dtype=np.uint8)
        pixels[8:24, 8:24, number % 2] = 250
        pixels[26:44, 26:44, (number + 1) % 2] = 250
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 48, "height": 48})
        for place, (box, label) in enumerate([([8, 8, 16, 16], number % 2), ([26, 26, 18, 18], (number + 1) % 2)]):
            annotations.append(
                {
                    "id": 2 * number + place,
                    "image_id": number,
                    "category_id": label,
                    "bbox": box,
                    "area": 256,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 0, "name": "red"}, {"id": 1, "name": "green"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def state(dataset: Dataset) -> dict[str, int]:
    """Counts of a commit's tables, each read whole."""
    return {name: len(list(dataset.table(name).to_pylist())) for name in ("images", "annotations", "findings")}


def assert_writable(name: str) -> None:
    number = open_dataset(name).commit.number
    with begin(name, command="touch") as transaction:
        transaction.info = {**transaction.info, "touched": number}
    assert open_dataset(name).commit.number == number + 1
    assert not (home() / "datasets" / name / "writer.json").exists()


@pytest.mark.slow
def test_a_killed_import_is_whole_or_absent(source: Path) -> None:
    whole = {"images": 24, "annotations": 48, "findings": 0}
    total = calls(run("import", str(source), "-d", "complete"))
    assert state(open_dataset("complete")) == whole
    outcomes = set()
    for point in kill_points(total):
        shutil.rmtree(home())
        assert run("import", str(source), "-d", "squares", kill_at=point).returncode == -9
        outcomes.add(len(dataset_names()))
        if dataset_names():
            assert state(open_dataset("squares")) == whole
        else:
            assert run("import", str(source), "-d", "squares").returncode == 0
            assert state(open_dataset("squares")) == whole
        assert_writable("squares")
    assert 0 in outcomes


@pytest.mark.slow
def test_a_killed_check_leaves_the_last_commit(source: Path, tmp_path: Path) -> None:
    assert run("import", str(source), "-d", "squares").returncode == 0
    content = json.loads((source / "annotations.json").read_text())
    content["annotations"][0]["category_id"] = 1 - content["annotations"][0]["category_id"]
    (source / "annotations.json").write_text(json.dumps(content))
    # Importing the changed file again makes a second commit, which updates rows in place.
    assert run("import", str(source), "-d", "squares").returncode == 0
    before = state(open_dataset("squares"))
    shutil.copytree(home(), tmp_path / "kept")
    total = calls(run("mistakes", "-d", "squares"))
    after = state(open_dataset("squares"))
    assert after["findings"] > 0
    for point in kill_points(total):
        shutil.rmtree(home())
        shutil.copytree(tmp_path / "kept", home())
        assert run("mistakes", "-d", "squares", kill_at=point).returncode == -9
        dataset = open_dataset("squares")
        assert state(dataset) == (before if dataset.commit.number == 2 else after)
        assert_writable("squares")
    assert run("mistakes", "-d", "squares").returncode == 0
    assert state(open_dataset("squares")) == after


def test_a_killed_writer_does_not_block_the_next(source: Path) -> None:
    """The lock file may stay; it is the operating system's lock on it that counts."""
    result = run("import", str(source), "-d", "squares", kill_at=30)
    assert result.returncode == -9
    assert dataset_names() == []
    assert run("import", str(source), "-d", "squares").returncode == 0
    assert {path.name for path in (home() / "datasets").iterdir()} - {".squares.lock"} == {"squares"}
