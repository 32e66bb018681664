"""push, pull and info on the command line; the server is in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from curate.checks.findings import Finding
from curate.checks.store import replace_findings, stored_findings
from curate.cli import app
from curate.connectors import registry
from curate.connectors.addresses import Address, parse_address
from curate.connectors.base import ConnectorSpec
from curate.dataset import begin, open_dataset
from curate.formats.importing import import_source
from curate.registry import Registry
from tests.connectors.memory_connector import Cut, Memory, box, png


def curate(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == status, f"{result.output}{result.exception!r}"
    return result


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Memory]:
    """Servers by host; each has one project."""
    known: dict[str, Memory] = {}

    def make(address: Address) -> Memory:
        server = known.setdefault(address.host, Memory())
        server.address = Address("memory", address.host, address.path or "projects/1")
        return server

    spec = ConnectorSpec("memory", "MEMORY_TOKEN", make, "memory://host/projects/1", "")
    monkeypatch.setattr(registry, "CONNECTORS", Registry("connector", {"memory": f"{__name__}:SPEC"}))
    monkeypatch.setitem(globals(), "SPEC", spec)
    return known


def parts(folder: Path) -> None:
    """Two images with a bolt each, and a finding on every bolt."""
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(png(number))
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 48, "height": 32} for k in range(2)],
        "categories": [{"id": 1, "name": "bolt"}],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 1, "bbox": [3, 4, 10, 12], "area": 120, "iscrowd": 0}
            for k in range(2)
        ],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    import_source("parts", folder / "labels.json", command="test")
    dataset = open_dataset("parts")
    locations = {row["image_id"]: row["location"] for row in dataset.table("images").to_pylist()}
    findings = [
        Finding(
            "mislabeled", 0.9, locations[row["image_id"]], row["image_id"], "mistakes", row["annotation_id"],
            bbox=row["bbox"], given="bolt", suggested="nut", evidence={"why": "it looks like one"},
        )
        for row in dataset.table("annotations").to_pylist()
    ]  # fmt: skip
    with begin("parts", command="check") as transaction:
        replace_findings(transaction, "mistakes", findings)


def test_a_round_by_the_command_line(tmp_path: Path, servers: dict[str, Memory]) -> None:
    parts(tmp_path / "set")
    (planned,) = map(
        json.loads,
        curate("push", "memory://a", "-d", "parts", "--findings", "true", "--dry-run", "--json").stdout.splitlines(),
    )
    assert (planned["images"], planned["findings"]) == (2, 2)
    assert not servers
    pushed = json.loads(curate("push", "memory://a", "-d", "parts", "--findings", "true", "-n", 1, "--json").stdout)
    assert (pushed["images_created"], pushed["findings"], pushed["remote"]) == (1, 1, "memory://a/projects/1")
    (task,) = servers["a"].tasks.values()
    next(iter(task.rows.values()))["label"] = "nut"
    task.work = "handed in"
    pulled = json.loads(curate("pull", "-d", "parts", "--json").stdout)
    assert pulled["changes"]["findings fixed"] == 1
    info = json.loads(curate("info", "parts", "--json").stdout)
    assert info["remotes"] == {"memory://a/projects/1": {"annotations": 1, "images": 1}}
    assert "synced with" in curate("info", "parts").stdout
    assert "label: bolt -> nut" in curate("diff", "-d", "parts").stdout
    assert "nothing new" in curate("pull", "memory://a", "-d", "parts").stderr


def test_a_server_that_is_down_keeps_no_other_from_being_pulled_and_can_be_forgotten(
    tmp_path: Path, servers: dict[str, Memory]
) -> None:
    parts(tmp_path / "set")
    for host in "ab":
        curate("push", f"memory://{host}", "-d", "parts", "--findings", "true", "--where", "location = '0.png'")

    def down(step: str) -> None:
        raise Cut("down")

    servers["a"].fault = down
    next(iter(servers["b"].tasks.values())).rows["new"] = box("screw", 30)
    failed = curate("pull", "-d", "parts", status=3)
    assert "error: down" in failed.stderr
    assert open_dataset("parts").count("annotations") == 3
    assert {finding.status for finding in stored_findings(open_dataset("parts"))} == {"queued", "open"}
    curate("pull", "memory://a", "-d", "parts", "--forget")
    assert {finding.status for finding in stored_findings(open_dataset("parts"))} == {"open"}
    assert "memory://a" not in curate("info", "parts").stdout
    curate("pull", "-d", "parts")
    curate("pull", "memory://a/projects/1", "-d", "parts", "--forget", status=2)
    curate("pull", "-d", "parts", "--forget", status=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["push", "memory://a", "-d", "parts"], "nothing is chosen"),
        (["push", "memory://a", "-d", "parts", "-n", "5"], "nothing is chosen"),
        (["push", "unknown://a", "-d", "parts", "--findings", "true", "--dry-run"], "no connector named 'unknown'"),
        (["push", "-d", "parts", "--findings", "true"], "not synced with any project"),
        (["push", "memory://a", "-d", "parts", "--findings", "kind = 'dark'"], "no open finding"),
        (["push", "memory://a", "-d", "parts", "--where", "false"], "no image is chosen"),
        (["push", "memory://a", "-d", "parts", "--where", "true", "--predictions", "predictions/x"], "no layer"),
        (["pull", "-d", "parts"], "not synced with any project"),
        (["pull", "memory://a", "-d", "parts", "--theirs", "--ours"], "exclude each other"),
        (["pull", "no-address", "-d", "parts"], "not an address"),
    ],
)
def test_wrong_use_is_told_before_any_server_is_asked(
    tmp_path: Path, servers: dict[str, Memory], arguments: list[str], words: str
) -> None:
    parts(tmp_path / "set")
    assert words in curate(*arguments, status=2).stderr
    assert not any(server.tasks for server in servers.values())


def test_an_address_can_be_imported(servers: dict[str, Memory]) -> None:
    servers["a"] = Memory()
    servers["a"].add("x.png", png(1), [box("bolt", 3)])
    curate("import", "memory://a/projects/1", "-d", "new")
    assert open_dataset("new").count("annotations") == 1
    assert str(parse_address("memory://a/projects/1")) in open_dataset("new").commit.info["remotes"]
