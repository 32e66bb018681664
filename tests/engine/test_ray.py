"""The Ray engine, on a real cluster of this machine: what the local engine gives, whatever happens to its workers."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.checks.duplicates.search import pairs_above
from curate.checks.measures.table import MEASURES
from curate.checks.shift.light import LIGHT
from curate.dataset import open_dataset
from curate.engine.engines import Engine, LocalEngine, map_jobs, use_engine
from curate.engine.jobs import Job
from curate.engine.ray import open_ray
from curate.engine.stage import Failure, Item, Stage
from curate.errors import InputError, UnavailableError, UsageError
from curate.formats.importing import import_source
from curate.models.content import content_hashes
from curate.models.embedding import Embedding
from curate.models.encoders.registry import load_encoder
from curate.models.passes import Together
from curate.models.predictors.predict import Request, predict
from curate.models.spaces import embed_dataset
from tests.engine.stages import DEADLY, Held, Reds, Refusing, add, die, products
from tests.models.onnx_models import channel_means

# Not importorskip: what the engine sets before it imports Ray is part of what is tested.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]

ENGINE = "ray:local?workers=2&store=80"
LOCAL = LocalEngine()


@pytest.fixture(scope="module")
def ray() -> Iterator[Engine]:
    """A cluster of two processes of one core."""
    with open_ray(ENGINE.partition(":")[2]) as engine:
        yield engine


@pytest.fixture
def reds(tmp_path: Path) -> list[Item]:
    """Images of which number n has a red of n, from 0 to 239."""
    folder = tmp_path / "reds"
    folder.mkdir()
    for red in range(240):
        Image.new("RGB", (8, 8), (red, 0, 0)).save(folder / f"{red:03d}.png")
    return [Item(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """150 pictures with structure, of several sizes, and one that is broken."""
    folder, dice = tmp_path / "photographs", np.random.default_rng(0)
    folder.mkdir()
    for number in range(150):
        small = Image.fromarray(dice.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        small.resize((160 + number, 120), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.jpg")
    (folder / "077.jpg").write_bytes(b"not a picture")
    return folder


def table(engine: Engine, stage: Stage[Any], items: Sequence[Item], **settings: Any) -> tuple[pa.Table, list[Failure]]:
    """All rows with the numbers of their items and boxes, and the failures."""
    failures: list[Failure] = []
    batches = [
        pa.table(
            {"item": rows.item, "box": rows.box, **dict(zip(rows.columns.schema.names, rows.columns, strict=True))}
        )
        for rows in engine.run(stage, items, on_error=failures.append, **settings)
    ]
    return pa.concat_tables(batches).combine_chunks(), failures


def told(failures: Sequence[Failure]) -> list[tuple[int, int | None, str]]:
    return [(failure.item, failure.box, str(failure.error)) for failure in failures]


@contextmanager
def killing(folder: Path, times: int) -> Iterator[list[int]]:
    """Kill processes that left their number in a folder, one after another, while something runs."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        dice = random.Random(0)
        while len(killed) < times and not over.wait(0.5):
            running = [int(path.name) for path in folder.iterdir() if int(path.name) not in killed]
            if running:
                killed.append(dice.choice(running))
                with suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("crops", [False, True])
def test_stages_give_bit_for_bit_what_they_give_locally(ray: Engine, photographs: Path, crops: bool) -> None:
    encoders = [load_encoder(spec) for spec in ("builtin", "builtin:style")]
    together = Together([Embedding(encoders[0]), MEASURES.computation, LIGHT.computation])
    boxes = [(None, [5.0, 6.0, 50.0, 40.0], [100.0, 20.0, 400.0, 90.0], [0.0, 0.0, 0.0, 9.0])] if crops else [(None,)]
    items = [Item(path, boxes[0]) for path in sorted(photographs.iterdir())]
    stages: list[Stage[Any]] = [Embedding(encoders[1])] if crops else [together, Embedding(encoders[1])]
    for stage in stages:
        here, failed_here = table(LOCAL, stage, items, batch_size=16)
        there, failed_there = table(ray, stage, items, batch_size=16)
        assert here.equals(there)
        assert told(failed_here) == told(failed_there)
        assert len(failed_here) == (150 if crops else 1)  # of each picture, a box that has no area; and the broken one


def test_models_of_onnx_predict_the_same(ray: Engine, photographs: Path, tmp_path: Path) -> None:
    model = channel_means(tmp_path / "means.onnx")
    output = {"layout": "logits", "output": "logits"}
    sidecar = {"task": "classify", "classes": ["a", "b", "c"], "output": output}
    (tmp_path / "means.curate.json").write_text(json.dumps(sidecar))
    for name, engine in (("here", "local"), ("there", ENGINE)):
        import_source(name, photographs, command="curate import")
        with use_engine(engine):
            request = Request(layer="predictions/m", keep_unmapped=True)
            result = predict(name, f"onnx:{model}", request, command="curate predict")
        assert result.to_json()["predicted"] == 149
    here, there = (open_dataset(name).table("annotations") for name in ("here", "there"))
    assert here.num_rows == 149
    assert here.equals(there)


