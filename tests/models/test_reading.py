"""Reading lines of text: what is learnt is read, and paths are decoded as CTC says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curate.errors import InputError, UsageError
from curate.models.reading import HEIGHT, Lines, Reader, decode, normalised, train_reader
from tests.models.onnx_models import channel_means

LETTERS = "17X"


def path_of(text: str, blank: str = "_") -> np.ndarray[Any, Any]:
    """Scores whose likeliest path is that text, letter by letter."""
    codes = [0 if letter == blank else 1 + LETTERS.index(letter) for letter in text]
    return np.eye(1 + len(LETTERS))[codes][None]


def draw(rng: np.random.Generator, count: int) -> tuple[Lines, list[str]]:
    """Lines of one to three large letters."""
    texts = ["".join(rng.choice(list(LETTERS), int(rng.integers(1, 4)))) for _ in range(count)]
    lines = np.full((count, HEIGHT, 80), 200, np.uint8)
    for line, text in zip(lines, texts, strict=True):
        at = int(rng.integers(0, 12)), 27
        cv2.putText(line, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.9, int(rng.integers(0, 90)), 2, cv2.LINE_AA)
    return lines, texts


@pytest.mark.parametrize(
    ("path", "text"), [("11__1_XX_X", "11XX"), ("____", ""), ("X", "X"), ("777", "7"), ("7_7_7", "777")]
)
def test_decoding_takes_repetitions_for_one_letter_unless_a_blank_is_between(path: str, text: str) -> None:
    assert decode(path_of(path), LETTERS) == [text]


def test_lines_are_given_on_one_scale() -> None:
    lines, _ = draw(np.random.default_rng(1), 8)

    values = normalised(np.concatenate([lines, lines // 3]))

    assert values.shape == (16, 1, HEIGHT, 80)
    assert values.mean(axis=(1, 2, 3)) == pytest.approx(0, abs=1e-5)
    assert np.abs(values[:8] - values[8:]).max() < 0.5  # a dark picture of a line is as a bright one
    assert np.isfinite(normalised(np.zeros((1, HEIGHT, 80), np.uint8))).all()


@pytest.mark.slow
def test_lines_that_were_not_seen_are_read(tmp_path: Path) -> None:
    told: list[float] = []
    file = tmp_path / "reader.onnx"

    weights = train_reader(file, draw, LETTERS, steps=150, batch=16, report=lambda step, loss: told.append(loss))

    assert weights > 100_000
    assert len(told) == 150
    assert np.mean(told[-10:]) < 0.2 * told[0]
    reader = Reader(file)
    assert reader.alphabet == LETTERS
    lines, texts = draw(np.random.default_rng(99), 60)
    read = reader.read(lines)
    assert np.mean([one == other for one, other in zip(read, texts, strict=True)]) > 0.8
    assert reader.read(lines[:1]) == read[:1]


def test_texts_that_cannot_be_learnt_are_said(tmp_path: Path) -> None:
    file = tmp_path / "reader.onnx"

    def other(rng: np.random.Generator, count: int) -> tuple[Lines, list[str]]:
        return draw(rng, count)[0], ["Q"] * count

    with pytest.raises(UsageError, match="'Q' cannot be learnt"):
        train_reader(file, other, LETTERS, steps=1)
    for alphabet in ("", "11"):
        with pytest.raises(UsageError, match="no alphabet"):
            train_reader(file, draw, alphabet, steps=1)
    assert not file.exists()


def test_another_file_is_no_reader(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x")
    channel_means(tmp_path / "b.onnx")

    with pytest.raises(InputError, match="not an ONNX model"):
        Reader(tmp_path / "a.onnx")
    with pytest.raises(InputError, match="no reader"):
        Reader(tmp_path / "b.onnx")
