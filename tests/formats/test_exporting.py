"""Exporting: folders and archives that appear whole or not at all, and layers side by side."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from import_cases import annotated, coco, images, load, save, write_images

from curate.dataset.store import remove
from curate.errors import FormatError, InputError, UsageError
from curate.formats.base import Export, Format, ReadOptions, Records, WriteOptions
from curate.formats.exporting import export_dataset
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_images(tmp_path / "data" / "images")
    save(tmp_path / "data" / "annotations" / "all.json", coco())
    load(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["out.zip", "out.tar", "out.tar.gz", "out.tgz", "out.tar.bz2", "out.tar.xz"])
@pytest.mark.parametrize("mode", ["copy", "link"])
def test_an_archive_has_what_would_be_in_the_folder(data: Path, tmp_path: Path, name: str, mode: str) -> None:
    options = WriteOptions(images=mode)  # type: ignore[arg-type]
    export_dataset("parts", tmp_path / "folder", format="coco", options=options)
    losses = export_dataset("parts", tmp_path / "made" / name, format="coco", options=options)
    assert losses.carried_counts["annotations"] == 12
    assert [path.name for path in (tmp_path / "made").iterdir()] == [name]
    expected = {
        path.relative_to(tmp_path / "folder").as_posix(): path.read_bytes()
        for path in (tmp_path / "folder").rglob("*")
        if path.is_file()
    }
    assert contents(tmp_path / "made" / name) == expected
    assert len(expected) == 5
    before, before_images = annotated(), images()
    remove("parts")
    load(tmp_path / "made" / name)
    assert sorted(row["bbox"] for row in annotated().values()) == sorted(row["bbox"] for row in before.values())
    assert [Path(row["path"]).read_bytes() for row in images().values()] == [
        Path(row["path"]).read_bytes() for row in before_images.values()
    ]


def contents(archive: Path) -> dict[str, bytes]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            return {name: opened.read(name) for name in opened.namelist()}
    found = {}
    with tarfile.open(archive) as opened_tar:
        for info in opened_tar:
            assert info.isreg()
            assert (info.uid, info.uname) == (0, "")
            file = opened_tar.extractfile(info)
            assert file is not None
            found[info.name] = file.read()
    return found


def test_an_archive_that_is_there_already_stays(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out.zip").write_bytes(b"mine")
    with pytest.raises(UsageError, match="there already"):
        export_dataset("parts", tmp_path / "out.zip", format="coco")
    assert (tmp_path / "out.zip").read_bytes() == b"mine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_export_that_fails_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(folder: Path, target: Path, kind: str) -> None:
        target.write_bytes(b"half")
        raise error

    monkeypatch.setattr("curate.formats.exporting.pack", fail)
    (tmp_path / "made").mkdir()
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
        export_dataset("parts", tmp_path / "made" / "out.zip", format="coco")
    assert list((tmp_path / "made").iterdir()) == []
    if isinstance(error, OSError):
        assert "No space left" in str(raised.value)


def test_strict_writes_nothing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        export_dataset("parts", tmp_path / "out.zip", format="csv", strict=True)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[Export]]:
    """Adds a format 'holder' that writes nothing and remembers what it was given."""

    def add(holds_layers: bool) -> list[Export]:
        seen: list[Export] = []

        def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
            raise FormatError("not read")

        def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
            seen.append(export)

        holder = Format("holder", lambda path: None, read, write, holds_layers)
        monkeypatch.setattr(sys.modules[__name__], "HOLDER", holder, raising=False)
        monkeypatch.setitem(FORMATS._builtins, "holder", f"{__name__}:HOLDER")
        return seen

    return add


def test_all_layers(data: Path, tmp_path: Path, register: Callable[[bool], list[Export]]) -> None:
    load(data, "predictions/net")
    seen = register(True)
    export_dataset("parts", tmp_path / "all", format="holder", layer="all")
    export_dataset("parts", tmp_path / "one", format="holder", layer="predictions/net")
    layers = [export.annotations["layer"].to_pylist() for export in seen]
    assert [sorted(set(each)) for each in layers] == [["ground_truth", "predictions/net"], ["predictions/net"]]
    assert [len(each) for each in layers] == [24, 12]


def test_all_layers_where_they_would_be_one(
    data: Path, tmp_path: Path, register: Callable[[bool], list[Export]]
) -> None:
    register(True)
    with pytest.raises(UsageError, match="voc cannot hold several layers") as error:
        export_dataset("parts", tmp_path / "out", format="voc", layer="all")
    assert "holder" in str(error.value.remedy)
    assert not (tmp_path / "out").exists()


def test_a_layer_that_is_not_there(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no layer 'predictions/none'") as error:
        export_dataset("parts", tmp_path / "out", format="coco", layer="predictions/none")
    assert "ground_truth" in str(error.value.remedy)
