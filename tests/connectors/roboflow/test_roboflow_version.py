"""A version: a frozen export, downloaded once, and never written to."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from curate.connectors.base import ProjectSpec
from curate.connectors.roboflow.version import Version
from curate.errors import InputError, UnavailableError, UsageError
from curate.formats.losses import LossReport
from tests.connectors.roboflow.conftest import Connect, jpeg, listing, shown
from tests.servers.roboflow import Failure, Service
from tests.servers.roboflow_files import box_at

ADDRESS = "roboflow://acme/parts/1"


@pytest.fixture
def frozen(service: Service) -> Service:
    service.add_project("parts")
    outline = {"type": "polygon", "points": [[1, 2], [9, 2], [9, 12]]}
    boxes = [box_at("bolt", 10, 5, 20, 8), box_at("nut", 1, 2, 8, 10) | outline]
    service.put("parts", "a.jpg", jpeg(1), boxes=boxes, accepted=True, metadata={"camera": "c1"})
    service.put("parts", "b.jpg", jpeg(2), boxes=[], accepted=True, split="valid")
    service.put("parts", "waiting.jpg", jpeg(3))
    service.freeze("parts")
    return service


def test_copies_of_an_image_are_a_group(frozen: Service, connect: Connect) -> None:
    items = list(listing(connect(ADDRESS)).values())
    assert [(item.split, item.group) for item in items] == [("train", "a.jpg")] * 2 + [("val", "b.jpg")] * 2
    assert items[0].location.startswith("train/a_jpg.rf.")
    assert items[0].size == (64, 48)
    assert items[0].image_id is None
    assert [each[1:] for each in shown(items[0])] == [("bolt", [10, 5, 20, 8]), ("nut", [1, 2, 8, 10])]
    assert [each.row["polygons"] for each in items[0].annotations or ()] == [None, [[1, 2, 9, 2, 9, 12]]]
    assert items[3].annotations == []


def test_it_is_downloaded_once(frozen: Service, connect: Connect) -> None:
    connector = connect(ADDRESS)
    items = listing(connector)
    assert connector.download(next(iter(items.values()))) == jpeg(1)
    known = {item.remote_id: item.version for item in items.values()}
    assert all(item.annotations is None for item in listing(connector, known).values())
    assert len(frozen.file_requests) == 1
    assert "api_key" not in frozen.file_requests[0]


def test_segmentation_has_its_own_format(frozen: Service, connect: Connect) -> None:
    frozen.projects["parts"].type = "instance-segmentation"
    listing(connect(ADDRESS))
    assert frozen.count("GET /acme/parts/1/coco-segmentation") == 1


def test_classes_of_whole_images(frozen: Service, connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "folder.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/bolt/a_jpg.rf.0123456789abcdef0123456789abcdef.jpg", jpeg(1))
        archive.writestr("train/nut/b_jpg.rf.0123456789abcdef0123456789abcdef.jpg", jpeg(2))
        archive.writestr("README.txt", "")
    frozen.projects["parts"].type = "classification"
    frozen.projects["parts"].versions["1"] = {"folder": path.read_bytes()}
    items = listing(connect(ADDRESS)).values()
    labels = [[each.row["label"] for each in item.annotations or ()] for item in items]
    assert labels == [["bolt"], ["nut"]]


def test_it_waits_until_the_export_is_made(frozen: Service, connect: Connect) -> None:
    frozen.projects["parts"].exports_made_after = 3
    assert len(listing(connect(ADDRESS))) == 4
    assert frozen.count("GET /acme/parts/1/coco") == 4


def test_it_does_not_wait_for_ever(frozen: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen.projects["parts"].exports_made_after = 10**9
    connector = connect(ADDRESS)
    assert isinstance(connector._version, Version)
    connector._version.longest_wait = 0.05
    with pytest.raises(UnavailableError, match="has not made the export"):
        listing(connector)


@pytest.mark.parametrize("failure", ["429", "500", "cut", "lost", "truncated"])
def test_a_download_that_breaks_off_is_tried_again(frozen: Service, connect: Connect, failure: Failure) -> None:
    frozen.fail("/exports/", failure, failure)
    assert len(listing(connect(ADDRESS))) == 4


def test_an_archive_that_is_never_whole_is_an_error(frozen: Service, connect: Connect) -> None:
    whole = frozen.projects["parts"].versions["1"]["coco"]
    frozen.projects["parts"].versions["1"]["coco"] = whole[: len(whole) // 2]
    with pytest.raises(UnavailableError, match="no whole archive"):
        listing(connect(ADDRESS))


def test_a_missing_version_is_named(frozen: Service, connect: Connect) -> None:
    with pytest.raises(InputError, match="parts/7: there is no such version"):
        listing(connect("roboflow://acme/parts/7"))


def test_it_cannot_be_written_to(frozen: Service, connect: Connect) -> None:
    connector = connect(ADDRESS)
    losses = LossReport()
    for write in (
        lambda: connector.create([], losses=losses),
        lambda: connector.change([], losses=losses),
        lambda: connector.ensure_project(ProjectSpec("m", "t", [], frozenset()), losses),
    ):
        with pytest.raises(UsageError, match=r"use the project's address, roboflow://acme/parts\)"):
            write()


def test_it_has_a_title_and_a_page(frozen: Service, connect: Connect) -> None:
    connector = connect(ADDRESS)
    assert connector.project().details["version"] == "1"
    item = next(iter(listing(connector).values()))
    assert connector.link_of(item) == "https://app.roboflow.com/acme/parts/1"
