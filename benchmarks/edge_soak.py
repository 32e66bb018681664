"""Whether a run lasts: at full rate with flat memory and every frame accounted for; and a harvest that survives kill -9."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks.edge_camera import Watched, start
from curate.dataset.home import HOME_VARIABLE
from curate.demo import network_camera
from curate.edge.harvest.entry import read_entry
from curate.edge.harvest.ring import stored_entries

RATE: Final = 50.0
"""Frames a second that the camera gives: more than the model takes on one core, so that it never rests and frames are dropped."""

_SAMPLE: Final = 10.0
_TOLD: Final = 60  # samples of memory, at most
_WARM_UP: Final = 0.1  # of the time, in which caches fill
_START: Final = 120.0  # seconds that a process gets to find its first hard frame
_KILL_AFTER: Final = 2.0


def soak(package: Path, pictures: Sequence[bytes], folder: Path, minutes: float) -> dict[str, Any]:
    """Run at full rate for so long, and account for every frame.

    Args:
        package: What runs.
        pictures: JPEG files that the camera shows.
        folder: Empty; for the harvest and the lines.
        minutes: How long.

    Raises:
        RuntimeError: The run failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with network_camera(pictures, rate=RATE) as camera:
        run = start(package, camera.url, folder / "harvest", seconds=60 * minutes, output=folder / "lines.jsonl")
        samples = _sampled(run, 60 * minutes, min(_SAMPLE, 3 * minutes))
        status = run.wait()
        sent = camera.sent
    if status or run.summary is None:
        raise RuntimeError(f"the run ended with status {status}")
    return {
        "part": "soak",
        "minutes": minutes,
        "rate": RATE,
        **account(run, sent),
        **memory(samples),
        "seconds": run.summary["seconds"],
        "latency_ms": run.summary["latency_ms"],
        "harvest": len(stored_entries(folder / "harvest")),
        "output_bytes": sum(each.stat().st_size for each in folder.glob("lines*")),
        "samples": samples[:: -(-len(samples) // _TOLD)],
    }


def account(run: Watched, sent: int) -> dict[str, Any]:
    """What became of every frame, as the run counts it and as its lines and the camera show it.

    Returns:
        `uncounted`: frames that the run has no account of; `untold`: those it calls finished and that had no line, plus those
        that had one and were out of order; `in_flight`: sent by the camera and never taken off the network.
    """
    counts = run.summary
    assert counts is not None
    accounted = counts["skipped"] + counts["lost"] + counts["abandoned"] + counts["processed"]
    return {
        "sent": sent,
        **{name: counts[name] for name in ("offered", "lost", "abandoned", "processed", "unreadable", "reconnects")},
        "told": run.told,
        "gaps": run.gaps,
        "uncounted": abs(counts["offered"] - accounted) + max(run.gaps - counts["lost"] - counts["unreadable"], 0),
        "untold": abs(counts["processed"] - run.told) + run.disorder,
        "in_flight": sent - counts["offered"] - counts["unreadable"],
    }


def memory(samples: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Whether memory grows: rows of (seconds, resident MB, threads, open files), at least two after the warm-up.

    Returns:
        Medians of the first and last quarter after the warm-up, the most, and the slope of a straight line in MB an hour.
    """
    rows = np.array([each for each in samples if each[0] >= _WARM_UP * samples[-1][0]], dtype=np.float64)
    quarter = max(1, len(rows) // 4)
    slope = np.polyfit(rows[:, 0], rows[:, 1], 1)[0] if len(rows) > 1 else 0.0
    return {
        "first_mb": float(np.median(rows[:quarter, 1])),
        "last_mb": float(np.median(rows[-quarter:, 1])),
        "peak_mb": float(rows[:, 1].max()),
        "slope_mb_per_hour": float(3600 * slope),
        "threads": [int(rows[0, 2]), int(rows[-1, 2])],
        "files": [int(rows[0, 3]), int(rows[-1, 3])],
    }


def _sampled(run: Watched, seconds: float, every: float) -> list[list[float]]:
    """Seconds, resident MB, threads and open files of a process, from its first line on for so long, or until it ends."""
    while not run.told and run.process.poll() is None:
        time.sleep(0.1)
    began, samples = time.monotonic(), []
    while run.process.poll() is None and time.monotonic() - began < seconds - every:
        found = resident(run.process.pid)
        if found is not None:
            samples.append([round(time.monotonic() - began, 1), *found])
        time.sleep(every)
    return samples


def resident(pid: int) -> tuple[float, int, int] | None:
    """Resident MB, threads and open files of a process; None where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        facts = dict(line.split(":", 1) for line in status.splitlines())
        return (
            round(int(facts["VmRSS"].split()[0]) / 1024, 2),
            int(facts["Threads"]),
            sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        )
    except (OSError, KeyError):
        return None


def kill_and_restart(package: Path, pictures: Sequence[bytes], folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a harvesting run again and again while it writes; every frame that was kept must stay, whole, and be imported.

    Args:
        package: What runs.
        pictures: JPEG files that the camera shows.
        folder: Empty; the harvest.
        kills: How often.
        seed: Of the moments.
    """
    draw = random.Random(seed)
    found: dict[str, Any] = {"part": "kill", "kills": 0, "vanished": 0, "damaged": 0, "left_over": 0}
    kept: set[str] = set()
    with network_camera(pictures, rate=RATE) as camera:
        for _ in range(kills):
            run = start(package, camera.url, folder, seconds=None)
            before = len(kept)
            _until(lambda: len(stored_entries(folder)) > before, run)  # noqa: B023  # called within the turn
            time.sleep(draw.uniform(0, _KILL_AFTER))
            kept |= {each.id for each in stored_entries(folder)}
            run.process.kill()
            run.wait()
            found["kills"] += 1
            found["left_over"] += sum(each.name.startswith(".") for each in (folder / "entries").iterdir())
            kept |= _checked(folder, kept, found)
        last = start(package, camera.url, folder, seconds=_KILL_AFTER)
        status = last.wait()
    kept |= _checked(folder, kept, found)
    swept = not any(each.name.startswith(".") for each in (folder / "entries").iterdir())
    return {**found, "kept": len(kept), "swept": swept, "restart_status": status, **_imported(folder)}


def _until(holds: Callable[[], bool], run: Watched) -> None:
    """Wait for something that a run does.

    Raises:
        RuntimeError: It does not come, or the run ends.
    """
    end = time.monotonic() + _START
    while not holds():
        if run.process.poll() is not None or time.monotonic() > end:
            run.process.kill()
            raise RuntimeError("the run keeps no frame")
        time.sleep(0.02)


def _checked(folder: Path, kept: set[str], found: dict[str, Any]) -> set[str]:
    """Ids of what is in a harvest now; what has gone or is damaged is counted."""
    entries = stored_entries(folder)
    there = {each.id for each in entries}
    found["vanished"] += len(kept - there)
    for each in entries:
        try:
            read_entry(each.folder)
        except Exception as error:  # whatever is wrong with it, it is not whole
            print(f"{each.id}: {error}", file=sys.stderr)
            found["damaged"] += 1
    return there


def _imported(folder: Path) -> dict[str, Any]:
    """Bring a harvest into a dataset of its own, and count."""
    words = ["import", f"harvest://{folder}", "-d", "harvested", "--json"]
    command = [sys.executable, "-c", "from curate.cli import main; main()", *words]
    with TemporaryDirectory() as home:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {HOME_VARIABLE: home})
    if done.returncode:
        raise RuntimeError(f"the harvest cannot be imported: {done.stderr}")
    said = json.loads(done.stdout.strip().rpartition("\n")[2])
    return {
        "imported": said["changes"]["images added"],
        "findings": said["changes"]["findings new"],
        "left_out": sum(loss["count"] for loss in said["losses"]),
    }
