"""A loop for real: it selects, pushes, waits for people, pulls and measures; the server is in memory."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import begin, open_dataset
from curate.errors import InputError, UsageError
from curate.formats.importing import import_source
from curate.loop.machine import State, rounds, run
from curate.loop.plan import Plan, Wait
from curate.loop.simulate import simulate
from curate.loop.steps import RealSteps
from tests.connectors.memory_connector import Memory, box

KINDS = ("dark", "light")


def picture(seed: int) -> bytes:
    """A dark or a light square, by turns, on blocks of colour that no other picture has."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(60, 196, (8, 8, 3), dtype=np.uint8)
    pixels = blocks.repeat(8, axis=0).repeat(8, axis=1)
    pixels[16:48, 16:48] = 10 if seed % 2 == 0 else 245
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def unlabelled(folder: Path, count: int = 24) -> str:
    """A dataset of pictures without labels."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02d}.png").write_bytes(picture(number))
    content = {
        "images": [{"id": k, "file_name": f"{k:02d}.png", "width": 64, "height": 64} for k in range(count)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(KINDS)],
        "annotations": [],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    import_source("squares", folder / "labels.json", command="test")
    return "squares"


def labelled(folder: Path, count: int = 24) -> str:
    """The same with all labels; the last quarter is the test split."""
    name = unlabelled(folder, count)
    content = json.loads((folder / "labels.json").read_text())
    content["annotations"] = [
        {"id": k, "image_id": k, "category_id": k % 2, "bbox": [16, 16, 32, 32], "area": 1024, "iscrowd": 0}
        for k in range(count)
    ]
    (folder / "labels.json").write_text(json.dumps(content))
    import_source(name, folder / "labels.json", command="test")
    with begin(name, command="split") as transaction:
        table = transaction.base.table("images")
        rows = table.to_pylist()
        for row in rows:
            row["split"] = "test" if int(row["location"][:2]) >= count * 3 // 4 else "train"
        transaction.upsert("images", pa.Table.from_pylist(rows, table.schema), "image_id")
    return name


class People:
    """Annotators: each time the loop waits, they label some of what is on the server."""

    def __init__(self, server: Memory, at_once: int) -> None:
        self.server = server
        self.at_once = at_once
        self.looks = 0

    def __call__(self, seconds: float) -> None:
        self.looks += 1
        todo = [task for task in self.server.tasks.values() if not task.work]
        for task in todo[: self.at_once]:
            label = KINDS[int(task.location[:2]) % 2]
            task.rows[self.server._id("s")] = {**box(label, 16, 16), "bbox": [16.0, 16.0, 32.0, 32.0]}
            task.work = "done"


def test_a_loop_is_played_to_its_end(tmp_path: Path) -> None:
    name = unlabelled(tmp_path / "set")
    server = Memory()
    people = People(server, 3)
    plan = Plan(name, "memory://host", budget=6, rounds=2, wait=Wait(poll=0.0))
    steps = RealSteps("curate loop run", connector=lambda address: server, sleep=people)
    state = run(plan, tmp_path / "state.json", steps, tell=lambda entry: None)
    assert state.ended == "all 2 rounds are done"
    assert [row["selected"] for row in rounds(state)] == [6, 6]
    assert [row["handed_in"] for row in rounds(state)] == [6, 6]
    assert open_dataset(name).count("annotations") == 12
    assert len(server.tasks) == 12
    assert people.looks >= 4
    assert state.metrics()[-1] > 0.9


def test_waiting_ends_after_its_time(tmp_path: Path) -> None:
    name = unlabelled(tmp_path / "set")
    server = Memory()
    plan = Plan(name, "memory://host", budget=4, wait=Wait(handed_in=1.0, poll=0.0, timeout=0.0))
    steps = RealSteps("curate loop run", connector=lambda address: server, sleep=lambda seconds: None)
    state = run(plan, tmp_path / "s.json", steps, tell=lambda entry: None, most=4)
    assert state.of("wait", 1)["timed_out"]
    assert state.of("wait", 1)["handed_in"] == 0


def test_commands_of_the_user_are_run_and_their_metric_is_read(tmp_path: Path) -> None:
    unlabelled(tmp_path / "set")
    state = State(round=3)
    program = f'"{sys.executable}" -c "import json; print(1); print(json.dumps(dict(map=0.25)))"'
    steps = RealSteps("test")
    assert steps.evaluate(Plan("squares", evaluate=program, metric="map"), state)["metric"] == 0.25
    note = tmp_path / "note.txt"
    steps.train(Plan("squares", train=f'echo {{dataset}} {{round}} {{commit}} > "{note}"'), state)
    assert note.read_text().split() == ["squares", "3", "1"]
    with pytest.raises(InputError, match="number 'accuracy'"):
        steps.evaluate(Plan("squares", evaluate=program), state)
    with pytest.raises(InputError, match="status 3"):
        steps.train(Plan("squares", train="exit 3"), state)
    with pytest.raises(InputError, match="filled in"):
        steps.train(Plan("squares", train="echo {dateset}"), state)
    with pytest.raises(UsageError, match="where do people label"):
        steps.push(Plan("squares"), State())


def test_strategies_are_compared_on_held_labels_and_the_dataset_stays_as_it_is(tmp_path: Path) -> None:
    name = labelled(tmp_path / "set")
    plan = Plan(name, budget=6, rounds=3)
    rows = simulate(plan, ["mix", "random"])
    assert [(row["strategy"], row["round"], row["images"]) for row in rows] == [
        (strategy, number, 6 * number) for strategy in ("mix", "random") for number in (1, 2, 3)
    ]
    assert rows[-1]["accuracy"] > 0.9
    assert open_dataset(name).count("annotations") == 24
    assert simulate(plan, ["mix"]) == rows[:3]
    (tmp_path / "loop.yaml").write_text(f"dataset: {name}\nbudget: 6\nrounds: 2\n")
    result = CliRunner().invoke(
        app, ["loop", "run", str(tmp_path / "loop.yaml"), "--simulate", "--strategies", "random", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["images"] for line in result.stdout.splitlines()] == [6, 12]
    names = CliRunner().invoke(app, ["ls", "--json"]).stdout
    assert "simulated" not in names
    status = CliRunner().invoke(app, ["loop", "status", str(tmp_path / "loop.yaml")])
    assert status.exit_code == 0
    assert "no round was played yet" in status.stderr
