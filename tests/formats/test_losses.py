"""The loss report: counts, first places, and the error of --strict."""

from __future__ import annotations

import pytest

from curate.errors import FormatError
from curate.formats.losses import LossReport


def test_at_most_five_places_are_kept_however_they_come() -> None:
    losses = LossReport()
    losses.dropped("boxes", "no place", [f"{n}.jpg" for n in range(9)], 9)
    losses.dropped("boxes", "no place", "late.jpg")
    losses.converted("boxes", "moved", "a.jpg", 7)
    losses.converted("boxes", "moved", ["b.jpg", "c.jpg"], 2)
    again = LossReport()
    again.include(losses.losses)
    again.include(losses.losses)
    assert [(loss.count, loss.places) for loss in losses.losses] == [
        (10, ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]),
        (9, ["a.jpg", "b.jpg", "c.jpg"]),
    ]
    assert [(loss.count, len(loss.places)) for loss in again.losses] == [(20, 5), (18, 5)]


def test_strict_says_that_it_is_the_first() -> None:
    with pytest.raises(
        FormatError, match="1 box dropped, the first of what would be lost or changed: no place"
    ) as caught:
        LossReport(strict=True).dropped("boxes", "no place", ["a.jpg", "b.jpg"])
    assert caught.value.where == "a.jpg"
