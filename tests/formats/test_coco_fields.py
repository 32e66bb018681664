"""Ids looked up by columns, and names told to be plain all at once."""

from __future__ import annotations

import pytest

from curate.formats.coco.fields import Ids, Lookup
from curate.formats.coco.images import _all_plain, clean_location
from curate.formats.coco.objects import Id


@pytest.mark.parametrize(
    ("meanings", "ids", "found"),
    [
        pytest.param({1: 10, 2: 20, 4: 40}, [4, 1, 3, 0, 5, -1, 2**62], [40, 10, -1, -1, -1, -1, -1], id="dense"),
        pytest.param({-7: 3, 5: 1, 10**12: 2}, [10**12, 5, -7, 6, 10**12 + 1], [2, 1, 3, -1, -1], id="sparse"),
        pytest.param({0: 8, 1: 9}, [None, 0, None, 1], [-1, 8, -1, 9], id="null, dense: not the id 0"),
        pytest.param({0: 8, 10**9: 9}, [None, 0, 10**9], [-1, 8, 9], id="null, sparse"),
        pytest.param({"a": 1, 12: 2}, ["a", "12", 12, "b", None], [1, 2, 2, -1, -1], id="text"),
        pytest.param({2**70: 4, 1: 5}, [2**70, 1], [4, 5], id="beyond 64 bits"),
        pytest.param({}, [1, None], [-1, -1], id="nothing known"),
    ],
)
def test_ids_are_looked_up(meanings: dict[Id, int], ids: list[Id | None], found: list[int]) -> None:
    assert Lookup(meanings).find(Ids(ids)).tolist() == found


@pytest.mark.parametrize(
    "name",
    [
        "/a.jpg",
        "a\\b.jpg",
        "C:\\a.jpg",
        "a\0.jpg",
        "a//b.jpg",
        "../a.jpg",
        "a/../b.jpg",
        "./a.jpg",
        " a.jpg",
        "a.jpg\n",
        "a/",
    ],
)
def test_an_unusual_name_among_plain_ones_is_seen(name: str) -> None:
    assert clean_location(name) != name
    assert not _all_plain(["train/0.jpg", name, "b.jpg"])


def test_plain_names_are_plain() -> None:
    assert _all_plain(["train/0.jpg", "b-1_2.final.png", "ü/東京.jpg"])
    assert _all_plain([])
