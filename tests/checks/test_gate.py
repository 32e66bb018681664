"""Gates: scores of findings, and p-values of the test of shift."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature

import pytest

from curate.checks.findings import Finding, Kind
from curate.checks.gate import LEAST_P, Gate, failures, lowest_score, parse_gates, require_possible
from curate.checks.shift.two_sample import two_sample_test
from curate.errors import UsageError


def finding(kind: Kind, score: float) -> Finding:
    return Finding(kind, score, "a.jpg", "0" * 16, "quality")


def test_each_kind_has_its_limit() -> None:
    assert parse_gates(["dark", "leak:0.9", "shifted", "shifted:0.001"]) == [
        Gate("dark", 0.5),
        Gate("leak", 0.9),
        Gate("shifted", 0.05),
        Gate("shifted", 0.001),
    ]


def test_scores_decide_on_findings_and_p_values_on_shift() -> None:
    gates = parse_gates(["dark:0.8", "shifted:0.01"])
    found = [finding("dark", 0.79), finding("shifted", 0.99)]
    assert failures(found, gates) == []
    assert failures(found, gates, 0.011) == []
    assert failures(found, gates, 0.01) == ["failed: shifted with p = 0.01, at most 0.01"]
    assert failures([finding("dark", 0.8)], gates, 1.0) == ["failed: 1 dark with a score of at least 0.8"]
    assert failures([replace(finding("dark", 0.8), status="rejected")], gates) == []


def test_a_p_value_does_not_say_which_findings_are_looked_at() -> None:
    assert lowest_score(parse_gates(["shifted:0.01"]), 0.1) == 0.1
    assert lowest_score(parse_gates(["shifted:0.01", "dark:0.05", "leak"]), 0.1) == 0.05


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("leek", "there is no kind 'leek'"),
        ("dark:high", "'high' is not a score from 0 to 1"),
        ("dark:1.5", "'1.5' is not a score from 0 to 1"),
        ("dark:nan", "'nan' is not a score from 0 to 1"),
        ("shifted:5%", "'5%' is not a p-value from 0 to 1"),
        ("shifted:0.0005", "no test of shift gives a p-value of 0.0005: it is counted among 999 permutations"),
    ],
)
def test_what_no_gate_can_be_is_told(text: str, what: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_gates([text])
    assert raised.value.what == what


def test_a_gate_that_nothing_can_fail_is_told_with_its_place() -> None:
    gates = parse_gates(["dark", "leak:0.9"], where="curate.toml, fail-on")
    require_possible(gates, {"dark", "leak"}, "")
    with pytest.raises(UsageError) as raised:
        require_possible(gates, {"dark", "blurry"}, "run leaks")
    assert (raised.value.what, raised.value.where) == (
        "nothing that is run finds 'leak'",
        "curate.toml, fail-on leak:0.9",
    )


def test_the_strictest_limit_is_what_the_permutations_can_give() -> None:
    permutations = signature(two_sample_test).parameters["permutations"].default
    assert 1 / (permutations + 1) == pytest.approx(LEAST_P)
