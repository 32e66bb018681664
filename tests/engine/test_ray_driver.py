"""The process that drives a cluster of this machine: what it leaves when it is killed or interrupted, and whom it tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from curate.dataset import open_dataset
from curate.dataset.home import home
from curate.formats.importing import import_source
from tests.engine.test_workers import alive, until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]

COUNT = 1500

# The command, with parts of 64 rows in the spool; it tells how many rows are computed.
COMMAND = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background has its children ignore it
import curate.models.passes as passes
import curate.models.spaces as spaces
import curate.models.spool as spool
import curate.cli
spool._PART_ROWS = 64
def told(items, todo, *given, run=passes.run, **named):
    print("computed", len(todo), file=sys.stderr, flush=True)
    return run(items, todo, *given, **named)
spaces.run = told
sys.argv[0] = "curate"
curate.cli.main()
"""
EMBED = ["embed", "-d", "photographs", "--engine", "ray:local?workers=2&store=80", "--json"]


@pytest.fixture
def photographs(tmp_path: Path) -> None:
    """A dataset of that name."""
    folder, dice = tmp_path / "photographs", np.random.default_rng(0)
    folder.mkdir()
    for number in range(COUNT):
        small = Image.fromarray(dice.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        small.resize((320, 240), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.jpg")
    import_source("photographs", folder, command="curate import")


@contextmanager
def embedding() -> Iterator[subprocess.Popen[str]]:
    """`curate embed` on a cluster, at the moment when some of it is done."""
    command = [sys.executable, "-c", COMMAND, *EMBED]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with ExitStack() as stack:
        # What a killed driver leaves there goes with it; a short name, for sockets are in it.
        folder = stack.enter_context(TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True))
        environment = {**os.environ, "RAY_TMPDIR": folder}
        started = subprocess.Popen(command, text=True, start_new_session=True, env=environment, **streams)  # type: ignore[call-overload]
        process = stack.enter_context(started)
        try:
            until(lambda: process.poll() is not None or len(parts()) > 1)
            assert process.poll() is None
            yield process
        finally:
            process.kill()


def parts() -> list[Path]:
    return list((home() / "datasets" / "photographs" / "spool").glob("*/part-*.arrow"))


def descendants(number: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    found = [number]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found[1:]


def command_of(number: int) -> bytes:
    return Path(f"/proc/{number}/cmdline").read_bytes()


def finish() -> tuple[int, int]:
    """Run the command again, to its end: how many images have a vector, and of how many one was computed."""
    result = subprocess.run([sys.executable, "-c", COMMAND, *EMBED], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (computed,) = (int(line.split()[-1]) for line in result.stderr.splitlines() if line.startswith("computed"))
    return json.loads(result.stdout)["embedded"], computed


def test_a_killed_driver_takes_its_workers_along_and_the_next_run_goes_on(photographs: None) -> None:
    with embedding() as process:
        # Two of Ray's own helpers, which do no work, end a minute later.
        started = [number for number in descendants(process.pid) if b"ray::run_block" in command_of(number)]
        assert started
        process.kill()
        process.wait()
        until(lambda: not any(alive(number) for number in started))
    assert open_dataset("photographs").commit.number == 1
    embedded, computed = finish()
    assert embedded == COUNT
    assert 0 < computed < COUNT
    table = open_dataset("photographs").table("embeddings/builtin-v1-images")
    assert len(set(table["id"].to_pylist())) == table.num_rows == COUNT
    assert parts() == []


def test_an_interruption_ends_the_workers_and_keeps_what_is_done(photographs: None) -> None:
    with embedding() as process:
        started = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that the command has started
        _, told = process.communicate(timeout=180)
        assert process.returncode == 130
        assert "interrupted: nothing is half-written" in told
        until(lambda: not any(alive(number) for number in started))
    embedded, computed = finish()
    assert (embedded, 0 < computed < COUNT) == (COUNT, True)


OPEN = """
import os, time
import ray
def told(*given, init=ray.init, **named):
    print(os.environ["RAY_USAGE_STATS_ENABLED"], named["include_dashboard"])
    return init(*given, **named)
ray.init = told
from curate.engine.engines import map_jobs, use_engine
from curate.engine.jobs import Job
from tests.engine.stages import add
with use_engine("ray:local?workers=1&store=80"):
    print(*map_jobs(add, [Job((), (1.0, 2.0))]))
    time.sleep(5)
print(os.environ["RAY_USAGE_STATS_ENABLED"])
"""


def test_nothing_is_reported_to_anybody() -> None:
    heard: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/"
        settings = {"RAY_USAGE_STATS_REPORT_URL": address, "RAY_USAGE_STATS_REPORT_INTERVAL_S": "1"}
        environment = {**os.environ, **settings, "RAY_USAGE_STATS_ENABLED": "1"}
        command = [sys.executable, "-c", OPEN]
        result = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
        server.shutdown()
        thread.join()
    assert heard == []
    assert result.stdout.split() == [
        "0",
        "False",
        "3.0",
        "1",
    ]  # turned off, whatever was asked for, and as before afterwards
