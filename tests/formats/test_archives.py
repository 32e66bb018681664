"""Archives: the same as the folder that was packed, nothing outside, nothing too large, whole or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import CurateError, FormatError, InputError
from curate.formats.archives import Limits, archive_kind, kind_of_name, pack, unpack
from curate.formats.archives.folder import safe_place
from curate.formats.archives.kinds import Kind
from curate.formats.losses import LossReport

KINDS: list[Kind] = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path; links would be followed."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def write_all(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def zip_bytes(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def make_tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpacked(
    archive: Path, tmp_path: Path, limits: Limits | None = None, *, strict: bool = False
) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """What an archive unpacks to, and the places and reasons of what is left out; nothing else may have been written."""
    before = {path for path in tmp_path.rglob("*") if "target" not in path.parts}
    losses = LossReport(strict=strict)
    target = tmp_path / "target" / "set"
    try:
        root = unpack(archive, target, losses, limits=limits)
    finally:
        assert {path for path in tmp_path.rglob("*") if "target" not in path.parts} == before
        left = [path.name for path in target.parent.iterdir()] if target.parent.exists() else []
        assert set(left) <= {"set", "set.unpacked.json"}
    assert not any(path.is_symlink() for path in target.rglob("*"))
    found = {root.name: root.read_bytes()} if root.is_file() else files_in(root)
    return found, [(place, loss.reason) for loss in losses.losses for place in loss.places]


# ------------------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("kind", KINDS)
def test_packed_and_unpacked_is_the_same(tmp_path: Path, kind: Kind) -> None:
    files = {"a/b/Größe 1.jpg": os.urandom(3_000_000), "a/empty.txt": b"", "top.json": b"{}", "車.png": b"x" * 5000}
    folder = write_all(tmp_path / "in", files)
    (folder / "linked.jpg").hardlink_to(folder / "車.png")
    archive = tmp_path / f"set.{kind}"
    assert kind_of_name(archive.name) == kind
    pack(folder, archive, kind)
    archive = archive.rename(tmp_path / "no_ending")
    assert archive_kind(archive) == kind
    assert unpacked(archive, tmp_path) == (files | {"linked.jpg": b"x" * 5000}, [])


def test_the_only_folder_is_the_root(tmp_path: Path) -> None:
    junk = [("__MACOSX/data/._a.jpg", b"?"), ("data/.DS_Store", b"?"), ("data/._b.jpg", b"?")]
    archive = make_zip(tmp_path / "x.zip", ("data/images/a.jpg", b"1"), ("data/images/b.jpg", b"2"), *junk)
    assert unpacked(archive, tmp_path) == ({"images/a.jpg": b"1", "images/b.jpg": b"2"}, [])


def test_two_folders_are_not(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("train/a.jpg", b"1"), ("val/a.jpg", b"2"))
    assert set(unpacked(archive, tmp_path)[0]) == {"train/a.jpg", "val/a.jpg"}


@pytest.mark.parametrize(("name", "found"), [("result.json", "result.json"), ("a.jpg", "a.jpg")])
def test_the_only_file_is_what_is_read_unless_it_is_an_image(tmp_path: Path, name: str, found: str) -> None:
    root = unpack(make_zip(tmp_path / "x.zip", (name, b"1")), tmp_path / "out" / "x", LossReport())
    assert root == tmp_path / "out" / "x" / ("" if name == "a.jpg" else name)


def test_unpacked_before_says_the_losses_again(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", ("top/a.jpg", b"1"), ("../b.jpg", b"2"), ("../c.jpg", b"2"))
    first = unpacked(archive, tmp_path)
    inode = (tmp_path / "target/set/top/a.jpg").stat().st_ino
    assert unpacked(archive, tmp_path) == first
    assert (tmp_path / "target/set/top/a.jpg").stat().st_ino == inode
    assert [place for place, _ in first[1]] == ["x.tar: ../b.jpg", "x.tar: ../c.jpg"]
    with pytest.raises(FormatError, match="leads outside"):
        unpacked(archive, tmp_path, strict=True)


# ------------------------------------------------------------------------------------------------------ nothing outside


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/tmp/x", "//server/x", "C:/x", "c:x", "..\\x", "a\\..\\..\\x", "\\x", "C:\\x", "..", "/"],
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_lead_outside(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    archive = make(tmp_path / "evil", (name, b"evil"), ("sub/good.jpg", b"good"))
    files, losses = unpacked(archive, tmp_path)
    assert files == {"good.jpg": b"good"}
    assert [place for place, _ in losses] == [f"evil: {name}"] * (name != "/" or make is make_tar)


def test_links_and_devices_in_a_tar(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    archive = make_tar(
        tmp_path / "x.tar",
        (special("out", tarfile.SYMTYPE, str(tmp_path)), b""),
        ("out/written.txt", b"through the link"),
        (special("hard", tarfile.LNKTYPE, "../secret"), b""),
        (special("pipe", tarfile.FIFOTYPE), b""),
        (special("device", tarfile.CHRTYPE), b""),
        ("good.jpg", b"good"),
    )
    files, losses = unpacked(archive, tmp_path)
    assert files == {"out/written.txt": b"through the link", "good.jpg": b"good"}
    link, neither = "in the archive: a link, which is not followed", "in the archive: neither a file nor a folder"
    assert losses == [
        ("x.tar: out", link),
        ("x.tar: hard", link),
        ("x.tar: pipe", neither),
        ("x.tar: device", neither),
    ]


def test_links_and_devices_in_a_zip(tmp_path: Path) -> None:
    members = []
    for name, mode in (("link", stat.S_IFLNK), ("pipe", stat.S_IFIFO), ("good.jpg", stat.S_IFREG)):
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        members.append((info, b"/etc/passwd"))
    files, losses = unpacked(make_zip(tmp_path / "x.zip", *members), tmp_path)
    assert files == {"good.jpg": b"/etc/passwd"}
    assert [place for place, _ in losses] == ["x.zip: link", "x.zip: pipe"]


@settings(deadline=None, max_examples=300)
@given(st.text("ab./\\: C\0é\n", max_size=12) | st.text(max_size=8), st.booleans())
def test_a_safe_place_is_inside(name: str, windows: bool) -> None:
    try:
        place = safe_place(name, windows=windows)
    except ValueError:
        return
    root = Path("/root/folder")
    assert place
    assert os.path.normpath(root / place).startswith(f"{root}/")
    assert "\\" not in place


@pytest.mark.parametrize(
    "name", ["con", "a/AUX.jpg", "nul .txt", "COM1", "lpt¹.png", "ab:c", "what?.jpg", "end.", "end "]
)
def test_names_that_windows_has_not(name: str) -> None:
    with pytest.raises(ValueError, match=r"Windows"):
        safe_place(name, windows=True)
    assert safe_place(name, windows=False) == name


@pytest.mark.parametrize("name", ["console.jpg", "nulls/a.png", "com10", "a.b.c", "aux1"])
def test_names_that_windows_has(name: str) -> None:
    assert safe_place(name, windows=True) == name


# ----------------------------------------------------------------------------------------------------------------- names


def test_backslashes_of_old_tools_are_slashes(tmp_path: Path) -> None:
    files, losses = unpacked(make_zip(tmp_path / "x.zip", ("images\\a.jpg", b"1"), ("b.jpg", b"2")), tmp_path)
    assert files == {"images/a.jpg": b"1", "b.jpg": b"2"}
    assert losses == [("x.zip: images\\a.jpg", "in the archive: backslashes in the name are taken for slashes")]


def unflagged(data: bytes) -> bytes:
    """A zip whose names are not flagged as UTF-8."""
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(magic) + place
        flags = struct.unpack_from("<H", data, at)[0] & ~0x800
        data = data[:at] + struct.pack("<H", flags) + data[at + 2 :]
    return data


def test_zip_names_without_the_utf8_flag(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(unflagged(zip_bytes(("Größe/車.jpg", b"1"))))
    root = unpack(tmp_path / "x.zip", tmp_path / "out" / "x", LossReport())
    assert (root.name, files_in(root)) == ("Größe", {"車.jpg": b"1"})


def test_names_in_other_encodings_are_said(tmp_path: Path) -> None:
    data = unflagged(zip_bytes(("xé", b"1"))).replace("xé".encode(), b"x\x82.")  # as long as before
    (tmp_path / "x.zip").write_bytes(data)
    files, losses = unpacked(tmp_path / "x.zip", tmp_path)
    assert files == {"xé.": b"1"}
    assert losses == [("x.zip: xé.", "in the archive: the name is not in UTF-8; it is read as code page 437")]


def test_tar_names_in_latin_1(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(tarfile.TarInfo("Größe.txt"))
    files, losses = unpacked(tmp_path / "x.tar", tmp_path)
    assert list(files) == ["Größe.txt"]
    assert [reason for _, reason in losses] == ["in the archive: the name is not in UTF-8; it is read as Latin-1"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_of_equal_names_is_kept(tmp_path: Path, make: Callable[..., Path]) -> None:
    archive = make(tmp_path / "x", ("a.txt", b"first"), ("b.txt", b"other"), ("a.txt", b"second"))
    files, losses = unpacked(archive, tmp_path)
    assert files == {"a.txt": b"second", "b.txt": b"other"}
    assert losses == [("x: a.txt", "in the archive: the same name comes again; the last is kept")]


def test_case_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a.jpg", b"1"), ("A.jpg", b"2"))
    assert unpacked(archive, tmp_path) == ({"a.jpg": b"1", "A.jpg": b"2"}, [])
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: exists(path) or exists(path.with_name(path.name.lower())))
    losses = LossReport()
    assert files_in(unpack(archive, tmp_path / "elsewhere" / "x", losses)) == {"a.jpg": b"1"}
    assert [(loss.places, "upper and lower case" in loss.reason) for loss in losses.losses] == [
        (["x.zip: A.jpg"], True)
    ]


def test_a_name_for_a_file_and_a_folder(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a", b"1"), ("a/b", b"2"), ("a/b/c", b"3"), ("d/e", b"4"), ("d", b"5"))
    files, losses = unpacked(archive, tmp_path)
    assert files == {"a": b"1", "d/e": b"4"}
    assert [place for place, _ in losses] == ["x.zip: a/b", "x.zip: a/b/c", "x.zip: d"]


def test_names_too_long_for_the_disk(tmp_path: Path) -> None:
    files, losses = unpacked(
        make_zip(tmp_path / "x.zip", ("n" * 300, b"1"), ("ok", b"2"), ("d/" * 3000 + "x", b"")), tmp_path
    )
    assert files == {"ok": b"2"}
    assert len(losses) == 2
    assert all("not possible here (File name too long)" in reason for _, reason in losses)


# ----------------------------------------------------------------------------------------------------- archives in archives


def nested(levels: int) -> bytes:
    data = zip_bytes(("deepest.txt", b"found"))
    for level in range(levels - 1, 0, -1):
        data = zip_bytes((f"level{level}.zip", data), (f"note{level}.txt", b""))
    return data


def test_archives_in_archives_are_opened_to_a_depth_of_three(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(nested(3))
    files, losses = unpacked(tmp_path / "x.zip", tmp_path)
    assert (set(files), losses) == ({"note1.txt", "level1/note2.txt", "level1/level2/deepest.txt"}, [])


def test_ten_levels(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(nested(10))
    files, losses = unpacked(tmp_path / "x.zip", tmp_path)
    assert set(files) == {"note1.txt", "level1/note2.txt", "level1/level2/note3.txt", "level1/level2/level3.zip"}
    assert losses == [("x.zip/level1.zip/level2.zip/level3.zip", "in 3 others already; not opened")]


def test_an_archive_alone_in_an_archive_is_as_good_as_itself(tmp_path: Path) -> None:
    inner = zip_bytes(("data/images/a.jpg", b"1"), ("data/labels/a.txt", b"2"))
    assert unpacked(make_zip(tmp_path / "x.zip", ("inner.zip", inner)), tmp_path) == (
        {"images/a.jpg": b"1", "labels/a.txt": b"2"},
        [],
    )


def test_a_folder_of_the_archives_own_name_is_not_doubled(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "images.tar.gz", ("images/a.jpg", b"1"), mode="w:gz").read_bytes()
    archive = make_zip(tmp_path / "x.zip", ("images.tar.gz", tar), ("labels/a.txt", b"2"))
    assert unpacked(archive, tmp_path) == ({"images/a.jpg": b"1", "labels/a.txt": b"2"}, [])


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("images.zip", zip_bytes(("a.jpg", b"1"))), ("images/a.jpg", b"2"))
    assert unpacked(archive, tmp_path) == ({"images.zip/a.jpg": b"1", "images/a.jpg": b"2"}, [])


def test_an_inner_archive_that_is_damaged_stays_a_file(tmp_path: Path) -> None:
    broken = zip_bytes(("a.jpg", b"1"))[:-30]
    files, losses = unpacked(make_zip(tmp_path / "x.zip", ("images.zip", broken), ("b.jpg", b"2")), tmp_path)
    assert files == {"images.zip": broken, "b.jpg": b"2"}
    assert losses[0][0] == "x.zip/images.zip"
    assert "not opened: the archive is cut off or damaged" in losses[0][1]


def test_what_only_looks_like_an_archive_is_left_alone(tmp_path: Path) -> None:
    data = zip_bytes(("a.npy", b"1"))
    volume = gzip.compress(b"not a tar" * 100)
    archive = make_zip(tmp_path / "x.zip", ("weights.npz", data), ("brain.nii.gz", volume), ("text.zip", b"text"))
    assert unpacked(archive, tmp_path) == ({"weights.npz": data, "brain.nii.gz": volume, "text.zip": b"text"}, [])


# ---------------------------------------------------------------------------------------------------------------- too much

MB = 1_000_000
SMALL = Limits(total=20 * MB, ratio_from=2 * MB, members=50)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_by_its_ratio(tmp_path: Path, kind: Kind) -> None:
    folder = write_all(tmp_path / "in", {"a.bin": bytes(10 * MB), "b.txt": b""})
    pack(folder, tmp_path / f"x.{kind}", kind)
    with pytest.raises(FormatError, match="more than 200 times its size") as error:
        unpacked(tmp_path / f"x.{kind}", tmp_path, SMALL)
    assert "unpack it yourself" in str(error.value.remedy)
    assert unpacked(tmp_path / f"x.{kind}", tmp_path)[0] == {
        "a.bin": bytes(10 * MB),
        "b.txt": b"",
    }  # too small to matter


def test_a_bomb_meets_the_usual_limits(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(150):
            file.write(bytes(MB))
    with pytest.raises(FormatError, match="more than 200 times"):
        unpacked(tmp_path / "x.zip", tmp_path)


def test_sizes_in_headers_are_not_trusted(tmp_path: Path) -> None:
    data = zip_bytes(("a.bin", bytes(10 * MB)))
    lying = data.replace(struct.pack("<L", 10 * MB), struct.pack("<L", 10))
    (tmp_path / "x.zip").write_bytes(lying)
    losses: list[tuple[str, str]] = []
    with pytest.raises(FormatError) as error:
        losses = unpacked(tmp_path / "x.zip", tmp_path, SMALL)[1]
    assert losses == []
    assert "no files in the archive" in str(error.value)


def test_total(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "in", {f"{n}.bin": os.urandom(3 * MB) for n in range(8)})
    for kind in ("zip", "tar"):
        pack(folder, tmp_path / f"x.{kind}", kind)
        with pytest.raises(FormatError, match=r"unpacks to more than 0\.02 GB"):
            unpacked(tmp_path / f"x.{kind}", tmp_path, SMALL)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members(tmp_path: Path, make: Callable[..., Path]) -> None:
    archive = make(tmp_path / "x", *((f"{n}/", b"") for n in range(51)))
    with pytest.raises(FormatError, match="more than 50 members"):
        unpacked(archive, tmp_path, SMALL)


def test_a_list_of_contents_that_is_too_long(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", *((f"{n:0200}", b"") for n in range(50)))
    with pytest.raises(FormatError, match="its list of contents has"):
        unpacked(archive, tmp_path, SMALL)


def test_limits_are_shared_with_inner_archives(tmp_path: Path) -> None:
    bomb = zip_bytes(("zeros", bytes(10 * MB)))
    outer = make_zip(tmp_path / "x.zip", ("photo.jpg", os.urandom(MB)), ("inner.zip", bomb))
    with pytest.raises(FormatError, match="more than 200 times") as error:
        unpacked(outer, tmp_path, SMALL)
    assert error.value.where == str(outer)
    inner = zip_bytes(*((f"{n}", b"") for n in range(30)))
    with pytest.raises(FormatError, match="more than 50 members"):
        unpacked(make_zip(tmp_path / "y.zip", ("a.zip", inner), ("b.zip", inner)), tmp_path, SMALL)


def test_the_disk_has_less_room(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("a.bin", os.urandom(1000)))
    with pytest.raises(InputError, match="does not fit on the disk") as error:
        unpacked(archive, tmp_path, Limits(reserve=10**18))
    assert "CURATE_HOME" in str(error.value.remedy)


def test_a_full_disk(tmp_path: Path) -> None:
    """A real limit on file sizes: writing fails as on a full disk, and nothing is left."""
    archive = make_zip(tmp_path / "x.zip", ("small.txt", b"1"), ("a.bin", os.urandom(100_000)))
    code = (
        "import resource, sys; from pathlib import Path; from curate.errors import InputError\n"
        "from curate.formats.archives import unpack; from curate.formats.losses import LossReport\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: unpack(Path(sys.argv[1]), Path(sys.argv[2]), LossReport())\n"
        "except InputError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(archive), str(tmp_path / "out" / "x")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "the archive cannot be unpacked: File too large" in printed
    assert list((tmp_path / "out").iterdir()) == []


# ----------------------------------------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_cut_off(tmp_path: Path, kind: Kind, part: float) -> None:
    folder = write_all(tmp_path / "in", {f"{n}.bin": os.urandom(200_000) for n in range(5)})
    archive = tmp_path / f"x.{kind}"
    pack(folder, archive, kind)
    archive.write_bytes(archive.read_bytes()[: int(part * archive.stat().st_size)])
    with pytest.raises(FormatError, match="cut off or damaged") as error:
        unpacked(archive, tmp_path)
    assert error.value.where == str(archive)


def test_cut_off_between_two_members_of_a_tar(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", ("a.txt", b"1" * 512), ("b.txt", b"2" * 512))
    archive.write_bytes(archive.read_bytes()[:1024])
    files, losses = unpacked(archive, tmp_path)
    assert files == {"a.txt": b"1" * 512}
    assert losses == [("x.tar", "no end mark: whatever followed in it is lost")]


def test_a_damaged_header_in_a_tar(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", ("a.txt", b"1" * 512), ("b.txt", b"2" * 512))
    data = bytearray(archive.read_bytes())
    data[1024] ^= 1
    archive.write_bytes(data)
    files, losses = unpacked(archive, tmp_path)
    assert files == {"a.txt": b"1" * 512}
    assert losses == [("x.tar", "a damaged header: whatever followed in it is lost")]


def test_a_damaged_member_of_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as made:
        made.writestr("bad.txt", b"damage me")
        made.writestr("good.txt", b"good")
    archive.write_bytes(archive.read_bytes().replace(b"damage me", b"damaged!!"))
    files, losses = unpacked(archive, tmp_path)
    assert files == {"good.txt": b"good"}
    assert losses[0][0].startswith("x.zip: bad.txt: Bad CRC-32")


def test_encrypted(tmp_path: Path) -> None:
    data = bytearray(zip_bytes(("a.jpg", b"1")))
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(FormatError, match="the archive is encrypted") as error:
        unpacked(tmp_path / "x.zip", tmp_path)
    assert "password" in str(error.value.remedy)


def test_packed_in_a_way_that_is_not_known(tmp_path: Path) -> None:
    data = bytearray(zip_bytes(("a.jpg", b"1" * 100), ("b.jpg", b"2")))
    for magic, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(magic) + place] = 9  # deflate64, which Windows uses for large files
    (tmp_path / "x.zip").write_bytes(data)
    files, losses = unpacked(tmp_path / "x.zip", tmp_path)
    assert files == {"b.jpg": b"2"}
    assert losses == [("x.zip: a.jpg", "in the archive: packed by deflate64, which is not opened here")]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_nothing_that_can_be_taken(tmp_path: Path, make: Callable[..., Path]) -> None:
    with pytest.raises(FormatError, match=r"there are no files in the archive; in the archive: its name leads outside"):
        unpacked(make(tmp_path / "x", ("../a", b"1")), tmp_path)


def test_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"there are no files in the archive \("):
        unpacked(make_zip(tmp_path / "x"), tmp_path)


@pytest.mark.parametrize(
    ("head", "what"),
    [(b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"Rar!\x1a\x07\x01\x00", "RAR"), (b"\x28\xb5\x2f\xfd", "Zstandard")],
)
def test_archives_that_are_not_opened(tmp_path: Path, head: bytes, what: str) -> None:
    (tmp_path / "x").write_bytes(head + bytes(100))
    with pytest.raises(FormatError, match=what):
        archive_kind(tmp_path / "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P",
        b"{}",
        bytes(2048),
        b"a" * 2048,
        gzip.compress(b"{}", mtime=0),
        bz2.compress(b""),
        lzma.compress(b"x" * 600),
    ],
)
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert archive_kind(tmp_path / "x") is None


@settings(deadline=None, max_examples=120)
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    st.floats(0.5, 1),
)
def test_damaged_bytes_make_clear_errors(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, changes: list[tuple[float, int]], kept: float
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    source = write_all(folder / "in", {"d/a.txt": b"a" * 700, "b.zip": zip_bytes(("c", b"c"))})
    pack(source, folder / "x", kind)
    content = bytearray((folder / "x").read_bytes())
    for place, value in changes:
        content[int(place * len(content))] = value
    (folder / "x").write_bytes(content[: int(kept * len(content))])
    before = set(folder.rglob("*"))
    try:
        if archive_kind(folder / "x") is not None:
            unpack(folder / "x", folder / "out" / "x", LossReport(), limits=SMALL)
    except CurateError:
        assert not (folder / "out").exists() or not any((folder / "out").iterdir())
    assert {path for path in folder.rglob("*") if "out" not in path.relative_to(folder).parts[:1]} == before


def test_killed_in_the_middle(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", *((f"{n}.bin", os.urandom(1000)) for n in range(50)))
    code = (
        "import os, sys; from pathlib import Path; from curate.formats.archives import unpack\n"
        "from curate.formats.losses import LossReport; seen = []\n"
        "def report(done, total):\n    seen.append(done)\n    if len(seen) == 20: os.kill(os.getpid(), 9)\n"
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]), LossReport(), report=report)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(archive), str(tmp_path / "target" / "set")])
    assert result.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["set.partial"]
    assert len(unpacked(archive, tmp_path)[0]) == 50


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    folder = write_all(tmp_path / "in", {f"{n}.bin": os.urandom(2000) for n in range(9)})
    for kind in KINDS:
        archive = tmp_path / f"x.{kind}"
        pack(folder, archive, kind)
        seen: list[tuple[int, int]] = []
        unpack(archive, tmp_path / "out" / kind, LossReport(), report=lambda *numbers, to=seen: to.append(numbers))
        assert len(seen) == 9
        assert {total for _, total in seen} == {archive.stat().st_size}
        assert seen == sorted(seen)
        assert seen[-1][0] > 0.5 * seen[-1][1]
