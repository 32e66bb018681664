"""What a terminal can show is found out from its name or by asking it, and asking it leaves no trace."""

from __future__ import annotations

import io
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.report.terminal_image.screen import Screen, ask_attributes, choose_method, named_method, read_screen
from tests.report.report_sets import make_set
from tests.report.terminal_decoders import CONTROL, Terminal, block_pixels, kitty_pixels, sixel_pixels, xterm_colors

fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

SIXEL, NO_SIXEL = b"\x1b[?62;4;22c", b"\x1b[?62;22;44c"


@pytest.fixture
def finding(tmp_path: Path) -> str:
    """Id of a wrong label in a dataset 'set'."""
    return make_set("set", tmp_path)[0].id


@pytest.mark.parametrize(
    ("environ", "method"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "xterm-kitty", "TERM_PROGRAM": "iTerm.app"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux", "KITTY_WINDOW_ID": "1", "LC_TERMINAL": "iTerm2"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/run/tmux,1,0"}, None),
        ({"TERM": "screen.xterm-256color", "LC_TERMINAL": "iTerm2"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
    ],
)
def test_the_environment_names_the_terminal(environ: Mapping[str, str], method: str | None) -> None:
    assert named_method(environ) == method


def test_text_stays_text_where_pictures_are_not_wanted() -> None:
    kitty = {"TERM": "xterm-kitty"}
    assert choose_method(None, Terminal(), kitty) == "kitty"
    assert choose_method(None, io.StringIO(), kitty) is None
    assert choose_method("sixel", io.StringIO(), kitty) is None
    assert choose_method(None, Terminal(), kitty | {"NO_COLOR": "1"}) is None
    assert choose_method(None, Terminal(), kitty | {"NO_COLOR": ""}) == "kitty"
    assert choose_method(None, Terminal(), {"TERM": "dumb", "KITTY_WINDOW_ID": "1"}) is None
    # Who asks for a way gets it.
    assert choose_method("sixel", Terminal(), kitty | {"NO_COLOR": "1"}) == "sixel"


def test_tmux_is_sent_what_it_shows() -> None:
    within = {"TERM": "tmux-256color", "TMUX": "/run/tmux,1,0"}
    assert choose_method("kitty", Terminal(), within) == "blocks"
    assert choose_method("iterm", Terminal(), within) == "blocks"
    assert choose_method("sixel", Terminal(), within) == "sixel"


def test_half_blocks_need_a_terminal_that_has_the_character() -> None:
    class Ascii(Terminal):
        encoding = "ascii"

    assert choose_method(None, Terminal(), {}) == "blocks"
    assert choose_method(None, Ascii(), {}) is None


class Pty:
    """A terminal with somebody at its other end who answers when asked."""

    def __init__(self, answer: bytes | None, columns: int = 90, rows: int = 50) -> None:
        self.person, self.program = os.openpty()
        self.answer = answer
        self.sent = b""
        fcntl.ioctl(self.program, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, columns * 9, rows * 18))
        self.settings = termios.tcgetattr(self.program)
        self._thread = threading.Thread(target=self._attend, daemon=True)
        self._thread.start()

    def _attend(self) -> None:
        answered = False
        while True:
            try:
                self.sent += os.read(self.person, 65536)
            except OSError:
                return
            if b"\x1b[c" in self.sent and self.answer is not None and not answered:
                answered = True
                os.write(self.person, self.answer)

    def wait_for(self, text: bytes) -> None:
        end = time.monotonic() + 30
        while text not in self.sent:
            assert time.monotonic() < end, self.sent
            time.sleep(0.01)

    def typed(self) -> bytes:
        """What a program that reads next would get."""
        settings = termios.tcgetattr(self.program)
        settings[3] &= ~termios.ICANON
        termios.tcsetattr(self.program, termios.TCSANOW, settings)
        waits = select.select([self.program], [], [], 0.2)[0]
        return os.read(self.program, 100) if waits else b""

    def close(self) -> None:
        os.close(self.program)
        self._thread.join(10)
        os.close(self.person)


@pytest.fixture
def new_pty() -> Any:
    made: list[Pty] = []

    def make(answer: bytes | None, **size: int) -> Pty:
        made.append(Pty(answer, **size))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(("answer", "attributes"), [(SIXEL, {62, 4, 22}), (NO_SIXEL, {62, 22, 44}), (b"\x1b[?6c", {6})])
def test_a_terminal_says_what_it_can(new_pty: Any, answer: bytes, attributes: set[int]) -> None:
    pty = new_pty(answer)
    assert ask_attributes(pty.program, 20) == attributes
    assert termios.tcgetattr(pty.program) == pty.settings
    assert pty.typed() == b""


def test_a_terminal_that_does_not_answer_is_not_waited_for(new_pty: Any) -> None:
    pty = new_pty(None)
    assert ask_attributes(pty.program, 0.1) == frozenset()
    assert pty.sent == b"\x1b[c"
    assert termios.tcgetattr(pty.program) == pty.settings


def test_half_an_answer_is_none(new_pty: Any) -> None:
    assert ask_attributes(new_pty(b"\x1b[?62;4").program, 0.1) == frozenset()