def test_a_dataset_embedded_on_a_cluster_is_the_same(
    ray: Engine, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATE_CACHE_GB", "0")
    for name in ("here", "there"):
        import_source(name, photographs, command="curate import")
    (here,) = embed_dataset("here", encoder="builtin", command="curate embed")
    monkeypatch.delattr("curate.models.spaces._Table._spooled")  # what this process writes by itself
    with use_engine(ENGINE):
        (there,) = embed_dataset("there", encoder="builtin", command="curate embed")
    assert (here.embedded, len(here.left_out)) == (there.embedded, len(there.left_out)) == (149, 1)
    vectors = [open_dataset(name).table("embeddings/builtin-v1-images") for name in ("here", "there")]
    assert vectors[0].equals(vectors[1])


def test_a_stage_is_loaded_once_by_each_worker(ray: Engine, reds: list[Item], tmp_path: Path) -> None:
    folder = tmp_path / "loaded"
    folder.mkdir()
    rows, _ = table(ray, Reds(folder, seconds=0.05), reds, batch_size=4)
    assert rows["red"].to_pylist() == list(range(240))
    assert {path.read_text() for path in folder.iterdir()} == {"loaded\n"}
    assert {int(path.name) for path in folder.iterdir()} == set(rows["process"].to_pylist())
    assert os.getpid() not in rows["process"].to_pylist()


def test_killed_workers_lose_nothing(
    ray: Engine, reds: list[Item], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "loaded"
    folder.mkdir()
    with killing(folder, times=5) as killed:
        rows, failures = table(ray, Reds(folder, seconds=0.15), reds, batch_size=4)
    assert len(killed) == 5
    assert capfd.readouterr().out == ""  # stdout is for results
    assert rows["item"].to_pylist() == rows["red"].to_pylist() == list(range(240))
    assert failures == []


def test_an_image_that_kills_its_worker_is_reported_and_the_rest_is_done(
    ray: Engine, reds: list[Item], tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8), (DEADLY, 0, 0)).save(tmp_path / "deadly.png")
    items = [*reds[:100], Item(tmp_path / "deadly.png"), *reds[100:]]
    rows, failures = table(ray, Reds(), items, batch_size=2)
    assert rows["red"].to_pylist() == list(range(240))
    assert [(failure.item, failure.box) for failure in failures] == [(100, None)]
    assert "worker processes died of it" in failures[0].error.what
    assert failures[0].error.where == str(tmp_path / "deadly.png")


def test_workers_that_die_of_everything_are_an_error(ray: Engine, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (DEADLY, 0, 0)).save(tmp_path / "deadly.png")
    with pytest.raises(UnavailableError, match="die of whatever they are given"):
        list(ray.run(Reds(), [Item(tmp_path / "deadly.png")] * 16, batch_size=1))


def test_what_copies_of_a_stage_count_is_added_up(ray: Engine, reds: list[Item]) -> None:
    here, there = Reds(refuse=[3, 200]), Reds(refuse=[3, 200])
    table(LOCAL, here, [*reds, *reds])
    table(ray, there, [*reds, *reds], batch_size=16)
    assert here.refused == there.refused == {"red 3": 2, "red 200": 2}


def test_an_error_of_a_stage_is_raised_here_as_it_was(ray: Engine, reds: list[Item]) -> None:
    with pytest.raises(InputError) as raised:
        list(ray.run(Refusing(), reds))
    assert (raised.value.what, raised.value.where) == ("the network gives NaN", "red.onnx")
    assert raised.value.remedy == "export it again"


def test_a_stage_that_cannot_be_sent_is_wrong_use(ray: Engine, reds: list[Item]) -> None:
    with pytest.raises(UsageError, match="cannot be sent to other processes"):
        list(ray.run(Held(), reds))


def test_another_version_on_a_worker_is_told(ray: Engine, reds: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.engine.ray.__version__", "99.0")
    with pytest.raises(UnavailableError, match=r"the command is of curate 99\.0"):
        list(ray.run(Reds(), reds))


def test_closing_gives_nothing_more_out(ray: Engine, reds: list[Item], tmp_path: Path) -> None:
    folder = tmp_path / "loaded"
    folder.mkdir()
    running = ray.run(Reds(folder, seconds=0.2), reds * 10, batch_size=4)
    next(running)
    start = time.monotonic()
    running.close()
    rows, _ = table(ray, Reds(), reds[:8])
    assert rows["red"].to_pylist() == list(range(8))
    assert time.monotonic() - start < 60  # not the two minutes of what was under way


def test_jobs_on_a_cluster(ray: Engine) -> None:
    parts = [1.0, 2.0, 3.0]
    jobs = [Job((k % 3, 2), (1000.0 * k,)) for k in range(20)]
    with use_engine(ENGINE):
        assert list(map_jobs(add, jobs, parts)) == list(LOCAL.map(add, jobs, parts))


def test_files_have_the_same_hashes(ray: Engine, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE_GB", "0")
    paths = [str(path) for path in sorted(photographs.iterdir())] + [str(photographs / "none.jpg")]
    here = content_hashes(paths)
    with use_engine(ENGINE):
        assert content_hashes(paths).equals(here)
    assert here.null_count == 1


def test_jobs_of_killed_workers_are_done_again(ray: Engine, tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    parts = [dice.standard_normal((500, 64)).astype(np.float32) for _ in range(6)]
    folder = tmp_path / "working"
    folder.mkdir()
    jobs = [Job((a, b), (folder, 0.25)) for a in range(6) for b in range(a, 6)]
    with killing(folder, times=3) as killed:
        found = list(ray.map(products, jobs, parts))
    assert len(killed) == 3
    assert found == list(LOCAL.map(products, [Job(job.needs, (folder, 0.0)) for job in jobs], parts))


def test_a_job_that_kills_is_an_error(ray: Engine) -> None:
    with pytest.raises(InputError, match="died of one job"):
        list(ray.map(die, [Job()], []))


def test_near_duplicates_are_the_same_pairs(ray: Engine) -> None:
    dice = np.random.default_rng(0)
    vectors = dice.standard_normal((3000, 64)).astype(np.float16)
    vectors[1500:1800] = vectors[:300] + 0.05 * dice.standard_normal((300, 64)).astype(np.float16)
    here = pairs_above(vectors, 0.9)
    with use_engine(ENGINE):
        there = pairs_above(vectors, 0.9)
    assert len(here[0]) == 300
    assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))
