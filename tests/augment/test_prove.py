"""`curate augment --prove`: the same budget with and without, held-out images apart, and what is said of the difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

pytest.importorskip("torch")

from curate.augment.prove.division import divide_arms
from curate.augment.prove.effects import effect
from curate.augment.prove.run import Asked, prove
from curate.augment.prove.store import stored_proofs
from curate.dataset import begin, open_dataset
from curate.dataset.schema import ANNOTATIONS, IMAGES
from curate.dataset.synthetic import synthetic_metadata
from curate.errors import UsageError
from curate.geometry import encode_rle
from curate.models.training.base import Example, Task
from curate.models.training.examples import Material
from curate.models.training.runs import read_run
from curate.models.training.train import Asked as Training
from curate.models.training.train import train
from tests.models.toy_sets import SHAPES, draw

QUICK = {"device": "cpu", "steps": 30, "workers": 0}


def quiet(done: int, total: int, text: str) -> None:
    """No progress."""


def unheard(text: str) -> None:
    """Nobody to tell."""


class Set:
    """A dataset of shapes, built image by image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.rng = np.random.default_rng(0)

    def add(
        self,
        count: int,
        split: str | None,
        change: Callable[[Any], Any] = lambda pixels: pixels,
        *,
        parents: list[str] | None = None,
    ) -> list[str]:
        """Some images of all shapes; their ids. With parents they are synthetic."""
        ids = []
        for number in range(count):
            name = f"{len(self.images):016x}"
            shape = SHAPES[number % 3]
            path = self.folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(change(np.asarray(draw(shape, self.rng))).astype(np.uint8)).save(path)
            parent = None if parents is None else parents[number % len(parents)]
            row = {
                "image_id": name,
                "location": f"{name}.png",
                "path": str(path),
                "width": 48,
                "height": 48,
                "split": split,
            }
            if parent is not None:
                row |= {
                    "tags": ["synthetic", "augment:dark"],
                    "metadata": synthetic_metadata([parent], {"applied": []}),
                }
            self.images.append(row)
            self.annotations.append(
                {"annotation_id": name, "image_id": name, "layer": "ground_truth", "type": "label", "label": shape}
            )
            ids.append(name)
        return ids

    def store(self, name: str = "shapes") -> None:
        with begin(name, command="test", create=True) as transaction:
            transaction.append("images", [pa.Table.from_pylist(self.images, schema=IMAGES)])
            transaction.append("annotations", [pa.Table.from_pylist(self.annotations, schema=ANNOTATIONS)])
            transaction.classes = [{"name": shape} for shape in SHAPES]


def dark(pixels: Any) -> Any:
    return 255 - pixels * 0.5


@pytest.fixture
def shapes(tmp_path: Path) -> list[str]:
    """Bright images to learn from, dark ones of the split val beside bright ones, and synthetic dark ones; the dark ids."""
    made = Set(tmp_path / "images")
    parents = made.add(24, "train")
    target = made.add(18, "val", dark)
    made.add(18, "val")
    made.add(24, "train", dark, parents=parents)
    made.store()
    return target


def test_a_training_says_how_many_of_its_images_are_synthetic(shapes: list[str]) -> None:
    said: list[str] = []
    asked = Training("shapes", settings={**QUICK, "task": "classify", "steps": 1})
    train(asked, name="some", command="test", report=quiet, say=said.append)
    assert any("48 images to learn from (24 of them synthetic), 36 to validate on" in line for line in said)


