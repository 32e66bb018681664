"""Datasets that are pushed to failing services, and what must hold when a push or pull has been done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.checks.findings import Finding
from curate.checks.store import replace_findings, stored_findings
from curate.connectors.registry import connect
from curate.connectors.sync.content import rows_of, table_of
from curate.connectors.sync.plans import plan_push
from curate.connectors.sync.pull import PullResult, pull
from curate.connectors.sync.push import PushResult, push
from curate.dataset import begin, open_dataset
from curate.dataset.home import dataset_path
from curate.errors import CurateError
from curate.formats.importing import import_source
from tests.connectors.faults.fault_worlds import NAME, SUSPECT, Held, World
from tests.connectors.memory_connector import png
from tests.servers.fault_proxy import Fault

Script = tuple[Mapping[int, Fault], int | None]
"""What single requests meet, by number; and the request from which on the server is down."""

State = Callable[[World, Path], Callable[[], str]]
"""What both sides are before a push, in a folder; gives a function that makes it, and returns the dataset's name."""

_OUTAGE = 8
_FEW = 5


def scripts(world: World, requests: int) -> Iterator[Script]:
    """At every request: a fault alone, each time another one; and in turn an outage, and the server's end."""
    faults = cycle(world.faults)
    for number in range(requests):
        yield {number: next(faults)}, None
        yield outage(number) if number % 2 else ({number: "lost"}, number + 1)


def some_scripts(world: World, requests: int) -> Iterator[Script]:
    """At every request something else: a fault alone, a fault and the server's end, an outage."""
    faults = cycle(world.faults)
    for number in range(requests):
        kind = number % 3
        yield outage(number) if kind == 2 else ({number: next(faults)}, number + 1 if kind else None)


def few_scripts(world: World, requests: int) -> Iterator[Script]:
    """Now and then something."""
    return islice(some_scripts(world, requests), _FEW // 2, None, _FEW)


def outage(number: int) -> Script:
    """The server is away for longer than a request is tried again, and then back."""
    return dict.fromkeys(range(number, number + _OUTAGE), "cut"), None


def dataset(folder: Path, images: int) -> str:
    """A dataset of images with two boxes each, the first of which is suspected to be something else."""
    folder.mkdir()
    annotations = []
    for number in range(images):
        (folder / f"{number}.png").write_bytes(png(number))
        for place in range(2):
            said = {"id": 10 * number + place, "image_id": number, "category_id": 1 + place, "iscrowd": 0}
            annotations.append({**said, "bbox": [SUSPECT + 20 * place, 4.0, 10.5, 12.0], "area": 126.0})
    labels = ("bolt", "nut", "screw", "washer")
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 48, "height": 32} for k in range(images)],
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, 1)],
        "annotations": annotations,
    }
    (folder / "labels.json").write_text(json.dumps(content))
    import_source(NAME, folder / "labels.json", command="test")
    suspect(NAME, "first")
    return NAME


def copied(name: str) -> str:
    """A dataset like another."""
    for number in count():
        other = f"{name}-{number}"
        if not dataset_path(other).exists():
            shutil.copytree(dataset_path(name), dataset_path(other))
            return other
    raise AssertionError("unreachable")


def suspect(name: str, check: str) -> None:
    """A finding of a check on the suspected box of every image."""
    rows = [row for row in rows_of(open_dataset(name).table("annotations")) if row["bbox"][0] == SUSPECT]
    places = {row["image_id"]: row["location"] for row in open_dataset(name).table("images").to_pylist()}
    found = [
        Finding("mislabeled", 0.9, places[row["image_id"]], row["image_id"], check, row["annotation_id"], bbox=row["bbox"],
                given=row["label"], suggested="screw", evidence={"why": "its neighbours say so"})
        for row in rows
    ]  # fmt: skip
    with begin(name, command="check") as transaction:
        replace_findings(transaction, check, found)


def edit(name: str) -> None:
    """Here, on every image: another label for its second box, and a third box; on one image, take the second away."""
    with begin(name, command="edit") as transaction:
        second = [row for row in rows_of(transaction.base.table("annotations")) if row["bbox"][0] != SUSPECT]
        third = [
            {**row, "annotation_id": f"{number:016x}", "bbox": [4.123456, 20.654321, 6.1, 6.57], "source_id": None}
            for number, row in enumerate(second)
        ]
        relabelled = [{**row, "label": "washer"} for row in second[1:]]
        transaction.upsert("annotations", table_of([*relabelled, *third]), "annotation_id")
        transaction.delete("annotations", "annotation_id", pa.array([second[0]["annotation_id"]]))


def send(world: World, name: str) -> PushResult:
    """Push what is suspected, as the command does."""
    plan = plan_push(name, findings="kind = 'mislabeled'")
    return push(name, connect(world.address), plan, command="curate push")


def fetch(world: World, name: str, *, create: bool = False) -> PullResult:
    """Pull, as the command does."""
    return pull(name, connect(world.project()), create=create, command="curate pull")


def new_images(world: World, folder: Path) -> Callable[[], str]:
    """A state: nothing is on the server yet."""
    dataset(folder, 2)

    def prepared() -> str:
        world.clear()
        return copied(NAME)

    return prepared


def changed_images(world: World, folder: Path) -> Callable[[], str]:
    """A state: the server has the images; labels were changed here, and there are more findings."""
    unsent = new_images(world, folder)

    def prepared() -> str:
        name = unsent()
        world.proxy.play()
        send(world, name)
        edit(name)
        suspect(name, "second")
        return name

    return prepared


def broken_push(world: World, name: str, script: Script) -> str:
    """Push while requests fail; what happened."""
    world.proxy.play(script[0], down_from=script[1])
    try:
        send(world, name)
    except CurateError as error:
        return f"{script} of {world.proxy.requests}: {error}"
    return f"{script} of {world.proxy.requests}: done"


def check_pushed(world: World, name: str, told: str) -> None:
    """Push again, without faults: both sides hold the same, once, and know it.

    Args:
        world: The service.
        name: The dataset.
        told: What happened before, for the message of a failure.
    """
    world.proxy.play()
    send(world, name)
    expected = here(name)
    assert world.held() == expected, told
    assert {finding.status for finding in stored_findings(open_dataset(name))} == {"queued"}, told
    kinds = open_dataset(name).table("links")["kind"].to_pylist()
    annotations, findings = (sum(len(getattr(each, what)) for each in expected) for what in ("annotations", "findings"))
    assert [kinds.count(kind) for kind in ("image", "annotation", "finding")] == [
        len(expected),
        annotations,
        findings,
    ], told
    again = send(world, name)
    assert (again.created, again.changed, again.findings, again.conflicts) == (0, 0, 0, []), told
    pulled = fetch(world, name)
    assert (pulled.counts, pulled.conflicts, pulled.gone, pulled.to_push) == ({}, [], 0, 0), f"{pulled}: {told}"
    assert world.held() == here(name) == expected, told


def here(name: str) -> list[Held]:
    """What a dataset holds: what the server should."""
    data = open_dataset(name)
    boxes: dict[str, list[Any]] = {str(each): [] for each in data.table("images")["image_id"].to_pylist()}
    told: dict[str, list[str]] = {each: [] for each in boxes}
    for row in rows_of(data.table("annotations", where="layer = 'ground_truth'")):
        boxes[row["image_id"]].append((row["label"], tuple(round(side, 2) for side in row["bbox"])))
    for finding in stored_findings(data):
        told[finding.image_id].append(finding.id)
    return sorted(Held(each, sorted(boxes[each]), sorted(told[each])) for each in boxes)
