"""curate's own database: started, shared and stopped; and what is said where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curate.connectors.fiftyone import database as module
from curate.connectors.fiftyone.app import opened_once
from curate.connectors.fiftyone.database import URI_VARIABLE, database, find_program, is_listening, programs
from curate.connectors.fiftyone.environment import connected
from curate.errors import MissingExtra, UnavailableError
from tests.commands.typed import curate
from tests.connectors.fiftyone_app.app_sets import NAME, make

pytestmark = pytest.mark.filterwarnings("ignore")  # FiftyOne's, and of the packages that it imports

HOLD = """
import sys
from curate.connectors.fiftyone.database import database
with database() as uri:
    print(uri, flush=True)
    sys.stdin.read()
"""

INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs lack
import curate.connectors.fiftyone.publish as publish
insert_all = publish.insert_all
def interrupted(*arguments, **options):
    for count in insert_all(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        yield count
publish.insert_all = interrupted
from curate.cli import main
main()
"""


def test_it_is_started_on_this_machine_alone_and_stopped(own_database: Path) -> None:
    with database() as uri:
        port = int(uri.rpartition(":")[2])
        assert uri == f"mongodb://127.0.0.1:{port}"
        assert is_listening(port)
    assert not is_listening(port)
    assert not list((own_database / "users").iterdir())
    assert (own_database / "database" / "mongod.lock").stat().st_size == 0


