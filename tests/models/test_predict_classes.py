"""What a model calls things, and what a dataset calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.errors import CurateError, FormatError, InputError, UsageError
from curate.models.predictors.class_names import as_option, match_classes, normal, read_map


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Traffic_Lights", "traffic light"),
        ("trafficLight", "TRAFFIC-LIGHT"),
        ("people", "Person"),
        ("boxes", "box"),
        ("berries", "berry"),
        ("Straße", "STRASSE"),
        ("pottedplant", "potted plant"),
    ],
)
def test_spelling_does_not_count(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(("one", "other"), [("bus", "bu"), ("glass", "glas"), ("cat", "car"), ("a1", "a2"), ("+", "-")])
def test_other_names_stay_others(one: str, other: str) -> None:
    assert normal(one) != normal(other)


def test_equal_names_come_before_alike_ones_and_doubtful_ones_are_left_open() -> None:
    mapping = match_classes(["cars", "Dogs", "cat"], ["car", "cars", "dog", "Cat", "cat"])
    assert mapping.to_json() == {"cars": "cars", "Dogs": "dog", "cat": "cat"}
    assert mapping.how == ("same", "alike", "same")
    doubtful = match_classes(["x", "Bolt"], ["bolts", "BOLT", "x"])
    assert doubtful.to_json() == {"x": "x"}
    assert doubtful.suggested == {"Bolt": "bolts"}


def test_what_was_told_comes_first() -> None:
    told = {"Car": "vehicle", "truck": "Vehicles", "person": ""}
    mapping = match_classes(["car", "truck", "person", "dog", "fish"], ["person", "vehicle", "dog"], told=told)
    assert mapping.to_json() == {"car": "vehicle", "truck": "vehicle", "dog": "dog"}
    assert mapping.how == ("told", "told", "dropped", "same", "unmatched")
    assert mapping.merged.tolist() == [False, True, False]
    notes = "\n".join(mapping.describe())
    assert "3 of the model's 5 classes are used: car as 'vehicle', truck as 'vehicle', dog" in notes
    assert "no such class: fish" in notes
    assert "not looked for, as the model has no such class: person" in notes


def test_probabilities_of_merged_classes_add_up_and_what_is_left_out_is_lost() -> None:
    mapping = match_classes(
        ["car", "truck", "person", "dog"], ["dog", "vehicle", "cat"], told={"car": "vehicle", "truck": "vehicle"}
    )
    added = mapping.add_up(np.array([[0.3, 0.25, 0.4, 0.05], [1.0, 0.5, 0.0, 0.0]], np.float32))
    np.testing.assert_allclose(added, np.array([[0.05, 0.55, 0], [0, 1, 0]]), atol=1e-6)
    assert added.dtype == np.float32


def test_unmatched_classes_can_be_kept_and_renamed() -> None:
    mapping = match_classes(["car", "dog"], ["dog"], told={"car": "vehicle"}, keep_unmapped=True)
    assert mapping.names == ("dog", "vehicle")
    assert mapping.known == 1
    assert mapping.to_json() == {"car": "vehicle", "dog": "dog"}
    assert match_classes(["car", "dog"], ["dog"], keep_unmapped=True).how == ("new", "same")


def test_a_dataset_without_classes_takes_the_models() -> None:
    mapping = match_classes(["car", "dog"], [])
    assert (mapping.names, mapping.known, mapping.how) == (("car", "dog"), 0, ("new", "new"))


def test_suggestions_are_not_applied() -> None:
    mapping = match_classes(
        ["sofa", "tvmonitor", "lorry", "sports ball", "aeroplan", "person", "zebra"],
        ["couch", "TV", "vehicle", "ball", "aeroplane", "person"],
    )
    assert mapping.to_json() == {"person": "person"}
    assert mapping.suggested == {
        "sofa": "couch",
        "tvmonitor": "TV",
        "lorry": "vehicle",
        "sports ball": "ball",
        "aeroplan": "aeroplane",
    }
    assert as_option({"sofa": "couch", "person": ""}) == "--map 'sofa=couch,person='"
    assert "--map 'sofa=couch,tvmonitor=TV," in mapping.describe()[-1]


@pytest.mark.parametrize(
    ("told", "what", "remedy"),
    [
        ({"cra": "vehicle"}, "the model has no class 'cra'", "one of: car, dog"),
        ({"carr": "vehicle"}, "the model has no class 'carr'", "did you mean 'car'?"),
        ({"car": "vehcle"}, "the dataset has no class 'vehcle'", "did you mean 'vehicle'?"),
        ({"car": "", "dog": ""}, "no class in common", "--keep-unmapped"),
    ],
)
def test_wrong_maps(told: dict[str, str], what: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        match_classes(["car", "dog"], ["vehicle"], told=told)
    assert what in caught.value.what
    assert remedy in (caught.value.remedy or "")


def test_no_class_in_common_suggests_what_may_be_meant() -> None:
    with pytest.raises(UsageError) as caught:
        match_classes(["sofa", "zebra"], ["couch"], model="onnx:m.onnx")
    assert caught.value.where == "onnx:m.onnx"
    assert "--map 'sofa=couch'" in (caught.value.remedy or "")


def test_maps_are_texts_and_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("car: vehicle\n'no': \n7: seven\n")
    (tmp_path / "b.json").write_text('{"wine glass, red": "glass"}')
    read = read_map(["truck = vehicle ,person=,", str(tmp_path / "a.yaml"), str(tmp_path / "b.json")])
    assert read == {
        "truck": "vehicle",
        "person": "",
        "car": "vehicle",
        "no": "",
        "7": "seven",
        "wine glass, red": "glass",
    }


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.yaml", "car: [vehicle]", FormatError),
        ("a.yaml", "no: vehicle", FormatError),
        ("a.yaml", "- car", FormatError),
        ("a.yaml", "car: 'x", FormatError),
        ("a.json", "{", FormatError),
        ("a.json", None, InputError),
        ("car", None, UsageError),
        ("=car", None, UsageError),
        ("car=a,car=b", None, UsageError),
    ],
)
def test_unreadable_maps(tmp_path: Path, name: str, content: str | None, error: type[CurateError]) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error):
        read_map([str(tmp_path / name) if "." in name else name])
