"""A push whose process is killed, or stopped with Ctrl-C, at chosen moments; and one that is begun again after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.connectors.faults.fault_rounds import State, changed_images, check_pushed, new_images, send
from tests.connectors.faults.fault_worlds import World
from tests.servers.fault_proxy import Fault

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

CURATE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs lack
from curate.cli import main
main()
"""
SECONDS = 60


def stopped(
    world: World, prepared: Callable[[], str], at: float, fault: Fault, sent: signal.Signals
) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Run the command; when it has come so far with its requests, and gets no answer, send it a signal.

    Args:
        world: The service.
        prepared: Makes both sides what they are before; gives the dataset's name.
        at: How far, of the number of requests that a whole push makes.
        fault: 'held' before the server acts, 'held late' after it.
        sent: The signal.

    Returns:
        The dataset's name, and how the command ended.
    """
    trial = prepared()
    world.proxy.play()
    send(world, trial)
    number = int(at * len(world.proxy.requests))
    name = prepared()
    world.proxy.play({number: fault})
    command = [sys.executable, "-c", CURATE, "push", "-d", name, world.address, "--findings", "kind = 'mislabeled'"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            assert world.proxy.held.wait(SECONDS)
            process.send_signal(sent)
            if sent == signal.SIGKILL:
                process.wait(SECONDS)
            world.proxy.release()
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            world.proxy.release()
    return name, subprocess.CompletedProcess(command, process.returncode, out, err)


def killed(world: World, prepared: Callable[[], str], at: float, fault: Fault) -> None:
    name, result = stopped(world, prepared, at, fault, signal.SIGKILL)
    assert result.returncode == -signal.SIGKILL
    check_pushed(world, name, f"killed at {at:.0%} ({fault})")


def interrupted(world: World, prepared: Callable[[], str], at: float, fault: Fault) -> None:
    name, result = stopped(world, prepared, at, fault, signal.SIGINT)
    assert (result.returncode, result.stdout) == (130, ""), result.stderr
    assert result.stderr.splitlines() == ["interrupted: nothing is half-written, and finished work is kept"]
    check_pushed(world, name, f"interrupted at {at:.0%} ({fault})")


def test_a_killed_push_is_completed_by_the_next(roboflow: World, tmp_path: Path) -> None:
    killed(roboflow, new_images(roboflow, tmp_path / "set"), 0.6, "held late")


def test_ctrl_c_is_one_line_and_the_next_push_goes_on(roboflow: World, tmp_path: Path) -> None:
    interrupted(roboflow, new_images(roboflow, tmp_path / "set"), 0.6, "held late")


@pytest.mark.slow
@pytest.mark.parametrize("state", [new_images, changed_images])
@pytest.mark.parametrize(("at", "fault"), [(0.5, "held"), (0.8, "held late")])
def test_killed_at_several_moments(world: World, state: State, at: float, fault: Fault, tmp_path: Path) -> None:
    killed(world, state(world, tmp_path / "set"), at, fault)


@pytest.mark.slow
@pytest.mark.parametrize("at", [0.1, 0.7])
def test_interrupted_at_several_moments(world: World, at: float, tmp_path: Path) -> None:
    interrupted(world, changed_images(world, tmp_path / "set"), at, "held late")
