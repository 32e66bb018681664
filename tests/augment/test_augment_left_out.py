"""Where synthetic images have no place: what is validated on, predicted out of fold, checked, evaluated, chosen or pushed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.augment.request import Request
from curate.augment.run import augment, understand
from curate.checks.base import Settings, run_check
from curate.checks.evaluation.load import load_source
from curate.checks.quality.check import CHECK as QUALITY
from curate.connectors.sync.plans import plan_push
from curate.dataset import begin, open_dataset
from curate.dataset.synthetic import is_synthetic
from curate.loop.candidates import load_candidates
from curate.models.training.base import TrainingSettings
from curate.models.training.examples import Material, divide, load_material
from curate.models.training.runs import Plan
from curate.models.training.train import _parts
from tests.augment.discs import make_discs


@pytest.fixture
def discs(tmp_path: Path) -> str:
    """Twelve real images, and twelve that were made of several of them each."""
    make_discs(tmp_path / "images")
    intent = understand("discs", Request(copy_paste=("disc",), count=12), report=lambda *_: None)
    augment(intent, command="augment", report=lambda *_: None)
    return "discs"


def material_of(name: str) -> Material:
    return load_material(open_dataset(name), "detect", "ground_truth", None)


def parents_of(material: Material, row: int) -> set[int]:
    children, parents = material.parents
    return set(parents[children == row].tolist())


@pytest.mark.parametrize("seed", range(3))
def test_no_child_is_validated_on_nor_learnt_from_where_a_parent_is(discs: str, seed: int) -> None:
    material = material_of(discs)
    assert material.synthetic.sum() > 8
    division = divide(material, "0.3", seed)
    assert not material.synthetic[division.validation].any()
    assert len(division.validation) in {3, 4}
    held = set(division.validation.tolist())
    assert material.synthetic[division.train].any()
    for row in division.train.tolist():
        assert not parents_of(material, row) & held


def test_folds_hold_a_child_out_with_any_of_its_parents(discs: str) -> None:
    material = material_of(discs)
    plan = Plan(
        dataset=discs, commit=1, layer="ground_truth", where=None, validation=None, empty=False, folds=3, settings={},
        command="", division="",
    )  # fmt: skip
    parts = _parts(material, plan, TrainingSettings(task="detect"))
    predicted = np.concatenate([part.own for part in parts])
    assert sorted(predicted.tolist()) == np.flatnonzero(~material.synthetic).tolist()
    for part in parts:
        apart = {*part.own.tolist(), *part.division.validation.tolist()}
        assert not material.synthetic[part.division.validation].any()
        for row in part.division.train.tolist():
            assert not parents_of(material, row) & apart


def test_children_of_what_has_moved_into_the_test_split_are_not_learnt_from(discs: str) -> None:
    before = material_of(discs)
    moved = before.parents[1][0]
    with begin(discs, command="resplit") as transaction:
        images = transaction.read("images").to_pylist()
        chosen = [{**row, "split": "test"} for row in images if row["image_id"] == before.examples[moved].image_id]
        transaction.upsert("images", pa.Table.from_pylist(chosen, schema=transaction.base.schema("images")), "image_id")
    after = material_of(discs)
    gone = {before.examples[k].image_id for k in before.parents[0][before.parents[1] == moved]}
    assert gone
    assert {each.image_id for each in before.examples} - {each.image_id for each in after.examples} == gone


def test_checks_look_at_real_images_unless_asked(discs: str) -> None:
    images = open_dataset(discs).table("images")
    made = int(np.asarray(is_synthetic(images)).sum())

    def looked_at(where: str | None) -> str:
        return run_check(QUALITY, discs, Settings(where=where), command="quality").summary

    assert f"{images.num_rows - made} images" in looked_at(None)
    assert f"{images.num_rows - made} images" in looked_at("width > 1")
    assert f"{made} images" in looked_at("array_has(tags, 'synthetic')")


def test_models_are_measured_on_real_images(discs: str) -> None:
    with begin(discs, command="predict") as transaction:
        rows = [
            {**row, "layer": "predictions/mine", "annotation_id": f"{number:016x}", "score": 0.9}
            for number, row in enumerate(transaction.read("annotations").to_pylist())
        ]
        transaction.append("annotations", [pa.Table.from_pylist(rows, schema=transaction.base.schema("annotations"))])
    dataset = open_dataset(discs)
    real = set(dataset.table("images").filter(pa.array(~is_synthetic(dataset.table("images"))))["image_id"].to_pylist())
    source = load_source(dataset, "ground_truth", None, None, [])
    assert set(source.labels.images["image_id"].to_pylist()) == real


def test_nothing_synthetic_is_chosen_for_labelling_or_pushed(discs: str) -> None:
    dataset = open_dataset(discs)
    real = dataset.count("images", where="metadata IS NULL")
    assert len(plan_push(discs, findings=None, where="split = 'train'").images) == real
    assert (
        len(plan_push(discs, findings=None, where="array_has(tags, 'synthetic')").images)
        == dataset.count("images") - real
    )
    with begin(discs, command="select") as transaction:
        candidates = load_candidates(transaction, None, suspected=True, notes=[])
        assert candidates.labels.images.num_rows == real
