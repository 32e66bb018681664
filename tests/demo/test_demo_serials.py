"""Serial labels: stuck on a picture they are found again, and a reader gets them in one size."""

from __future__ import annotations

import numpy as np

from curate.demo import draw_plates, draw_serial, draw_text, find_label, render_surface, stick_label
from curate.demo.serials import ALPHABET, LABEL_SIZE


def test_a_stuck_label_is_found_and_nothing_else_is() -> None:
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        surface, _, _ = render_surface("ring", rng, side=320, defects=1)
        assert find_label(surface) is None
        label = find_label(stick_label(surface, draw_serial(rng), rng))
        found += label is not None
        if label is not None:
            assert label.shape == LABEL_SIZE
            assert label.std() > 10
    assert found >= 9


def test_texts_are_of_the_alphabet_and_plates_of_one_size() -> None:
    rng = np.random.default_rng(0)
    texts = [draw_text(rng) for _ in range(200)]
    assert set("".join(texts)) == set(ALPHABET)
    assert {len(text) for text in texts} == set(range(4, 11))
    plates = draw_plates(texts[:6], rng)
    assert plates.shape == (6, *LABEL_SIZE)
    assert plates.dtype == np.uint8
    assert (
        draw_plates(["AB-1234"], np.random.default_rng(1)) == draw_plates(["AB-1234"], np.random.default_rng(1))
    ).all()