def test_what_is_typed_after_the_answer_is_not_even_read(new_pty: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.report.terminal_image.screen._give_back", lambda terminal, typed: None)
    pty = new_pty(SIXEL + b"ls -l\n")
    assert ask_attributes(pty.program, 20) == {62, 4, 22}
    assert pty.typed() == b"ls -l\n"


def test_what_is_typed_before_the_answer_is_given_back_where_that_is_allowed(new_pty: Any) -> None:
    pty = new_pty(b"ls" + SIXEL)
    try:
        fcntl.ioctl(pty.program, termios.TIOCSTI, b"x")
    except OSError:
        kept = b""
    else:
        assert pty.typed() == b"x"
        kept = b"ls"
    termios.tcsetattr(pty.program, termios.TCSANOW, pty.settings)
    assert ask_attributes(pty.program, 20) == {62, 4, 22}
    assert pty.typed() == kept


def test_nothing_is_asked_while_keys_wait(new_pty: Any) -> None:
    pty = new_pty(SIXEL)
    os.write(pty.person, b"ls -l")
    pty.wait_for(b"ls -l")  # the echo
    assert ask_attributes(pty.program, 20) == frozenset()
    assert b"\x1b[c" not in pty.sent
    assert pty.typed() == b"ls -l"


def test_what_is_no_terminal_is_not_asked(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match=r".+"):
        ask_attributes(file.fileno())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_settings_come_back_when_the_program_is_ended(new_pty: Any, number: signal.Signals) -> None:
    pty = new_pty(None)
    # Whoever runs the tests may have had signals ignored.
    usual = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); s.signal(s.SIGHUP, s.SIG_DFL)"
    code = f"{usual}; from curate.report.terminal_image.screen import ask_attributes; ask_attributes(0, 60)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=pty.program, stderr=subprocess.DEVNULL) as process:
        # The question is written to descriptor 0, the terminal.
        pty.wait_for(b"\x1b[c")
        assert termios.tcgetattr(pty.program) != pty.settings
        process.send_signal(number)
        assert process.wait(30)
    assert termios.tcgetattr(pty.program) == pty.settings


def test_the_size_is_that_of_the_terminal(new_pty: Any) -> None:
    pty = new_pty(None, columns=70, rows=30)
    with open(pty.program, "w", closefd=False) as out:
        assert read_screen(out) == Screen(70, 30, (9, 18))
        fcntl.ioctl(pty.program, termios.TIOCSWINSZ, struct.pack("4H", 0, 0, 0, 0))
        assert read_screen(out) == Screen(80, 24, (8, 16))


def _on_a_terminal(pty: Pty, *arguments: str, own: bool = True, environ: Mapping[str, str] | None = None) -> bytes:
    """What a command sends to a terminal: its own, or somebody else's."""
    inherited = {name: value for name, value in os.environ.items() if name in ("CURATE_HOME", "PATH", "PYTHONPATH")}
    # A new session has no terminal; the first one that it opens becomes its own.
    mode = "os.O_RDWR" if own else "os.O_RDWR | os.O_NOCTTY"
    code = f"import os; os.close(os.open(os.ttyname(1), {mode})); from curate.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.run(
        command,
        stdin=pty.program,
        stdout=pty.program,
        stderr=pty.program,
        start_new_session=True,
        timeout=60,
        env={**inherited, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(environ or {})},
    )
    time.sleep(0.05)
    assert process.returncode == 0, pty.sent
    pty.wait_for(b"found by")
    return pty.sent


def test_a_terminal_with_sixel_is_shown_sixel(finding: str, new_pty: Any) -> None:
    pty = new_pty(SIXEL)
    drawn = sixel_pixels(_on_a_terminal(pty, "findings", "show", finding, "-d", "set"))
    assert termios.tcgetattr(pty.program) == pty.settings
    named = new_pty(None)
    sent = _on_a_terminal(named, "findings", "show", finding, "-d", "set", environ={"TERM": "xterm-kitty"})
    assert b"\x1b[c" not in sent
    wanted = kitty_pixels(sent)
    assert drawn.shape == wanted.shape
    assert drawn.shape[1] <= 90 * 9
    assert np.abs(drawn - wanted).mean() < 3


def test_a_terminal_without_is_shown_half_blocks(finding: str, new_pty: Any) -> None:
    arguments = ("findings", "show", finding, "-d", "set")
    few = block_pixels(_text(_on_a_terminal(new_pty(NO_SIXEL), *arguments)))
    many = block_pixels(_text(_on_a_terminal(new_pty(NO_SIXEL), *arguments, environ={"COLORTERM": "truecolor"})))
    palette = {tuple(color) for color in xterm_colors().tolist()}
    assert {tuple(color) for color in few.reshape(-1, 3).tolist()} <= palette
    assert not {tuple(color) for color in many.reshape(-1, 3).tolist()} <= palette
    assert few.shape == many.shape
    assert few.shape[1] <= 90
    assert np.abs(few - many).mean() < 25


def test_the_terminal_of_others_is_not_asked(finding: str, new_pty: Any) -> None:
    sent = _on_a_terminal(new_pty(SIXEL), "findings", "show", finding, "-d", "set", own=False)
    assert b"\x1b[c" not in sent
    assert block_pixels(_text(sent)).size


@pytest.mark.parametrize(
    "more", [{"option": "--no-image"}, {"option": "--image=none"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}]
)
def test_a_terminal_is_not_asked_where_no_picture_is_wanted(finding: str, new_pty: Any, more: dict[str, str]) -> None:
    environ = {name: value for name, value in more.items() if name != "option"}
    options = [value for name, value in more.items() if name == "option"]
    sent = _on_a_terminal(new_pty(SIXEL), "findings", "show", finding, "-d", "set", *options, environ=environ)
    assert not CONTROL.search(sent.decode().replace("\r\n", "\n"))
    assert "looks like 'nut'" in _text(sent)


def _text(sent: bytes) -> str:
    """What was sent, but for the question and what a terminal makes of line breaks."""
    return sent.decode().replace("\x1b[c", "").replace("\r\n", "\n")
