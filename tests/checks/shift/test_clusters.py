"""Set-ups of light and kinds of content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from curate.checks.measures.computation import NUMBERS, MeasureImages
from curate.checks.shift.axes import AXES, axis_values, lamp_columns
from curate.checks.shift.clusters import NO_CLUSTER, cluster_content, cluster_light, group_weights
from curate.checks.shift.light import LIGHT_COLUMNS, describe_light
from curate.checks.shift.mixture import find_clusters, fit_mixture
from curate.checks.shift.naming import differences, words
from curate.demo import NONE, make_parts
from curate.imaging import load_pixels


def test_clusters_are_counted_whatever_their_shape() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    mixing = rng.normal(size=(4, 4))  # all alike stretched and turned
    points = rng.normal(size=(300, 4)) @ mixing + 8 * np.eye(4)[truth] @ mixing
    points = (points - points.mean(axis=0)) / points.std(axis=0)
    assert adjusted_mutual_info_score(truth, find_clusters(points, np.ones(300))) > 0.95


def test_a_continuum_is_one_cluster() -> None:
    rng = np.random.default_rng(1)
    along = rng.uniform(-2, 2, 400)
    points = np.stack([along, 0.5 * along + 0.3 * rng.normal(size=400), rng.normal(size=400)], axis=1)
    assert find_clusters(points, np.ones(400)).max() == 0
    assert cluster_light(points, np.arange(400)).max() == 0


def test_a_burst_counts_once() -> None:
    rng = np.random.default_rng(2)
    points = np.concatenate([rng.normal(size=(100, 3)), [[2.0, 2, 2]] + 0.01 * rng.normal(size=(60, 3))])
    groups = np.concatenate([np.arange(100), np.full(60, 100)])
    assert group_weights(groups).sum() == pytest.approx(101)
    found = cluster_light(points, groups)
    assert np.count_nonzero(np.bincount(found[found >= 0])) == 1


def test_as_many_as_asked_for_and_a_lone_image_takes_none_of_them() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat([0, 1, 2], 60)
    points = np.concatenate([rng.normal(size=(180, 3)) * 0.4 + 4 * np.eye(3)[truth], [[30.0, -30, 30]]])
    found = cluster_light(points, np.arange(181), clusters=3)
    assert set(found.tolist()) == {0, 1, 2}
    assert adjusted_mutual_info_score(truth, found[:180]) > 0.95
    free = cluster_light(points, np.arange(181))
    assert free[180] == NO_CLUSTER
    assert adjusted_mutual_info_score(truth, free[:180]) > 0.95


@pytest.mark.parametrize("distinct", [1, 2])
def test_there_are_no_more_set_ups_than_different_images(distinct: int) -> None:
    points = np.repeat(np.eye(distinct, 9), 30, axis=0)
    groups = np.arange(30 * distinct)
    assert len(np.unique(cluster_light(points, groups, clusters=3))) == distinct
    assert len(np.unique(cluster_light(points, groups))) == distinct


def test_weights_count_as_repetition_does() -> None:
    rng = np.random.default_rng(4)
    points = rng.normal(size=(40, 2)) + 5 * (np.arange(40) < 15)[:, None]
    twice = fit_mixture(np.concatenate([points, points]), np.full(80, 0.5), 2)
    once = fit_mixture(points, np.ones(40), 2)
    np.testing.assert_allclose(np.sort(once.means[:, 0]), np.sort(twice.means[:, 0]), atol=1e-3)
    assert once.log_likelihood == pytest.approx(twice.log_likelihood, rel=1e-3)


def test_kinds_of_content() -> None:
    rng = np.random.default_rng(5)
    truth = np.repeat([0, 1, 2], 50)
    vectors = (0.1 * rng.normal(size=(150, 32)) + np.eye(32)[truth]).astype(np.float32)
    found = cluster_content(vectors, np.arange(150))
    assert adjusted_mutual_info_score(truth, found) > 0.9
    np.testing.assert_array_equal(cluster_content(vectors[:10], np.arange(10)), NO_CLUSTER)


@pytest.mark.slow
def test_the_lamps_of_rendered_parts_are_recovered_and_named(tmp_path: Path) -> None:
    parts = make_parts(tmp_path / "parts", images=160, seed=41, faults=NONE)
    pixels = [load_pixels(parts.root / picture.file) for picture in parts.truth.pictures]
    measures = MeasureImages()
    rows = measures.run([measures.prepare(each) for each in pixels])
    columns = {name: np.asarray(rows[name]) for name in NUMBERS}
    columns |= dict(zip(LIGHT_COLUMNS, np.stack([describe_light(each) for each in pixels]).T, strict=True))
    axes = axis_values(columns)
    groups = np.unique([picture.group or picture.file for picture in parts.truth.pictures], return_inverse=True)[1]
    lamps = np.array([picture.lighting for picture in parts.truth.pictures])
    found = cluster_light(axes[:, lamp_columns()], groups)
    assert adjusted_mutual_info_score(lamps, found) >= 0.9
    expected = {"side-left": "light from the left", "backlight-warm": "light from above", "dim": "dim light"}
    for lamp, word in expected.items():
        cluster = np.bincount(found[(lamps == lamp) & (found >= 0)]).argmax()
        apart = differences(axes, found == cluster, groups)
        assert word in words([each for each in apart if AXES[each.axis].view != "detail"])
