"""Shapes as formats draw them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.formats.shapes import ellipse_outline
from curate.geometry import polygon_area

radii = st.floats(0.5, 4000)


@settings(deadline=None)
@given(radii, radii, st.floats(-180, 180))
def test_ellipse_outline_has_the_area_and_stays_close(rx: float, ry: float, degrees: float) -> None:
    points = np.reshape(ellipse_outline(10, -5, rx, ry, degrees), (-1, 2))
    assert polygon_area(points) == pytest.approx(np.pi * rx * ry, rel=1e-6)
    turn = np.deg2rad(degrees)
    away = points - [10, -5]
    along = np.column_stack([away @ [np.cos(turn), np.sin(turn)], away @ [-np.sin(turn), np.cos(turn)]])
    radius = np.hypot(along[:, 0] / rx, along[:, 1] / ry)
    assert np.all(np.abs(radius - 1) * max(rx, ry) < 0.11)


def test_ellipse_outline_runs_clockwise_from_its_first_axis() -> None:
    points = np.reshape(ellipse_outline(0, 0, 10, 5, 90), (-1, 2))
    assert points[0] == pytest.approx([0, 10], abs=0.1)


def test_ellipse_without_size_is_a_point() -> None:
    assert set(ellipse_outline(3, 4, 0, 0)) == {3.0, 4.0}
