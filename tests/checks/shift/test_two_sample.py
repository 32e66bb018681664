"""The two-sample test: power against sparse shifts, honesty under copies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from curate.checks.shift.images import shifted_images
from curate.checks.shift.two_sample import CONTENT, TwoSample, two_sample_test, unit_means, units_of

AXES = tuple("abcdef")
VIEWS = ("light", "light", "light", "color", "color", "color")


def run(
    measured: npt.NDArray[np.float64], incoming: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64] | None = None
) -> TwoSample:
    own = np.arange(len(measured)) if groups is None else groups
    content = np.random.default_rng(9).normal(size=(int(own.max()) + 1, 8))[own]
    test = two_sample_test(measured, AXES, VIEWS, content, incoming, own, permutations=199)
    assert test is not None
    return test


@pytest.fixture
def halves() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(240, 6)), np.arange(240) >= 120


def test_one_tenth_shifted_is_seen_along_its_axis(
    halves: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]],
) -> None:
    measured, incoming = halves
    measured[-12:, 1] -= 4
    test = run(measured, incoming)
    assert test.p_value <= 0.05
    assert test.axes[0].axis == "b"
    assert test.axes[0].p_value <= 0.05
    assert test.axes[0].low < test.axes[0].high
    assert test.views["light"] <= 0.05 < test.views["color"]
    assert (test.reference, test.incoming) == (120, 120)


def test_a_small_shift_of_everything_is_seen(halves: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]) -> None:
    measured, incoming = halves
    measured[incoming, 4] += 0.6
    test = run(measured, incoming)
    assert test.p_value <= 0.02
    assert test.axes[0].axis == "e"
    assert 0.2 < test.axes[0].effect < 1.2


def test_the_content_alone_may_shift(halves: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]) -> None:
    measured, incoming = halves
    content = np.random.default_rng(1).normal(size=(240, 8))
    content[-15:, 3] += 5
    test = two_sample_test(measured, AXES, VIEWS, content, incoming, np.arange(240), permutations=199)
    assert test is not None
    assert test.axes[0].axis == CONTENT
    assert test.views[CONTENT] <= 0.05
    found = shifted_images(measured, AXES, content, incoming, np.arange(240), test)
    assert found.probability[-15:].mean() > 0.6
    assert (found.axis[found.probability > 0.5] == -1).all()


def test_false_alarms_stay_below_the_level_though_images_are_copied() -> None:
    rng = np.random.default_rng(3)
    alarms = []
    for _ in range(120):
        groups = np.repeat(np.arange(40), rng.integers(1, 9, 40))
        measured = rng.normal(size=(40, 6))[groups] + 0.05 * rng.normal(size=(len(groups), 6))
        incoming = np.isin(groups, rng.permutation(40)[:20])
        alarms.append(run(measured, incoming, groups).p_value <= 0.05)
    assert np.mean(alarms) <= 0.1


def test_the_order_of_images_does_not_matter(halves: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]) -> None:
    measured, incoming = halves
    measured[-20:, 2] += 3
    content = np.random.default_rng(4).normal(size=(240, 5))
    order = np.random.default_rng(5).permutation(240)
    tests = [
        two_sample_test(measured[rows], AXES, VIEWS, content[rows], incoming[rows], rows, permutations=99)
        for rows in (np.arange(240), order)
    ]
    first, second = tests
    assert first is not None
    assert second is not None
    assert first.p_value == second.p_value
    assert [each.axis for each in first.axes[:1]] == [each.axis for each in second.axes[:1]]


def test_shifted_images_are_told_from_the_others(
    halves: tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]],
) -> None:
    measured, incoming = halves
    measured[-20:, 0] += 6
    test = run(measured, incoming)
    found = shifted_images(measured, AXES, np.zeros((240, 2)), incoming, np.arange(240), test)
    assert (found.probability[-20:] > 0.8).all()
    assert (found.probability[:120] == 0).all()
    assert (found.probability[120:-20] > 0.5).mean() < 0.05
    assert (found.axis[-20:] == 0).all()
    assert found.high[-20:].all()


def test_too_few_independent_images_say_nothing() -> None:
    measured = np.random.default_rng(0).normal(size=(100, 6))
    groups = np.where(np.arange(100) < 50, np.arange(100), 50)  # all incoming ones are one burst
    incoming = np.arange(100) >= 50
    assert two_sample_test(measured, AXES, VIEWS, np.zeros((100, 0)), incoming, groups) is None


def test_axes_that_do_not_vary_and_no_content_are_no_obstacle() -> None:
    measured = np.random.default_rng(0).normal(size=(60, 6))
    measured[:, 3:] = 1.0
    test = two_sample_test(measured, AXES, VIEWS, np.zeros((60, 0)), np.arange(60) < 30, np.arange(60), permutations=99)
    assert test is not None
    assert 0 < test.p_value <= 1
    assert {each.p_value for each in test.axes if each.axis in "def"} == {1.0}


def test_units_are_groups_apart_on_each_side() -> None:
    unit, side = units_of(np.array([4, 4, 7, 4]), np.array([False, True, True, True]))
    assert len(side) == 3
    assert unit[1] == unit[3] != unit[0]
    assert side[unit].tolist() == [False, True, True, True]
    np.testing.assert_allclose(unit_means(np.array([[1.0], [2.0], [3.0], [4.0]]), unit)[unit[1]], [3.0])


def test_another_mix_of_kinds_is_no_difference_within_them() -> None:
    """Kinds of images differ in spread; one side has more of one kind. Then the looks of that kind change, too."""
    found: dict[str, list[float]] = {"mix": [], "looks": []}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        kinds = np.concatenate([rng.choice(3, 120), rng.choice(3, 80, p=[0.7, 0.2, 0.1])])
        incoming = np.arange(200) >= 120
        measured = rng.normal(size=(200, len(AXES))) * np.array([3.0, 1.0, 0.3])[kinds, None]
        for what in found:
            measured = measured + (0.8 * incoming[:, None] * (kinds == 0)[:, None] * 3 if what == "looks" else 0)
            test = two_sample_test(
                measured, AXES, VIEWS, np.zeros((200, 0)), incoming, np.arange(200), strata=kinds, permutations=99
            )
            assert test is not None
            found[what].append(test.p_value)
    assert np.mean(np.array(found["mix"]) <= 0.05) <= 0.2
    assert np.mean(np.array(found["looks"]) <= 0.05) >= 0.9
