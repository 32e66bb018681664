"""Many rounds of push and pull with random edits on both sides, against a model of what each side should hold.

The model knows every annotation by a number that rides in its attributes. Between two syncs each side edits, adds and takes
away; then what only one side touched must be on both, what both touched must be told as a conflict and left alone, and
nothing else may have changed.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.connectors.base import Row
from curate.connectors.sync.content import rows_of, table_of
from curate.connectors.sync.pull import pull
from curate.connectors.sync.push import PushPlan, push
from curate.dataset import begin, open_dataset
from curate.dataset.home import dataset_path
from tests.connectors.memory_connector import Memory, box, png

Side: TypeAlias = dict[int, tuple[str, float]]
"""Label and place of each annotation, by its number."""


class World:
    """Both sides and the model."""

    def __init__(self, seed: int, *, carries_ids: bool) -> None:
        self.random = random.Random(seed)
        self.server = Memory(carries_ids=carries_ids)
        self.next = 0
        for number in range(3):
            self.server.add(f"{number}.png", png(number), [self._new() for _ in range(3)])
        self.name = f"rounds-{seed}-{carries_ids}"
        pull(self.name, self.server, create=True, command="curate import")

    def _new(self) -> Row:
        self.next += 1
        return box(self._label(), self._x(), 20.0 * self.next, n=self.next)

    def _label(self) -> str:
        return self.random.choice(["bolt", "nut", "screw", "washer"])

    def _x(self) -> float:
        return round(self.random.uniform(0, 1000), 3)

    def here(self) -> Side:
        return {row["attributes"]["n"]: (row["label"], row["bbox"][0]) for row in self._rows()}

    def _rows(self) -> list[Row]:
        return rows_of(open_dataset(self.name).table("annotations"))

    def there(self) -> Side:
        said = [row for task in self.server.tasks.values() for row in task.rows.values()]
        return {row["attributes"]["n"]: (row["label"], row["bbox"][0]) for row in said}

    def _edited(self, row: Row) -> Row:
        if self.random.random() < 0.5:
            return {**row, "label": self._label()}
        return {**row, "bbox": [self._x(), *row["bbox"][1:]]}

    def edit_there(self) -> None:
        for task in self.server.tasks.values():
            for key in list(task.rows):
                action = self.random.random()
                if action < 0.15:
                    task.rows[key] = self._edited(task.rows[key])
                elif action < 0.2:
                    del task.rows[key]
            if self.random.random() < 0.3:
                task.rows[self.server._id("s")] = self._new()

    def edit_here(self) -> None:
        with begin(self.name, command="edit") as transaction:
            known = rows_of(transaction.base.table("annotations"))
            changed = [self._edited(row) for row in known if self.random.random() < 0.15]
            gone = [row["annotation_id"] for row in known if self.random.random() < 0.05]
            image_ids = transaction.base.table("images")["image_id"].to_pylist()
            for image_id in image_ids:
                if self.random.random() < 0.3:
                    own = {"annotation_id": f"{self.next:016x}", "image_id": image_id, "layer": "ground_truth"}
                    changed.append({**self._new(), **own})
            if changed:
                transaction.upsert("annotations", table_of(changed), "annotation_id")
            transaction.delete("annotations", "annotation_id", pa.array(gone, pa.string()))

    def sync(self, prefer: Any = None) -> list[int]:
        """Pull, then push; numbers of the annotations in conflict."""
        pull(self.name, self.server, prefer=prefer, command="curate pull")
        result = push(self.name, self.server, PushPlan(), prefer=prefer, command="curate push")
        found = []
        for _, conflict in result.conflicts:
            row = conflict.here or conflict.there
            assert row is not None
            found.append(row["attributes"]["n"])
        return found


def merged(base: Side, here: Side, there: Side) -> tuple[Side, set[int]]:
    """What both sides should hold after a sync, and what is in conflict."""
    result, conflicts = {}, set()
    for number in base.keys() | here.keys() | there.keys():
        before, a, b = base.get(number), here.get(number), there.get(number)
        if a == before:
            value = b
        elif b in (before, a):
            value = a
        else:
            conflicts.add(number)
            continue
        if value is not None:
            result[number] = value
    return result, conflicts


def play(seed: int, rounds: int, *, carries_ids: bool) -> None:
    world = World(seed, carries_ids=carries_ids)
    base = world.there()
    assert world.here() == base
    for _ in range(rounds):
        world.edit_here()
        world.edit_there()
        here, there = world.here(), world.there()
        expected, conflicts = merged(base, here, there)
        assert set(world.sync()) == conflicts
        for side, before in ((world.here(), here), (world.there(), there)):
            assert {n: value for n, value in side.items() if n not in conflicts} == expected
            assert {n: side.get(n) for n in conflicts} == {n: before.get(n) for n in conflicts}
        prefer = world.random.choice(["theirs", "ours"])
        winner = there if prefer == "theirs" else here
        assert not world.sync(prefer)
        base = expected | {n: winner[n] for n in conflicts if n in winner}
        assert world.here() == world.there() == base
        assert pull(world.name, world.server, command="curate pull").counts == {}


@pytest.mark.parametrize("carries_ids", [True, False])
def test_three_rounds(carries_ids: bool) -> None:
    play(7, 3, carries_ids=carries_ids)


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), carries_ids=st.booleans())
def test_twenty_rounds(tmp_path: Path, seed: int, carries_ids: bool) -> None:
    if dataset_path(f"rounds-{seed}-{carries_ids}").exists():
        return  # shrinking plays the same game again
    play(seed, 20, carries_ids=carries_ids)
