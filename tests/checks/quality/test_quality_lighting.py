"""Unusual light, from numbers alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from curate.checks.measures.table import Measures
from curate.checks.quality.lighting import lighting

FloatArray = npt.NDArray[np.float64]


def of_cues(cues: FloatArray) -> Measures:
    ids = pa.chunked_array([[str(number) for number in range(len(cues))]], pa.string())
    return Measures(ids, {"light_cues": cues.astype(np.float32)})


def content(seed: int, n: int = 300) -> FloatArray:
    """What pictures show disturbs one cue of each kind much, two of them in opposite directions, the others little."""
    rng = np.random.default_rng(seed)
    cues = rng.normal(0, 0.15, (n, 14))
    for first in (0, 5, 10):
        sky = rng.normal(0, 1.0, n)
        cues[:, first] += sky
        cues[:, first + 1] -= sky
        cues[:, first + 3] += rng.normal(0, 2.0, n)
    return cues


@pytest.mark.parametrize(("cues", "x", "y"), [(slice(0, 5), 1, 0), (slice(5, 10), 0, 1)])
def test_a_lamp_is_told_from_what_pictures_show(cues: slice, x: int, y: int) -> None:
    disturbed = content(0)
    disturbed[:20, cues] -= 0.8
    light = lighting(of_cues(disturbed))
    assert light.side[:20].min() > light.side[20:].max()
    assert np.median(light.x[:20]) == pytest.approx(-0.8 * x, abs=0.1)
    assert np.median(light.y[:20]) == pytest.approx(-0.8 * y, abs=0.1)
    assert light.is_side[:20].mean() > 0.8
    assert light.is_side[20:].max() < 0.5
    assert light.is_back.max() < 0.5


def test_back_light_is_told_and_a_spot_in_the_middle_is_not() -> None:
    disturbed = content(1)
    disturbed[:20, 10:] -= 1.0
    disturbed[20:40, 10:] += 1.0
    light = lighting(of_cues(disturbed))
    assert light.back[:20].min() > light.back[20:].max()
    assert light.is_back[:20].mean() > 0.8
    assert light.is_back[20:].max() < 0.5


def test_a_set_that_is_always_lit_from_the_left_has_nothing_unusual() -> None:
    cues = content(2)
    cues[:, :5] -= 1.0
    light = lighting(of_cues(cues))
    assert max(light.is_side.max(), light.is_back.max()) < 0.5


def test_the_order_of_pictures_does_not_matter() -> None:
    cues = content(3)
    order = np.random.default_rng(0).permutation(len(cues))
    np.testing.assert_allclose(lighting(of_cues(cues[order])).side, lighting(of_cues(cues)).side[order], rtol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pictures_say_nothing(n: int) -> None:
    light = lighting(of_cues(content(4, n)))
    assert light.side.shape == (n,)
    assert np.isfinite(light.side).all()
    assert not (light.is_side >= 0.5).any()
