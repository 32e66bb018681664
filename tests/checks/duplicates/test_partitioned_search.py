"""The search in cells against the exact one: what it finds, what it costs, and what many equal images do to it."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import FrameType

import numpy as np
import numpy.typing as npt
import pytest

from curate.checks.duplicates import candidates, search
from curate.checks.duplicates.candidates import embedding_neighbors
from curate.checks.duplicates.cells import make_cells
from curate.checks.duplicates.nearest import nearest_in_cells, on_leading_axes
from curate.checks.duplicates.search import VISITS, pairs_above
from curate.checks.graph import components
from curate.checks.neighbors import nearest_neighbors
from curate.engine import jobs

Vectors = npt.NDArray[np.float32]
MOST = 16


def planted(n: int, kind: str) -> Vectors:
    """Noise, a fifth of it copies at cosines from 0.8 on; or films of 100 frames that drift."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, 64), dtype=np.float32)
    if kind == "flat":
        vectors[: n // 10] = vectors[n // 10 : n // 5] + rng.uniform(0, 0.7, (n // 10, 1)) * vectors[: n // 10]
    if kind == "falling":
        vectors *= np.arange(1, 65, dtype=np.float32) ** -0.7
        vectors[:, 0] += 1
        vectors[: n // 10] = vectors[n // 10 : n // 5] + 0.05 * rng.standard_normal((n // 10, 64))
    if kind == "films":
        drift = np.cumsum(0.05 * rng.standard_normal((n // 100, 100, 64)), axis=1)
        vectors = (vectors[: n // 100, None] + drift).reshape(-1, 64).astype(np.float32)
    return vectors[rng.permutation(len(vectors))]


@pytest.mark.parametrize("kind", ["flat", "falling", "films"])
@pytest.mark.parametrize("most", [None, MOST])
def test_cells_find_what_the_exact_search_finds(kind: str, most: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = planted(6000, kind).astype(np.float16)
    first, second, similarity = pairs_above(vectors, 0.9, most=most)
    exact = dict(zip(zip(first.tolist(), second.tolist(), strict=True), similarity.tolist(), strict=True))
    monkeypatch.setattr(search, "EXACT_UP_TO", 100)
    first, second, similarity = pairs_above(vectors, 0.9, most=most)
    found = dict(zip(zip(first.tolist(), second.tolist(), strict=True), similarity.tolist(), strict=True))
    assert len(found) == len(first)
    assert len(exact) > 300
    assert len(exact.keys() & found.keys()) >= 0.99 * len(exact)
    # A row that misses a neighbour has room for another, and what lies within rounding of the threshold may go either way.
    assert len(found.keys() - exact.keys()) <= 0.01 * len(exact)
    assert all(abs(found[pair] - exact[pair]) < 1e-5 for pair in exact.keys() & found.keys())


def test_the_answer_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = planted(4000, "films")
    monkeypatch.setattr(search, "EXACT_UP_TO", 100)
    answers = []
    for count in (1, 3):
        monkeypatch.setattr(jobs, "default_threads", lambda count=count: count)
        answers.append(pairs_above(vectors, 0.9, most=MOST))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("exact_up_to", [100, 50_000])
@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_a_great_many_copies_of_one_image_stay_few_pairs(
    noise: float, exact_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((8000, 64), dtype=np.float32)
    vectors[:6000] = vectors[0] + noise * rng.standard_normal((6000, 64), dtype=np.float32)
    vectors[-2:] = 0
    monkeypatch.setattr(search, "EXACT_UP_TO", exact_up_to)
    first, second, similarity = pairs_above(vectors, 0.95, most=MOST)
    assert len(first) <= MOST * len(vectors)
    assert len(np.unique(components(first, second, 8000)[:6000])) == 1
    assert second.max() < 6000  # a row of zeros is similar to nothing
    assert similarity == pytest.approx(1, abs=1e-4)


def test_cells_are_of_about_one_size_where_most_rows_are_nearly_one() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20_000, 32), dtype=np.float32)
    vectors[:15_000] = vectors[0] + 1e-3 * rng.standard_normal((15_000, 32), dtype=np.float32)
    cells = make_cells(vectors, 8)
    compared = (np.diff(cells.at_home_from) * np.diff(cells.visitors_from)).sum()
    assert np.bincount(cells.home, minlength=len(cells)).tolist() == np.diff(cells.at_home_from).tolist()
    assert compared < 4 * 20_000 * 8 * 20_000 / len(cells)  # four times what cells of one size come to


def test_neighbors_of_many_rows_are_nearly_those_of_all_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = planted(5000, "films")
    exact = embedding_neighbors(vectors)
    monkeypatch.setattr(candidates, "EXACT_UP_TO", 100)
    monkeypatch.setattr(search, "EXACT_UP_TO", 100)
    near = embedding_neighbors(vectors)
    assert (near[:, :4, None] == exact[:, None, :4]).any(axis=2).mean() > 0.99


def test_ten_times_the_rows_are_not_ten_times_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "EXACT_UP_TO", 100)
    few, many = (_calls(planted(n, "flat")) for n in (2000, 20_000))
    assert many < 5 * few  # cells grow as the root


def _calls(vectors: Vectors) -> int:
    """How many functions are called, in Python and from it, in all threads."""
    count = [0]

    def called(frame: FrameType, event: str, argument: object) -> None:
        count[0] += event in ("call", "c_call")

    threading.setprofile(called)
    sys.setprofile(called)
    try:
        pairs_above(vectors, 0.9, most=MOST)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return count[0]


@pytest.mark.slow
def test_memory_beside_the_vectors_is_bounded() -> None:
    program = """
import resource, numpy as np
from curate.checks.duplicates.nearest import nearest_in_cells, on_leading_axes
from curate.checks.duplicates.search import VISITS, pairs_above
rng = np.random.default_rng(0)
vectors = rng.standard_normal((100_000, 128), dtype=np.float32).astype(np.float16)
pairs_above(vectors[:1000], 0.9, most=16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pairs_above(vectors, 0.9, most=16)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # Coordinates take 50 MB, cells 20, and products and samples, which do not grow, the rest.
    assert float(ran.stdout) < 250


def test_equal_rows_have_the_first_of_them_as_their_neighbor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "EXACT_UP_TO", 100)
    vectors = planted(3000, "films")
    vectors[1000:2500] = vectors[7]
    near = embedding_neighbors(vectors)
    assert (near[1000:2500, 0] == 7).all()
    assert (near[1000:2500, 1:] == -1).all()
    others = np.delete(np.arange(3000), np.s_[1000:2500])
    assert (near[others] != others[:, None]).all()
    assert not np.isin(near[others], np.arange(1000, 2500)).any()


def test_neighbors_in_cells_are_of_other_groups_and_copies_share_those_of_the_first() -> None:
    vectors = planted(4000, "films") * np.random.default_rng(0).lognormal(size=(4000, 1)).astype(np.float32)
    groups = np.arange(4000) // 2
    vectors[2000:2010] = vectors[5]
    groups[2000:2010] = 10_000 + np.arange(10)
    groups[2009] = groups[5]
    by = on_leading_axes(vectors, np.float32)
    found = nearest_in_cells(vectors, 8, visits=VISITS, groups=groups, by=by, copies_alike=True)
    exact = nearest_neighbors(vectors, 8, groups=groups)
    assert (groups[found.indices] != groups[:, None]).all()
    assert (found.indices[2000:2009, 0] == 5).all()
    np.testing.assert_array_equal(found.indices[2000:2009, 1:], np.tile(found.indices[5, :-1], (9, 1)))
    np.testing.assert_array_equal(found.indices[2009], [*found.indices[5, :-1], -1])
    assert (np.diff(found.similarities, axis=1) <= 0).all()
    others = np.setdiff1d(np.arange(4000), np.flatnonzero(np.isin(exact.indices, [5, *range(2000, 2010)]).any(axis=1)))
    others = np.setdiff1d(others, [5, *range(2000, 2010)])
    assert (found.indices[others][:, :, None] == exact.indices[others][:, None, :]).any(axis=2).mean() > 0.97
    same = found.indices[others] == exact.indices[others]
    np.testing.assert_allclose(found.similarities[others][same], exact.similarities[others][same], atol=1e-5)
