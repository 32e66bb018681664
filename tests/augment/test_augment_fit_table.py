"""What `curate augment --fit-only` prints: what the recipe does, and by which rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from curate.augment.fit import Fitted
from curate.augment.fit.base import Parameter
from curate.augment.run import Intent
from curate.recipes import Recipe
from curate.report.augment import print_fit

EXPOSURE = Parameter("exposure", "stops", 0.0, -1.25, -1.5, -1.0, differs=True)
RECIPE = Recipe("dark", ())
FITTED = Fitted(RECIPE, {"exposure": EXPOSURE}, (), 1.0, (), (40, 20))


def intent_of(fitted: Fitted) -> Intent:
    nothing = cast(Any, None)
    return Intent(nothing, nothing, None, [], RECIPE, fitted, [])


def test_the_table_says_by_which_rule_a_parameter_differs(capsys: pytest.CaptureFixture[str]) -> None:
    print_fit(intent_of(FITTED))
    out = capsys.readouterr().out
    assert "-1.25" in out
    assert "'differs' asks for more than an interval beside 'nothing'" in out
    assert intent_of(FITTED).fit_json()["fitted"]["exposure"]["estimate"] == -1.25


def test_where_there_are_lights_each_has_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    parts = tuple((count, {"exposure": replace(EXPOSURE, estimate=value)}) for count, value in ((24, -3.5), (16, 0.75)))
    intent = intent_of(replace(FITTED, lights=parts))
    print_fit(intent)
    out = capsys.readouterr().out
    assert "light 1 of the others: 24 images" in out
    assert "light 2 of the others: 16 images" in out
    assert "-3.5" in out
    assert "0.75" in out
    assert "-1.25" not in out
    said = intent.fit_json()
    assert said["fitted"] == {}
    assert [(each["images"], each["fitted"]["exposure"]["estimate"]) for each in said["lights"]] == [
        (24, -3.5),
        (16, 0.75),
    ]
