"""Choosing an engine: what is understood, what is refused, and how a lack is told."""

from __future__ import annotations

import socket
import sys

import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.engine.engines import LocalEngine, current_engine, map_jobs, use_engine
from curate.engine.jobs import Job
from curate.engine.ray import RayOptions, parse_options
from curate.errors import MissingExtra, UnavailableError, UsageError
from tests.engine.stages import add


def test_the_local_engine_is_in_use_unless_another_is_chosen() -> None:
    assert isinstance(current_engine(), LocalEngine)
    with use_engine("local"):
        assert isinstance(current_engine(), LocalEngine)


def test_jobs_get_the_parts_that_they_need_and_results_come_in_order() -> None:
    jobs = (Job((k % 3, 2), (1000.0 * k,)) for k in range(20))
    assert list(map_jobs(add, jobs, [1.0, 2.0, 3.0])) == [1000.0 * k + [1.0, 2.0, 3.0][k % 3] + 3.0 for k in range(20)]


def test_options_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert parse_options("") == RayOptions("local")
    assert parse_options("?workers=2&cpus=4&gpus=0.5&store=80") == RayOptions("local", 2, 4, 0.5, 80)
    assert parse_options("10.0.0.1:6379") == RayOptions("10.0.0.1:6379")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert parse_options("?cpus=2") == RayOptions("head:6379", cpus=2)
    assert parse_options("local") == RayOptions("local")


@pytest.mark.parametrize(
    "spec", ["ray?workers=0", "ray?workers=two", "ray?speed=9", "ray?cpus=-1", "ray:ray://h:10001", "ray://h:10001"]
)
def test_options_that_are_not_understood(spec: str) -> None:
    with pytest.raises(UsageError), use_engine(spec):
        pass


@pytest.mark.parametrize("spec", ["spark", "local:8"])
def test_engines_that_are_not_there(spec: str) -> None:
    with pytest.raises(UsageError), use_engine(spec):
        pass


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"curate-vision\[ray\]"), use_engine("ray:local"):
        pass


def test_a_cluster_that_does_not_answer_is_told_with_a_remedy_and_status_3() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(app, ["embed", "-d", "parts", "--engine", f"ray:{address}"])
    assert result.exit_code == UnavailableError.exit_code
    assert f"at: {address}" in result.stderr
    assert "the Ray cluster cannot be reached" in result.stderr
    assert "ray status" in result.stderr


def test_the_environment_names_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_ENGINE", "spark")
    result = CliRunner().invoke(app, ["embed", "-d", "parts"])
    assert result.exit_code == UsageError.exit_code
    assert "no engine named 'spark'" in result.stderr
