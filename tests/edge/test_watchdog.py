"""Hangs are noticed, waits are not; systemd is told; lines are whole."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from curate.edge.runtime.clocks import NOTIFY_VARIABLE, StageClock, Watchdog
from curate.edge.runtime.lines import LineFile
from curate.errors import UsageError


def test_a_stage_that_hangs_is_told_of_once() -> None:
    clock, told, heard = StageClock("infer"), [], threading.Event()

    def act(stage: str, seconds: float) -> None:
        told.append(stage)
        heard.set()

    with Watchdog([StageClock("read"), clock], 0.2, act), clock.working():
        assert heard.wait(5)
        time.sleep(0.2)

    assert told == ["infer"]


def test_who_waits_or_gives_signs_of_life_does_not_hang() -> None:
    clock, told = StageClock("read"), list[str]()

    with Watchdog([clock, StageClock("infer")], 0.4, lambda stage, _: told.append(stage)), clock.working():
        for _ in range(10):
            time.sleep(0.1)
            clock.beat()

    assert told == []


def test_clocks_count_work() -> None:
    clock = StageClock("infer")
    with clock.working(4):
        time.sleep(0.02)
    assert clock.frames == 4
    assert clock.seconds >= 0.02
    assert clock.silent == 0


def test_systemd_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        monkeypatch.setenv(NOTIFY_VARIABLE, str(path))
        with Watchdog([StageClock("read")], 0.1, lambda *_: None):
            time.sleep(0.2)
        heard: list[bytes] = []
        listener.setblocking(False)
        while len(heard) < 100:
            try:
                heard.append(listener.recv(100))
            except BlockingIOError:
                break

    assert heard[0] == b"READY=1"
    assert heard[-1] == b"STOPPING=1"
    assert b"WATCHDOG=1" in heard


def test_lines_are_added_and_the_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"old": 1}\n{"half": ')
    file = LineFile(path, limit=200)
    for number in range(40):
        file.write({"number": number, "name": "Öse"})
    file.close()

    old, new = path.with_name("out.jsonl.1"), path
    assert old.stat().st_size <= 200
    assert new.stat().st_size <= 200
    told = [json.loads(line)["number"] for each in (old, new) for line in each.read_text().splitlines()]
    assert told == list(range(told[0], 40))


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"half": ')
    file = LineFile(path)
    file.write({"whole": 1})
    file.close()

    assert path.read_text() == '{"whole": 1}\n'


@pytest.mark.parametrize(
    ("before", "left"),
    [
        (b'{"a": 1}\n{"half": "' + b"x" * 200_000, b'{"a": 1}\n'),
        (b'{"a": 1}\n\0\0\0', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}\n'),
        (b"somebody's notes", b"somebody's notes\n"),
        (b'{"\xff', b""),
    ],
)
def test_only_half_lines_are_cut_off(tmp_path: Path, before: bytes, left: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(before)

    LineFile(path).close()

    assert path.read_bytes() == left


def test_a_full_disk_leaves_whole_lines_and_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    program = f"""
import resource
from pathlib import Path
from curate.edge.runtime.lines import LineFile
from curate.errors import InputError
file = LineFile(Path({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    while True:
        file.write({{"number": 123456789}})
except InputError as error:
    print(error)
file.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == f"{path}: the disk is full (make room, or name a file elsewhere)\n"
    text = path.read_text()
    assert 900 < len(text) < 1000
    assert {json.loads(line)["number"] for line in text.splitlines()} == {123456789}
    assert text.endswith("\n")


def test_lines_go_to_files_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder"):
        LineFile(tmp_path)
    with pytest.raises(UsageError, match="no bytes"):
        LineFile(tmp_path / "a", limit=0)
