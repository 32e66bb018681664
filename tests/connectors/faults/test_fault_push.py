"""A push that breaks at any request: pushed again, both sides hold everything, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.connectors.faults.fault_rounds import (
    Script,
    State,
    broken_push,
    changed_images,
    check_pushed,
    few_scripts,
    new_images,
    scripts,
    some_scripts,
)
from tests.connectors.faults.fault_worlds import World

Scripts = Callable[[World, int], Iterator[Script]]


def play(world: World, prepared: Callable[[], str], choose: Scripts) -> None:
    """Push without faults, which tells how many requests that takes; then once for each script, from the same state."""
    name = prepared()
    told = broken_push(world, name, ({}, None))
    requests = len(world.proxy.requests)
    check_pushed(world, name, told)
    for script in choose(world, requests):
        name = prepared()
        check_pushed(world, name, broken_push(world, name, script))


@pytest.mark.parametrize("state", [new_images, changed_images])
def test_a_push_that_broke_is_completed_by_the_next(stand_in: World, tmp_path: Path, state: State) -> None:
    play(stand_in, state(stand_in, tmp_path / "set"), few_scripts)


@pytest.mark.slow
@pytest.mark.parametrize("state", [new_images, changed_images])
def test_whatever_happens_at_every_request(roboflow: World, tmp_path: Path, state: State) -> None:
    play(roboflow, state(roboflow, tmp_path / "set"), scripts)


@pytest.mark.slow
@pytest.mark.parametrize("state", [new_images, changed_images])
@pytest.mark.parametrize("service", ["cvat", "label_studio_behind"])
def test_something_happens_at_every_request(
    request: pytest.FixtureRequest, tmp_path: Path, service: str, state: State
) -> None:
    world = request.getfixturevalue(service)
    play(world, state(world, tmp_path / "set"), some_scripts)
