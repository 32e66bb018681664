"""Washers that differ in one place: as many of each kind as asked, labels swapped as told, the place where it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from curate.demo import WASHERS, make_washers, render_washer
from curate.errors import UsageError
from curate.imaging import load_pixels

COUNTS = {"train": 40, "test": 12}


def test_as_many_as_asked_and_the_same_every_time(tmp_path: Path) -> None:
    one, other = (make_washers(tmp_path / str(n), COUNTS, side=48, wrong=0.2, seed=3, workers=n) for n in (1, 3))
    assert one.washers == other.washers
    for washer in one.washers:
        assert (one.root / "images" / washer.file).read_bytes() == (other.root / "images" / washer.file).read_bytes()
    train = [washer for washer in one.washers if washer.split == "train"]
    assert Counter(washer.label for washer in train) == dict.fromkeys(WASHERS, 10)
    pairs = Counter(frozenset((washer.label, washer.given)) for washer in train if washer.label != washer.given)
    assert sum(pairs.values()) == 8
    assert set(pairs) <= {frozenset(("plain", "notched")), frozenset(("split", "keyed"))}
    assert all(washer.label == washer.given for washer in one.washers if washer.split == "test")
    assert load_pixels(one.root / "images" / train[0].file).shape == (48, 48, 3)
    assert make_washers(tmp_path / "more", COUNTS, side=48, seed=4).washers != one.washers
    with pytest.raises(UsageError, match="not empty"):
        make_washers(tmp_path / "1", COUNTS)


@pytest.mark.parametrize("seed", range(4))
def test_kinds_differ_at_the_slot_alone(seed: int) -> None:
    drawn = {kind: render_washer(kind, np.random.default_rng(seed), side=64) for kind in WASHERS}
    assert not drawn["plain"][1].any()
    places = {kind: place for kind, (_, place) in drawn.items()}
    # The slot in the bore and the one in the rim are together about the cut.
    both = places["keyed"] | places["notched"]
    assert (both & places["split"]).sum() > 0.8 * places["split"].sum()
    assert places["split"].sum() > max(places["keyed"].sum(), places["notched"].sum())
    assert 0.002 < places["split"].mean() < 0.06
    # It lies to the right, the picture's middle being at 32.
    assert np.flatnonzero(places["split"].any(axis=0)).mean() > 28
    same = np.abs(drawn["split"][0].astype(int) - drawn["plain"][0]).max(axis=2)
    assert same[~places["split"]].max() <= 12
