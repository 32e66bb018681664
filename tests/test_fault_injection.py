"""Ctrl-C at random moments, a full disk, several commands on one dataset: clear errors, and the dataset stays whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.dataset import begin, dataset_names, open_dataset, undo
from curate.dataset.home import HOME_VARIABLE, home
from curate.errors import DatasetCorrupt, DatasetNotFound
from tests.commands.typed import curate

# CI starts its children with SIGINT ignored.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from curate.cli import main
print("started", file=sys.stderr, flush=True)
sys.argv[0] = "curate"
main()
"""

# Runs a command where its home is a small disk of its own, in which only so many KB are free; the mount goes with the process.
SMALL_DISK = """
import os, subprocess, sys
disk, home, free, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
subprocess.run(["cp", "-r", home, f"{disk}/home"], check=True)
status = os.statvfs(disk)
with open(f"{disk}/ballast", "wb") as file:
    os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_bsize - int(free) * 1024)
os.environ.update(CURATE_HOME=f"{disk}/home", TMPDIR=disk)
itself = [sys.executable, "-m", "tests.test_fault_injection"]
first = subprocess.run([*itself, *command], capture_output=True, text=True)
os.unlink(f"{disk}/ballast")
left = [name for name in os.listdir(disk) if name != "home" and not name.startswith(".")]
print(first.returncode, "STATE", subprocess.check_output(itself, text=True).strip(), left)
print(first.stderr)
again = subprocess.run([*itself, *command], capture_output=True, text=True)
print("AGAIN", again.returncode, again.stderr)
"""


