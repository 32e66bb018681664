"""What a source may be and what comes of it: archives, layers side by side, files that readers make, and bad input."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from import_cases import annotated, coco, images, load, save, write_images
from PIL import Image

from curate.dataset import open_dataset
from curate.dataset.home import dataset_path
from curate.dataset.store import remove, undo
from curate.errors import FormatError, InputError, UsageError
from curate.formats.archives import kind_of_name, pack
from curate.formats.base import Detection, Format, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.columns import images_table
from curate.formats.importing import ImportResult, import_source
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS
from curate.formats.roboflow_names import group_by_source
from curate.formats.shape_columns import Shape

# --------------------------------------------------------------------------------------------------- several layers at once


def in_layers(rows: list[dict[str, Any]]) -> Format:
    """A format whose reader gives one image with boxes in several layers; each row has a layer, an id and an x."""

    def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
        collector = Collector(options, losses)
        image = collector.image("a.png", None, size=(64, 48))
        for row in rows:
            shape = Shape(bbox=(row["x"], 1.0, 5.0, 5.0))
            score = 0.5 if row["layer"] != "ground_truth" else None
            collector.add(
                image, "bolt", shape, place="a", layer=row["layer"], key=row["id"], score=score, source="x.json"
            )
        return collector.records()

    return Format("layered", lambda path: Detection(0.9, "the test says so"), read)


@pytest.fixture
def layered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[dict[str, Any]]], ImportResult]:
    source = save(tmp_path / "x.json", [])

    def load_rows(rows: list[dict[str, Any]]) -> ImportResult:
        monkeypatch.setattr(sys.modules[__name__], "LAYERED", in_layers(rows), raising=False)
        monkeypatch.setitem(FORMATS._builtins, "layered", f"{__name__}:LAYERED")
        return import_source("parts", source, format="layered", command="import")

    return load_rows


def test_several_layers_are_updated_together(layered: Callable[[list[dict[str, Any]]], ImportResult]) -> None:
    model = "predictions/net"
    rows = [{"layer": layer, "id": n, "x": float(n)} for layer in ("ground_truth", model) for n in range(3)]
    assert layered(rows).counts["annotations added"] == 6
    assert layered(rows).counts == {}
    rows[1]["x"] = rows[4]["x"] = 9.0
    del rows[5], rows[0]
    assert layered(rows).counts == {"annotations changed": 2, "annotations removed": 2}
    assert sorted(row["bbox"][0] for row in annotated().values()) == [2, 9]
    assert sorted(row["bbox"][0] for row in annotated(model).values()) == [0, 9]


def test_layers_of_a_source_that_cannot_be(layered: Callable[[list[dict[str, Any]]], ImportResult]) -> None:
    with pytest.raises(UsageError, match="'prediction' cannot be a layer"):
        layered([{"layer": "prediction", "id": 1, "x": 1.0}])


# ---------------------------------------------------------------------------------------------------------------- archives


def pack_folder(folder: Path, name: str) -> Path:
    kind = kind_of_name(name)
    assert kind is not None
    pack(folder, folder.parent / name, kind)
    return folder.parent / name


def kept_files() -> list[Path]:
    """What the dataset's own folder for files has, markers too."""
    folder = dataset_path("parts") / "files"
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder in COCO with its images."""
    write_images(tmp_path / "data" / "images")
    save(tmp_path / "data" / "annotations" / "all.json", coco())
    return tmp_path / "data"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz", "set.txz"])
def test_an_archive_is_the_same_as_its_folder(data: Path, name: str, wrapped: bool) -> None:
    load(data)
    expected, expected_images = annotated(), images()
    remove("parts")
    if wrapped:
        (data.parent / "outer").mkdir()
        data = data.rename(data.parent / "outer" / "data").parent
    result = load(pack_folder(data, name))
    assert result.format == "coco"
    assert result.detection is not None
    assert "archive; " in result.detection.reason
    assert annotated() == expected
    found = images()
    for location, row in found.items():
        path = Path(row.pop("path"))
        assert path.read_bytes() == (next(data.rglob(location))).read_bytes()
        assert path.is_relative_to(dataset_path("parts") / "files")
        del expected_images[location]["path"]
    assert found == expected_images
    assert [path.name.rpartition("-")[0] for path in kept_files()] == ["set"]


def test_the_same_archive_again_and_another(data: Path) -> None:
    archive = pack_folder(data, "set.zip")
    load(archive)
    (first,) = kept_files()
    assert load(archive).counts == {}
    assert kept_files() == [first]
    content = coco()
    content["annotations"][5]["segmentation"][0][5] += 0.5
    save(data / "annotations" / "all.json", content)
    archive.unlink()
    result = load(pack_folder(data, "set.zip"))
    assert result.counts == {"images changed": 4, "annotations changed": 1}
    assert len(kept_files()) == 2
    undo("parts", command="undo")
    assert all(Path(row["path"]).is_file() and Path(row["path"]).is_relative_to(first) for row in images().values())


def test_rm_removes_the_files(data: Path) -> None:
    load(pack_folder(data, "set.zip"))
    remove("parts")
    assert not dataset_path("parts").exists()


def test_an_archive_of_annotations_alone_leaves_no_files(data: Path) -> None:
    archive = pack_folder(data / "annotations", "labels.zip")
    load(archive, images=data / "images")
    assert {Path(row["path"]).parent for row in images().values()} == {data / "images"}
    assert kept_files() == []
    assert load(archive, images=data / "images").counts == {}


def test_refused_members_are_losses(data: Path) -> None:
    archive = pack_folder(data, "set.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("../../evil.txt", b"evil")
    for _ in range(2):
        (loss,) = load(archive).losses.losses
        assert (loss.outcome, loss.what, loss.places) == ("dropped", "files", ["set.zip: ../../evil.txt"])
    with pytest.raises(FormatError, match="leads outside the archive"):
        load(archive, strict=True)
    assert not list(data.parent.rglob("evil.txt"))


@pytest.mark.parametrize("known", [False, True])
def test_a_failed_import_leaves_nothing(data: Path, known: bool) -> None:
    if known:
        load(pack_folder(data, "first.zip"))
    before = kept_files()
    (data / "annotations" / "all.json").write_text("{broken")
    with pytest.raises(FormatError) as error:
        load(pack_folder(data, "set.zip"))
    assert str(data.parent / "set.zip") in str(error.value)
    assert str(dataset_path("parts")) not in str(error.value)
    assert kept_files() == before
    assert dataset_path("parts").exists() == known


def test_losses_in_an_archive_name_the_archive(data: Path) -> None:
    (data / "images" / "1.png").write_bytes(b"no image")
    losses = load(pack_folder(data, "set.zip")).losses.losses
    assert any(place.startswith("set.zip: images/1.png") for loss in losses for place in loss.places)
    assert str(dataset_path("parts")) not in str(losses)


def test_an_error_says_what_was_left_closed_in_an_archive(tmp_path: Path) -> None:
    inner = b"no archive"
    for depth in range(10):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as opened:
            opened.writestr(f"{depth}.zip" if depth else "a.txt", inner)
        inner = buffer.getvalue()
    (tmp_path / "deep.zip").write_bytes(inner)
    with pytest.raises(FormatError, match=r"1 archive in the archive .*in 3 others already; not opened: deep\.zip"):
        load(tmp_path / "deep.zip")


def test_an_archive_in_name_only_is_said(tmp_path: Path) -> None:
    (tmp_path / "junk.zip").write_text("not found")
    with pytest.raises(FormatError, match="named as a zip archive, but is none"):
        load(tmp_path / "junk.zip")


def test_leftovers_of_a_crash_are_swept(data: Path) -> None:
    """A reader or the unpacking was killed: the marker says whose folder is no commit's."""
    load(data)
    files = dataset_path("parts") / "files"
    for name, number, command in (("dead-1", 2, "import"), ("late-2", 1, "embed"), ("made-3", 1, "import")):
        (files / name).mkdir(parents=True)
        (files / name / "frame.png").write_bytes(b"")
        (files / f".{name}.new").write_text(json.dumps([number, command]))
    (files / "broken-4").mkdir()
    (files / ".broken-4.new").write_text("[")
    (files / "whole-5").mkdir()
    load(data)
    assert [path.name for path in kept_files()] == ["made-3", "whole-5"]