@pytest.mark.slow
def test_what_was_missing_is_a_gain_and_is_kept(shapes: list[str]) -> None:
    images = open_dataset("shapes").table("images", columns=["image_id"], where="array_has(tags, 'synthetic')")
    made = images["image_id"].to_pylist()
    asked = Asked("dark", shapes, "classify", made, settings={**QUICK, "steps": 200}, seeds=2)
    proof = prove("shapes", asked, command="test", report=quiet, say=unheard)
    assert (proof.real, proof.synthetic, proof.steps, proof.seeds, proof.metric) == (24, 24, 200, 2, "top1")
    assert proof.gain.images == 18
    assert proof.gain.gain is not None
    assert proof.gain.gain > 0.15
    assert proof.cost is not None
    assert proof.cost.images == 18
    for before, after in proof.runs:
        with_, without = read_run(after), read_run(before)
        assert with_ is not None
        assert without is not None
        assert (without.images["train"], with_.images["train"]) == (24, 48)
        same = ("steps", "batch_size", "learning_rate", "model", "image_size", "seed")
        assert [without.settings[name] for name in same] == [with_.settings[name] for name in same]
        assert (without.stopped, with_.stopped) == ("steps", "steps")
    assert stored_proofs(open_dataset("shapes")) == [proof]
    assert json.loads(json.dumps(proof.to_json()))["effects"][0]["part"] == "target"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_boxes_and_masks_are_proved_too(tmp_path: Path, task: Task) -> None:
    made = Set(tmp_path / "images")
    parents, target = made.add(8, "train"), made.add(8, "val", dark)
    made.add(7, "test")
    made.add(8, "train", dark, parents=parents)
    mask = np.zeros((48, 48), np.bool_)
    mask[10:34, 8:40] = True
    for row in made.annotations:
        row |= {"type": "mask", "bbox": [8.0, 10.0, 32.0, 24.0], "rle": encode_rle(mask), "rle_size": [48, 48]}
    made.store()
    settings = {**QUICK, "steps": 3, "image_size": 64, "batch_size": 4}
    asked = Asked("dark", target, task, settings=settings, seeds=1, resamples=100)
    proof = prove("shapes", asked, command="test", report=quiet, say=unheard)
    assert proof.metric == {"detect": "AP", "segment": "mIoU"}[task]
    assert [(each.part, each.images) for each in proof.effects] == [("target", 8), ("elsewhere", 7)]
    assert all(each.before is not None and each.low is not None for each in proof.effects)
    assert proof.held == "the splits test and val"


@pytest.mark.slow
def test_it_goes_on_where_it_stopped_and_says_what_it_is_not_sure_of(shapes: list[str]) -> None:
    asked = Asked("dark", shapes, "classify", settings=QUICK, seeds=1)

    def stop(done: int, total: int, text: str) -> None:
        if text.startswith("with, ") and "epoch" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prove("shapes", asked, command="test", report=stop, say=unheard)
    trained: list[str] = []

    def tell(done: int, total: int, text: str) -> None:
        if "epoch" in text:
            trained.append(text.partition(",")[0])

    proof = prove("shapes", asked, command="test", report=tell, say=unheard)
    assert set(trained) == {"with"}
    assert any("one seed" in note for note in proof.notes)
    commit = open_dataset("shapes").commit.number
    trained.clear()
    assert prove("shapes", asked, command="test", report=tell, say=unheard) == proof
    assert (trained, open_dataset("shapes").commit.number) == ([], commit)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"synthetic": ["0123456789abcdef"]}, "no synthetic image"),
        ({"image_ids": ["ffffffffffffffff"]}, "no real image of the target"),
        ({"seeds": 0}, "at least 1"),
        ({"settings": {"minutes": 3}}, "minutes"),
        ({"task": "detect"}, "nothing to learn"),
    ],
)
def test_bad_requests_train_nothing(shapes: list[str], changes: dict[str, Any], says: str) -> None:
    wanted = {"target": "dark", "image_ids": shapes, "task": "classify", "settings": QUICK, **changes}
    with pytest.raises(UsageError, match=says):
        prove("shapes", Asked(**wanted), command="test", report=quiet, say=unheard)
    assert open_dataset("shapes").commit.number == 1