def state() -> dict[str, tuple[int, dict[str, int]]]:
    """For each dataset its newest commit and how many rows each of its tables has, read whole."""
    opened = {name: open_dataset(name) for name in dataset_names()}
    return {
        name: (each.commit.number, {table: each.table(table).num_rows for table in sorted(each.commit.tables)})
        for name, each in opened.items()
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """24 pictures of two classes of squares, in COCO."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(24):
        pixels = generator.integers(0, 60, (48, 48, 3), dtype=np.uint8)
        pixels[8:24, 8:24, number % 2] = 250
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 48, "height": 48})
        box = {"bbox": [8, 8, 16, 16], "area": 256, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": number % 2, **box})
    categories = [{"id": 0, "name": "red"}, {"id": 1, "name": "green"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def squares(source: Path) -> str:
    """The dataset, whose home is copied to start again."""
    curate("import", source, "-d", "squares")
    curate("embed", "-d", "squares", "--encoder", "builtin")
    shutil.copytree(home(), home().with_name("prepared"))
    return "squares"


def start(*command: str) -> subprocess.Popen[str]:
    """A command in a process of its own, which has reached its entry point."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "started\n"
    return process


LIBRARY = """
import os, signal, sys
import curate.dataset
from curate.cli import main
def names():
    try:
        if "INTERRUPTED" in os.environ:
            signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        pass
    raise TypeError("arrays cannot be compared")
curate.dataset.dataset_names = names
sys.argv = ["curate", "ls"]
main()
"""
"""A command in which a library makes an error of its own of a Ctrl-C, if there is one."""


@pytest.mark.parametrize(("status", "said"), [(130, "interrupted:"), (70, "a fault in curate")])
def test_what_a_library_makes_of_ctrl_c_is_a_ctrl_c(status: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if status == 130:
        monkeypatch.setenv("INTERRUPTED", "1")
    done = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert said in done.stderr


COMMANDS = {
    "import": ["import", "SOURCE", "-d", "other"],
    "embed": ["embed", "-d", "squares", "--encoder", "builtin", "--crops"],
    "check": ["check", "-d", "squares"],
    "export": ["export", "TARGET", "-d", "squares", "--format", "yolo"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_at_any_time_leaves_the_dataset_whole(name: str, squares: str, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.zip"
    command = [{"SOURCE": str(source), "TARGET": str(target)}.get(word, word) for word in COMMANDS[name]]
    before = state()
    started = time.monotonic()
    process = start(*command)
    process.communicate()
    assert process.returncode == 0
    took, after = time.monotonic() - started, state()
    generator, interrupted = random.Random(0), 0
    for _ in range(4):
        shutil.rmtree(home())
        shutil.copytree(home().with_name("prepared"), home())
        target.unlink(missing_ok=True)
        process = start(*command)
        time.sleep(generator.uniform(0, 0.9 * took))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert "Traceback" not in said
        if process.returncode not in (0, -signal.SIGINT):  # it was on its way out
            assert process.returncode == 130, said
            assert said.endswith("interrupted: nothing is half-written, and finished work is kept\n")
            interrupted += 1
            assert not target.exists()
        assert state() in (before, after)
        assert not [path for path in home().parent.rglob("*") if ".tmp" in path.name or path.name == "writer.json"]
        if not target.exists():
            curate(*command)
        assert state() == after
    assert interrupted


def small_disk_or_skip(tmp_path: Path) -> Path:
    """A folder on which a child may mount a disk of its own; skips where that is not permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(disk)]
    if (
        sys.platform != "linux"
        or shutil.which("unshare") is None
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("no disk may be mounted here")
    return disk


WRITERS = {
    "import": ["import", "SOURCE", "-d", "other"],
    "embed": ["embed", "-d", "squares", "--encoder", "builtin", "--crops"],
    "mistakes": ["mistakes", "-d", "squares"],
    "quality": ["quality", "-d", "squares"],
    "duplicates": ["duplicates", "-d", "squares"],
    "check": ["check", "-d", "squares"],
    "export": ["export", "DISK/out", "-d", "squares", "--format", "coco"],
    "report": ["report", "-d", "squares", "-o", "DISK/report.html"],
    "augment": ["augment", "-d", "squares", "--recipe", "night", "--count", "4"],
    "undo": ["undo", "-d", "squares"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_leaves_the_dataset_whole(
    name: str, squares: str, source: Path, tmp_path: Path
) -> None:
    disk = small_disk_or_skip(tmp_path)
    command = [word.replace("SOURCE", str(source)).replace("DISK", str(disk)) for word in WRITERS[name]]
    before = json.dumps(state())
    for free in (0, 24):
        arguments = [str(disk), str(home().with_name("prepared")), str(free), *command]
        ran = subprocess.run(
            ["unshare", "-rm", sys.executable, "-c", SMALL_DISK, *arguments], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        status, _, rest = ran.stdout.partition(" STATE ")
        said, _, again = rest.partition("AGAIN ")
        assert status in {"2", "0"} if free else status == "2", ran.stdout
        if status == "2":
            assert said.startswith(f"{before} []\n"), "the dataset is as it was, and no output is there"
            assert "No space left on device" in said or "disk is full" in said
            assert "Traceback" not in said
            assert again.startswith("0 "), "with space, the same command goes on"


def hold(name: str) -> subprocess.Popen[str]:
    """Another process in the middle of writing to a dataset, until its stdin ends."""
    code = (
        "import sys\nfrom curate.dataset import begin\n"
        f"with begin({name!r}, command='curate import big/') as transaction:\n"
        "    rows = transaction.base.table('images')\n"
        "    transaction.append('images', [rows.slice(0, 5)])\n"
        "    print('writing', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_a_second_command_is_told_of_the_first_and_readers_see_a_whole_commit(source: Path) -> None:
    curate("import", source, "-d", "squares")
    writer = hold("squares")
    for command in (["import", str(source), "-d", "squares"], ["undo", "-d", "squares"], ["rm", "squares", "--yes"]):
        refused = curate(*command, status=2)
        assert f"'curate import big/', process {writer.pid} on " in refused.stderr
        assert refused.stderr.count("error:") == 1
    assert '"images": 24' in curate("info", "squares", "--json").stdout
    writer.communicate(timeout=60)
    assert '"images": 29' in curate("info", "squares", "--json").stdout


def test_readers_keep_their_view_while_others_undo_and_write(source: Path) -> None:
    curate("import", source, "-d", "squares")
    with begin("squares", command="more") as transaction:
        transaction.append("images", [transaction.base.table("images").slice(0, 6)])
    views = [open_dataset("squares") for _ in range(4)]
    scans = [iter(view.scan("images")) for view in views]
    first = [next(scan).num_rows for scan in scans]
    undo("squares", command="undo")
    with begin("squares", command="again") as transaction:
        transaction.delete(
            "images", "image_id", transaction.base.table("images")["image_id"].slice(0, 3).combine_chunks()
        )
    rows = [count + sum(batch.num_rows for batch in scan) for count, scan in zip(first, scans, strict=True)]
    assert rows == [30] * 4
    assert [view.count("images") for view in views] == [30] * 4
    assert open_dataset("squares").count("images") == 21


def test_a_dataset_that_is_removed_under_a_reader_is_one_clear_error(source: Path) -> None:
    curate("import", source, "-d", "squares")
    reader = open_dataset("squares")
    curate("rm", "squares", "--yes")
    with pytest.raises(DatasetCorrupt, match="cannot be opened") as gone:
        reader.table("images")
    assert "'curate ls' says whether the dataset is still there" in str(gone.value)
    with pytest.raises(DatasetNotFound):
        open_dataset("squares")


def _main(arguments: list[str]) -> Any:
    """Of the children above: run a command, or print the state of all datasets."""
    if arguments:
        from curate.cli import main

        sys.argv = ["curate", *arguments]
        main()
    else:
        print(json.dumps(state()))


if __name__ == "__main__":
    assert HOME_VARIABLE in os.environ
    _main(sys.argv[1:])
