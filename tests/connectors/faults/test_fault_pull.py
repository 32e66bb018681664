"""A pull that breaks at any request writes nothing; pulled again, the dataset is what it is after a pull without faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from curate.checks.store import stored_findings
from curate.dataset import open_dataset
from curate.dataset.home import dataset_path, exists
from curate.errors import CurateError
from tests.connectors.faults.fault_rounds import Script, copied, dataset, fetch, scripts, send, some_scripts
from tests.connectors.faults.fault_worlds import World


def play(world: World, prepared: Callable[[], str], choose: Callable[[World, int], Iterator[Script]]) -> None:
    """Pull without faults, which tells how many requests that takes; then once for each script, from the same state."""
    clean = prepared()
    world.proxy.play()
    fetch(world, clean, create=True)
    requests = len(world.proxy.requests)
    expected = contents(clean)
    failures = 0
    for script in choose(world, requests):
        name = prepared()
        before = contents(name)
        told = f"{script} of {requests}"
        world.proxy.play(script[0], down_from=script[1])
        try:
            fetch(world, name, create=True)
        except CurateError:
            failures += 1
            assert contents(name) == before, told
        world.proxy.play()
        fetch(world, name, create=True)
        assert contents(name) == expected, told
        assert fetch(world, name).counts == {}, told
    assert failures


def contents(name: str) -> dict[str, list[str]]:
    """Every row of a dataset, wherever it lies, and how many commits made it; nothing, if it is not there."""
    if not exists(name):
        return {}
    data = open_dataset(name)
    tables = {each: data.table(each).to_pylist() for each in ("images", "annotations", "findings", "links")}
    found = {table: sorted(_told(row, name) for row in rows) for table, rows in tables.items()}
    files = [path for path in (data.path / "files").rglob("*") if path.is_file()]
    found["files"] = sorted(f"{path.relative_to(data.path)}: {hash(path.read_bytes())}" for path in files)
    return found | {"commits": [str(data.commit.number)]}


def _told(row: dict[str, object], name: str) -> str:
    return str(sorted(row.items(), key=str)).replace(str(dataset_path(name)), "DATASET")


def everything(world: World, folder: Path) -> Callable[[], str]:
    """The dataset is not there yet: images and all that is on them come from the server."""
    _pushed(world, folder)
    numbers = iter(range(10_000))
    return lambda: f"imported-{next(numbers)}"


def answers(world: World, folder: Path) -> Callable[[], str]:
    """The dataset has been pushed, and people have answered."""
    name = _pushed(world, folder)
    world.work("screw")
    return lambda: copied(name)


def _pushed(world: World, folder: Path) -> str:
    name = copied(dataset(folder, 2))
    world.clear()
    send(world, name)
    return name


@pytest.mark.parametrize("state", [everything, answers])
def test_a_pull_that_broke_leaves_nothing_and_the_next_one_brings_all(
    stand_in: World, tmp_path: Path, state: Callable[[World, Path], Callable[[], str]]
) -> None:
    play(stand_in, state(stand_in, tmp_path / "set"), some_scripts)


@pytest.mark.slow
@pytest.mark.parametrize("state", [everything, answers])
def test_a_pull_from_a_real_server(
    label_studio_behind: World, tmp_path: Path, state: Callable[[World, Path], Callable[[], str]]
) -> None:
    play(label_studio_behind, state(label_studio_behind, tmp_path / "set"), scripts)


def test_answers_close_the_findings(stand_in: World, tmp_path: Path) -> None:
    name = _pushed(stand_in, tmp_path / "set")
    stand_in.work("screw")
    fetch(stand_in, name)
    found = stored_findings(open_dataset(name))
    assert [finding.status for finding in found] == ["fixed", "fixed"]
    assert {finding.evidence["verdict"]["how"] for finding in found} == {"changed as suggested"}