@pytest.mark.slow
def test_it_is_shared_and_stopped_by_the_last(own_database: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        uri = first.stdout.readline().strip()
        with database() as same:
            assert same == uri
            first.stdin.close()
            first.wait(60)
            assert is_listening(int(uri.rpartition(":")[2]))
    assert not is_listening(int(uri.rpartition(":")[2]))


@pytest.mark.slow
def test_a_killed_user_keeps_nothing_running_beyond_the_next(own_database: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        uri = killed.stdout.readline().strip()
        os.kill(killed.pid, signal.SIGKILL)
    with database() as same:
        assert same == uri
    assert not is_listening(int(uri.rpartition(":")[2]))


def test_the_users_own_folders_are_left_alone(
    own_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    code = (
        "from curate.connectors.fiftyone.environment import connected\n"
        "with connected() as fiftyone:\n"
        "    fiftyone.Dataset('x', persistent=True)\n"
        "    print(fiftyone.config.do_not_track, fiftyone.config.database_uri)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("True mongodb://127.0.0.1:")
    assert list(home.iterdir()) == []


def test_the_environment_is_put_back(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URI_VARIABLE, uri)
    before = _settings()
    with connected():
        assert os.environ["FIFTYONE_DO_NOT_TRACK"] == "true"
    assert _settings() == before


def _settings() -> dict[str, str]:
    """FiftyOne's part of the environment; other packages that it imports set things of their own."""
    return {name: value for name, value in os.environ.items() if name.startswith(("FIFTYONE", "MPL"))}


def test_without_fiftyone_the_report_is_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make(tmp_path)
    monkeypatch.setattr("curate.connectors.fiftyone.environment.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="curate report"), connected():
        pass
    said = curate("app", "-d", NAME, status=3).stderr
    assert "pip install 'curate-vision[app]'" in said
    assert "curate report" in said


def test_without_a_database_the_report_is_offered(own_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UnavailableError, match=r"FIFTYONE_DATABASE_URI.*curate report"), database():
        pass


BUNDLED = "echo 'mongod: libcrypto.so.1.1: cannot open shared object file' >&2; exit 127"


def program(folder: Path, script: str) -> Path:
    """A program in the database's place."""
    path = folder / "mongod"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_first_program_that_runs_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came with FiftyOne may not run here, and then another MongoDB must be of use."""
    bundled = program(tmp_path / "bundled", BUNDLED)
    monkeypatch.setattr(module, "_bundled", lambda: [bundled])
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "path"), os.environ["PATH"]]))
    other = program(tmp_path / "path", "exit 3")
    with pytest.raises(UnavailableError) as raised:
        find_program()
    assert f"{bundled}: mongod: libcrypto.so.1.1" in str(raised.value)
    assert f"{other}: it ends with status 3" in str(raised.value)
    assert "OpenSSL 1.1" in str(raised.value)
    program(tmp_path / "path", "echo db version v7.0.0")
    assert find_program() == other
    program(tmp_path / "bundled", "exit 0")
    assert find_program() == bundled
    assert programs() == [bundled, other]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (BUNDLED, "OpenSSL 1.1"),
        ("""echo '{"s":"E","msg":"no space","attr":{"error":"disk full"}}'; exit 1""", "no space: disk full"),
        ("exit 1", "it gave no reason"),
    ],
)
def test_a_database_that_does_not_start(
    own_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    found = program(tmp_path, script)
    monkeypatch.setattr(module, "find_program", lambda: found)
    with pytest.raises(UnavailableError) as raised, database():
        pass
    assert said in str(raised.value)
    assert "curate report" in str(raised.value)
    assert not list((own_database / "users").iterdir())


def test_a_server_that_does_not_answer(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URI_VARIABLE, "mongodb://me:secret@127.0.0.1:9")
    monkeypatch.setattr("curate.connectors.fiftyone.environment._ANSWER_MS", 300)
    with pytest.raises(UnavailableError) as raised, connected():
        pass
    assert raised.value.what.startswith("FiftyOne's database cannot be used: it does not answer (127.0.0.1:9: ")
    assert "refused)" in raised.value.what
    assert f"{URI_VARIABLE} (127.0.0.1:9)" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "Topology" not in str(raised.value)


def test_a_database_that_goes_away(own_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as the other faults are; the next command starts another."""
    monkeypatch.setattr("curate.connectors.fiftyone.environment._AWAY_MS", 500)
    with pytest.raises(UnavailableError, match="does not answer any more"):
        _use_what_goes_away(own_database)
    with connected() as fiftyone:
        assert fiftyone.list_datasets() == []


def _use_what_goes_away(folder: Path) -> None:
    with connected() as fiftyone:
        pid = json.loads((folder / "server.json").read_bytes())["pid"]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        fiftyone.list_datasets()


def test_a_dataset_is_opened_once(own_database: Path, tmp_path: Path) -> None:
    make(tmp_path)
    with opened_once(NAME):
        assert "exclude each other" in curate("app", "-d", NAME, "--pull", "--anew", status=2).stderr
        assert "is in the App already" in curate("app", "-d", NAME, "--pull", status=2).stderr


@pytest.mark.slow
def test_ctrl_c_while_the_app_is_made(own_database: Path, tmp_path: Path) -> None:
    """It ends at once, its database too, and the next opening starts anew."""
    make(tmp_path)
    command = [sys.executable, "-c", INTERRUPTED, "app", "-d", NAME, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as app:
        out, err = app.communicate(timeout=120)
    assert (app.returncode, out) == (130, ""), err
    assert not list((own_database / "users").iterdir())
    assert "has not been in the App" in curate("app", "-d", NAME, "--pull", status=2).stderr


@pytest.mark.slow
def test_the_command_from_start_to_end(own_database: Path, tmp_path: Path) -> None:
    """As a user runs it: it says where the App is, ends at Ctrl-C, and leaves nothing running."""
    make(tmp_path)
    command = [sys.executable, "-c", "from curate.cli import main; main()", "app", "-d", NAME, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        said = json.loads(app.stdout.readline())
        assert said["samples"]["added"] == 4
        port = int(said["url"].split(":")[2].partition("/")[0])
        assert is_listening(port)
        app.send_signal(signal.SIGINT)
        out, err = app.communicate(timeout=120)
        assert app.returncode == 0, err
        assert out == ""
        assert "Exception" not in err
    until = time.monotonic() + 10
    while is_listening(port) and time.monotonic() < until:
        time.sleep(0.1)
    assert not is_listening(port)
    assert not list((own_database / "users").iterdir())
    assert "nothing new on either side" in curate("app", "-d", NAME, "--pull").stderr
