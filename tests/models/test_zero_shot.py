"""Zero-shot classification, and prompts as people write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.errors import CurateError, FormatError, InputError, UsageError
from curate.models.prompts import read_prompts
from curate.models.zero_shot import TEMPLATES, Prompts, probabilities, prompt_vectors, prompts_of
from tests.models.colour_encoder import ColourEncoder


def test_probabilities_are_a_softmax_of_scaled_cosines() -> None:
    vectors = np.array([[2, 0], [1, 1]], np.float16)
    classes = np.array([[1, 0], [0, 1]], np.float32)
    found = probabilities(vectors, classes, 10.0)
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-10)))
    assert found[1].tolist() == [0.5, 0.5]
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.isfinite(probabilities(vectors, classes, 1e6)).all()


def test_a_class_is_the_mean_of_its_texts() -> None:
    encoder = ColourEncoder()
    vectors = prompt_vectors(encoder, [Prompts("warm", ("red", "yellow")), Prompts("cold", ("blue",))])
    mean = (np.array([1, 0, 0]) + np.array([1, 1, 0]) / 2**0.5) / 2
    np.testing.assert_allclose(vectors, np.stack([mean / np.linalg.norm(mean), np.array([0, 0, 1])]), atol=1e-6)
    assert vectors.dtype == np.float32
    assert encoder.texts == ["red", "yellow", "blue"]


def test_vectors_that_are_no_numbers_are_refused() -> None:
    class Broken(ColourEncoder):
        def encode_text(self, texts):  # type: ignore[no-untyped-def]
            return np.full((len(texts), 3), np.nan, np.float32)

    with pytest.raises(InputError, match="not made of numbers"):
        prompt_vectors(Broken(), [prompts_of("red"), prompts_of("blue")])


def test_names_are_put_into_templates() -> None:
    assert prompts_of("night").texts == tuple(template.format("night") for template in TEMPLATES)
    (night, day) = read_prompts("night, day", ["a photo at {}", "{} and {}"])
    assert night == Prompts("night", ("a photo at night", "night and night"))
    assert day.name == "day"
    assert prompts_of("{braces}", ["a {}"]).texts == ("a {braces}",)


def test_names_between_commas() -> None:
    found = read_prompts(" night,day ,, night, day: in the sun,time:dusk\n", ["{}"])
    assert found == [
        Prompts("night", ("night",)),
        Prompts("day", ("in the sun",)),
        Prompts("time:dusk", ("time:dusk",)),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "# what time it is\nnight: a dark street\n\nnight: headlights, many\nday\ndusk:\n"),
        ("p.yaml", "night: [a dark street, 'headlights, many']\nday:\ndusk: ''\n"),
        ("p.YML", "night:\n- a dark street\n- headlights, many\nday: []\ndusk: null\n"),
    ],
)
def test_files(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text("\ufeff" + content if name == "p.txt" else content)
    assert read_prompts(str(path), ["a {}"]) == [
        Prompts("night", ("a dark street", "headlights, many")),
        Prompts("day", ("a day",)),
        Prompts("dusk", ("a dusk",)),
    ]


def test_a_yaml_list_of_names(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("- night\n- day\n")
    assert [each.name for each in read_prompts(str(path))] == ["night", "day"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("yes: in the sun\nno: at night\n", "True"),
        ("2024: a\n2025: b\n", "2024"),
        ("night: 3\nday: a\n", "3"),
        ("night: [a, [b]]\nday: a\n", "'b'"),
        ("night: {a: b}\n", "'a'"),
        ("- {night: a}\n- day\n", "'night'"),
        ("just a text\n", "just a text"),
        ("", "None"),
        ("a: [", "not YAML"),
        ("2024-13-45: foo\nday: a\n", "not YAML: month must be in 1..12"),
        ("!!bool maybe: a\nday: b\n", "not YAML"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_what_is_no_names_and_texts(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(content)
    with pytest.raises(FormatError, match=message) as caught:
        read_prompts(str(path))
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("source", "templates", "kind", "message"),
    [
        ("night", ["{}"], UsageError, "at least two"),
        ("night, night: a, night: b", ["{}"], UsageError, "at least two"),
        (" , ", ["{}"], UsageError, "at least two"),
        ("night, day", ["a photo"], UsageError, "no place for a name"),
        ("night, : day", ["{}"], FormatError, "a text without a name"),
        ("missing.txt", ["{}"], InputError, "no such file"),
        ("missing.yaml", ["{}"], InputError, "no such file"),
    ],
)
def test_wrong_prompts(source: str, templates: list[str], kind: type[CurateError], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_prompts(source, templates)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xff\xfe\x00night")
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(str(path))