def material(splits: list[str], groups: list[int], *, synthetic: dict[int, int] | None = None) -> Material:
    """Images without pixels; synthetic ones by their rows, with the rows of their parents."""
    count, made = len(splits), synthetic or {}
    flags = np.zeros(count, np.bool_)
    flags[list(made)] = True
    parents = np.array([list(made), list(made.values())], dtype=np.int64).reshape(2, -1)
    examples = [Example(f"{row:016x}", "", (1, 1), label=0) for row in range(count)]
    rows = np.zeros(count, np.int64)
    return Material(examples, np.ones(count, np.bool_), splits, np.array(groups), rows, flags, parents, ("a",), [])


def test_nothing_is_both_learnt_from_and_measured_on() -> None:
    # Two frames of one video are in train and val; a child of each of the training images.
    found = material(["train", "train", "val", "val", "train", "train"], [0, 1, 1, 3, 4, 5], synthetic={4: 0, 5: 1})
    target = np.array([True, False, True, False, False, False])
    arms = divide_arms(found, target, np.ones(6, np.bool_), 0)
    assert arms.held.tolist() == [2, 3]
    assert arms.target.tolist() == [True, False]
    assert arms.without.tolist() == [0]
    assert arms.synthetic.tolist() == [4, 5]
    assert any("1 image" in note for note in arms.notes)
    # The same where the child carries its parent's group: then it goes with the video.
    grouped = material(["train", "train", "val", "val", "train", "train"], [0, 1, 1, 3, 0, 1], synthetic={4: 0, 5: 1})
    assert divide_arms(grouped, target, np.ones(6, np.bool_), 0).synthetic.tolist() == [4]


def test_without_splits_a_part_is_held_out_with_all_that_was_made_of_it() -> None:
    found = material([""] * 40, list(range(40)), synthetic={row: row - 20 for row in range(20, 40)})
    target = np.zeros(40, np.bool_)
    target[:10] = True
    arms = divide_arms(found, target, np.ones(40, np.bool_), 0)
    assert arms.target.sum() == 3
    assert len(arms.held) == 6
    assert not set(arms.held.tolist()) & set(arms.without.tolist())
    assert {row - 20 for row in arms.synthetic.tolist()} == set(arms.without.tolist())
    assert len(arms.without) == 14
    # A target of one video cannot be on both sides; what is measured on may be all of it.
    one = material([""] * 20, [0] * 10 + list(range(10, 20)))
    with pytest.raises(UsageError):
        divide_arms(one, target[:20], np.ones(20, np.bool_), 0)


def test_an_interval_that_holds_nothing_is_no_gain() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0.02, 0.03, (1, 2000))
    found = effect("target", 50, 50, np.array([0.50]), np.array([0.52]), draws)
    assert found.verdict == "no gain"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert effect("target", 50, 50, np.array([0.5]), np.array([0.7]), draws + 0.18).verdict == "gain"
    assert effect("target", 50, 50, np.array([0.7]), np.array([0.5]), draws - 0.22).verdict == "loss"
    assert effect("target", 5, 5, np.array([0.5]), np.array([0.7]), draws + 0.18).verdict == "cannot tell"
    nothing = effect("target", 50, 50, np.array([np.nan]), np.array([0.7]), draws)
    assert (nothing.verdict, nothing.gain) == ("cannot tell", None)


def test_seeds_that_disagree_widen_the_interval() -> None:
    draws = np.random.default_rng(0).normal(0.05, 0.01, (3, 4000))
    before = np.full(3, 0.5)
    agreeing = effect("target", 50, 50, before, np.array([0.55, 0.55, 0.55]), draws)
    apart = effect("target", 50, 50, before, np.array([0.45, 0.55, 0.65]), draws)
    assert agreeing.verdict == "gain"
    assert apart.verdict == "no gain"
    assert apart.gain == pytest.approx(0.05)
    assert apart.low is not None
    # Student's t with two degrees of freedom: 4.3 standard errors of 0.1 over the root of three.
    assert apart.low == pytest.approx(0.05 - 4.30 * 0.1 / np.sqrt(3), abs=0.06)