def test_killed_while_an_archive_comes_in(data: Path) -> None:
    archive = pack_folder(data, "set.zip")
    code = (
        "import os, sys; from pathlib import Path; from curate.formats import importing\n"
        "importing._store_info = lambda *arguments: os.kill(os.getpid(), 9)\n"
        "importing.import_source('parts', Path(sys.argv[1]), command='import')"
    )
    load(save(data.parent / "other" / "labels.json", coco(1)))
    assert subprocess.run([sys.executable, "-c", code, str(archive)]).returncode == -signal.SIGKILL
    assert len(kept_files()) == 2
    load(data.parent / "other" / "labels.json")
    assert kept_files() == []
    load(archive)
    assert len(kept_files()) == 1


def test_files_that_a_reader_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a video: the same source finds the same folder, another content has its own."""
    seen: list[Path] = []

    def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
        assert options.files is not None
        seen.append(options.files)
        collector = Collector(options, losses)
        text = source.read_text()
        if text == "fail":
            write_images(options.files, 1)
            raise FormatError("broken")
        collector.image("0.png", write_frame(options.files / "0.png", text))
        return collector.records()

    monkeypatch.setattr(sys.modules[__name__], "LAYERED", Format("frames", lambda path: None, read), raising=False)
    monkeypatch.setitem(FORMATS._builtins, "frames", f"{__name__}:LAYERED")
    source = tmp_path / "clip.mp4"
    for text in ("red", "red", "fail", "blue"):
        source.write_text(text)
        try:
            import_source("parts" if text != "blue" else "blue", source, format="frames", command="import")
        except FormatError:
            assert text == "fail"
    assert seen[0] == seen[1] != seen[2]
    assert re.fullmatch(r"clip\.mp4-[0-9a-f]{16}", seen[0].name)
    assert [path.exists() for path in seen] == [True, True, False, True]
    assert kept_files() == [seen[0]]


def write_frame(path: Path, color: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), color).save(path)
    return path


# -------------------------------------------------------------------------------------------------------- Roboflow's names


def test_roboflow_groups_in_every_format(shared_data: Path, tmp_path: Path) -> None:
    wagon = shared_data / "detection/roboflow_wagon"
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in wagon.rglob("*.jpg"):
        (flat / path.name).symlink_to(path)
    for source, name in ((wagon, "coco"), (flat, "imagefolder")):
        import_source(name, source, format=name, command="import")
        groups = Counter(open_dataset(name).table("images")["group"].to_pylist())
        assert (len(groups), sum(groups.values()), sum(count > 1 for count in groups.values())) == (134, 299, 110)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("train/a_b_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "a_b.jpg"),
        ("a-PNG_png.rf.Zx9Zx9Zx9Zx9Zx9Zx9Zx.png", "a-PNG.png"),
        ("a_JPG.rf.0123456789abcdef0123456789abcdef.jpg", "a.JPG"),
        ("a_jpg.rf.0123.jpg", None),
        ("a.rf.0123456789abcdef0123456789abcdef.jpg", None),
        ("a_xyz.rf.0123456789abcdef0123456789abcdef.jpg", None),
        ("_jpg.rf.0123456789abcdef0123456789abcdef.jpg", None),
        ("a_jpg.rf.0123456789abcdef0123456789abcdef.jpg.png", None),
    ],
)
def test_roboflow_names(name: str, group: str | None) -> None:
    table = images_table([name, "x.jpg"], [None, None], np.zeros(2, np.int64), np.zeros(2, np.int64), {})
    assert group_by_source(table)["group"].to_pylist() == [group, None]
    given = table.set_column(table.column_names.index("group"), "group", pa.array(["mine", None], pa.string()))
    assert group_by_source(given)["group"].to_pylist() == ["mine", None]


# --------------------------------------------------------------------------------------------------------------- bad input


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
        for name, error, what in (
            ("pipe", UsageError, "neither a file nor a folder"),
            ("socket", UsageError, "neither a file nor a folder"),
            ("/dev/null", UsageError, "neither a file nor a folder"),
            ("empty", FormatError, "the folder is empty"),
            ("nothing", FormatError, "the file is empty"),
            ("circle", UsageError, "cannot be opened: Too many levels"),
            ("dangling", UsageError, "no such file or folder"),
            ("nothing/x", UsageError, "no such file or folder"),
            ("a\0b", UsageError, "cannot be opened"),
            ("x" * 300, UsageError, "cannot be opened: File name too long"),
        ):
            with pytest.raises(error, match=what) as raised:
                load(tmp_path / name)
            assert raised.value.where == str(tmp_path / name)
    assert not dataset_path("parts").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the system's administrator may read everything")
def test_files_and_folders_without_permission(data: Path) -> None:
    (data / "closed").mkdir(mode=0)
    assert ("folders", ["closed/"]) in [(loss.what, loss.places) for loss in load(data).losses.losses]
    data.chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        load(data)
    data.chmod(0o700)


def test_folders_that_cannot_be_read_are_reported(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    (data / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    losses = [(loss.what, loss.reason, loss.places) for loss in load(data).losses.losses]
    assert losses == [("folders", "cannot be read: Permission denied", ["closed/"])]


def test_pipes_and_circles_inside_a_folder(data: Path) -> None:
    os.mkfifo(data / "images" / "pipe.png")
    os.mkfifo(data / "a.json")
    (data / "circle").symlink_to(data)
    (data / "self").symlink_to(data / "self")
    result = load(data)
    assert result.counts["images added"] == 4
    (loss,) = result.losses.losses
    assert (loss.what, loss.reason, loss.places) == (
        "files",
        "a pipe, a socket or a device",
        ["a.json", "images/pipe.png"],
    )


def test_images_that_cannot_be_decoded(tmp_path: Path) -> None:
    folder = tmp_path / "pets" / "cat"
    write_images(folder, 1)
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    (folder / "text.jpg").write_text("<html>404</html>")
    (folder / "empty.png").touch()
    Image.new("1", (30_000, 30_000)).save(folder / "huge.png")
    result = load(tmp_path / "pets")
    assert result.counts == {"images added": 5, "classes added": 1, "annotations added": 5}
    unreadable, huge = result.losses.losses
    assert (unreadable.what, unreadable.count) == ("images", 3)
    assert (huge.what, huge.places) == ("images", ["cat/huge.png"])
    assert huge.reason.startswith("more pixels than the limit of 500,000,000")
    sizes = {location: row["width"] for location, row in images().items()}
    assert sizes == {
        "cat/0.png": 64,
        "cat/cut.jpg": None,
        "cat/text.jpg": None,
        "cat/empty.png": None,
        "cat/huge.png": 30_000,
    }


def test_equal_names_and_names_that_differ_in_case(tmp_path: Path) -> None:
    for number, name in enumerate(["a/x.png", "b/x.png", "a/X.png", "a/x.PNG", "a/Größe 車.png"]):
        write_frame(tmp_path / "set" / name, f"#00000{number}")
    load(tmp_path / "set")
    assert {location: row["label"] for location, row in zip(sorted(images()), rows_by_location(), strict=True)} == {
        "a/Größe 車.png": "a",
        "a/X.png": "a",
        "a/x.PNG": "a",
        "a/x.png": "a",
        "b/x.png": "b",
    }


def rows_by_location() -> list[dict[str, Any]]:
    names = {row["image_id"]: location for location, row in images().items()}
    return sorted(annotated().values(), key=lambda row: names[row["image_id"]])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not let such names be")
def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    write_images(tmp_path / "set" / "cat", 2)
    folder = os.fsencode(tmp_path / "set" / "cat")
    os.rename(folder + b"/0.png", folder + b"/\xff.png")  # noqa: PTH104 - paths as bytes
    result = load(tmp_path / "set")
    assert list(images()) == ["cat/1.png"]
    (loss,) = result.losses.losses
    assert (loss.what, loss.reason, loss.places) == ("files", "the name is not UTF-8", ["cat/\udcff.png"])


@pytest.mark.parametrize("late", [False, True])
def test_a_reader_that_fails_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
        if not late:
            raise KeyError("shapes")
        collector = Collector(options, losses)
        collector.image("a.png", None, size=(4, 4))
        return replace(collector.records(), annotations=(1 / 0 for _ in range(1)))

    monkeypatch.setattr(sys.modules[__name__], "LAYERED", Format("fragile", lambda path: None, read), raising=False)
    monkeypatch.setitem(FORMATS._builtins, "fragile", f"{__name__}:LAYERED")
    source = save(tmp_path / "x.json", {})
    with pytest.raises(FormatError, match="the reader of fragile failed, which is a fault in curate") as error:
        import_source("parts", source, format="fragile", command="import")
    assert isinstance(error.value.__cause__, KeyError | ZeroDivisionError)
    assert "report" in str(error.value.remedy)
    assert not dataset_path("parts").exists()
