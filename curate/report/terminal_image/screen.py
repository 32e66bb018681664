"""What a terminal is: how large, and which kind of pictures it shows.

The terminal's own name says so for kitty, iTerm2 and their like. Sixel has no name: the terminal is asked for its primary device
attributes (DA1, https://vt100.net/docs/vt510-rm/DA1.html), in which a 4 stands for sixel. Everything else that has colors shows
half-blocks.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO, get_args

Method = Literal["kitty", "iterm", "sixel", "blocks"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
"""Ways to show a picture, the finest first."""

PATIENCE: Final = 1.0
"""Seconds that a terminal has to answer. Nearly all do within milliseconds; over a slow line it takes the way there and back."""

_QUESTION: Final = b"\x1b[c"
_ANSWER: Final = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL: Final = 4
_CELL: Final = (8, 16)
"""Pixels of a character where the terminal does not tell: smaller than most, so that a picture fits."""

_BY_TERM: Final[Mapping[str, Method]] = {"xterm-kitty": "kitty", "xterm-ghostty": "kitty"}
_BY_PROGRAM: Final[Mapping[str, Method]] = {"iTerm.app": "iterm", "WezTerm": "iterm", "ghostty": "kitty"}


@dataclass(frozen=True)
class Screen:
    """The size of a terminal.

    Attributes:
        columns: Characters in a line.
        rows: Lines.
        cell: Width and height of a character in pixels.
    """

    columns: int
    rows: int
    cell: tuple[int, int] = _CELL


def choose_method(wanted: Method | None, out: TextIO, environ: Mapping[str, str]) -> Method | None:
    """How to show a picture on a terminal; None if it must stay text.

    Args:
        wanted: What the user has asked for; None to find it out. Inside tmux and screen, which hand on neither of them, kitty's
            and iTerm2's ways are none.
        out: Where output goes.
        environ: The environment's variables.
    """
    if not out.isatty():
        return None
    if wanted is not None and not (wanted in ("kitty", "iterm") and _is_within_another(environ)):
        return wanted
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return None
    named = named_method(environ)
    if named is not None:
        return named
    if _SIXEL in _attributes_of(out):
        return "sixel"
    return "blocks" if _can_print(out, "▀") else None


def named_method(environ: Mapping[str, str]) -> Method | None:
    """What the environment's variables say that the terminal shows; None if they do not tell.

    Inside tmux and screen they are those of another terminal, the one in which these were started.
    """
    if _is_within_another(environ):
        return None
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM")
    # What a terminal sets itself comes before what programs that it has started may have inherited.
    if term in _BY_TERM:
        return _BY_TERM[term]
    if program:
        return _BY_PROGRAM.get(program)
    if environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return "kitty" if environ.get("KITTY_WINDOW_ID") else None


def has_true_color(environ: Mapping[str, str]) -> bool:
    """Whether the terminal says that it has more than 256 colors."""
    return environ.get("COLORTERM", "").lower() in {"truecolor", "24bit"}


def read_screen(out: TextIO) -> Screen:
    """The size of the terminal that output goes to; 80 x 24 where it does not tell."""
    try:
        import fcntl
        import struct
        import termios

        packed = fcntl.ioctl(out.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("4H", packed)
    except (ImportError, OSError):
        columns, rows = shutil.get_terminal_size()
        width = height = 0
    if not columns or not rows:
        return Screen(80, 24)
    across, down = width // columns, height // rows
    return Screen(columns, rows, (across, down) if across and down else _CELL)


def ask_attributes(terminal: int, patience: float = PATIENCE) -> frozenset[int]:
    """Ask a terminal for its primary device attributes.

    Its settings are put back whatever happens. Not a byte is read beyond the answer, and nothing is asked if keys wait to be
    read. What is typed between question and answer is given back to the terminal, if the system lets anybody do that.

    Args:
        terminal: Descriptor that reads from the terminal and writes to it.
        patience: Seconds to wait for the answer.

    Returns:
        The attributes; none if there was no answer.

    Raises:
        OSError: It is no terminal.
    """
    import termios

    try:
        settings, silent = termios.tcgetattr(terminal), termios.tcgetattr(terminal)
    except termios.error as error:
        raise OSError(str(error)) from error
    silent[3] &= ~(termios.ICANON | termios.ECHO)
    silent[6][termios.VMIN], silent[6][termios.VTIME] = 1, 0
    with _ended_by_signals():
        try:
            termios.tcsetattr(terminal, termios.TCSANOW, silent)
            if _waits(terminal, 0):
                return frozenset()
            os.write(terminal, _QUESTION)
            answer, typed = _read_answer(terminal, patience)
            _give_back(terminal, typed)
        finally:
            termios.tcsetattr(terminal, termios.TCSANOW, settings)
    return answer


def _is_within_another(environ: Mapping[str, str]) -> bool:
    """Whether the terminal is one that tmux or screen plays inside another."""
    return "TMUX" in environ or environ.get("TERM", "").startswith(("screen", "tmux"))


def _attributes_of(out: TextIO) -> frozenset[int]:
    """What the terminal that output goes to says of itself; nothing if it cannot be asked."""
    try:
        terminal = os.open(os.ttyname(out.fileno()), os.O_RDWR | os.O_NOCTTY)
    except (AttributeError, OSError):  # no terminals on this system; or one that cannot be opened
        return frozenset()
    try:
        # Only from the foreground of one's own terminal: from elsewhere the answer would go to another program's input, and
        # reading would stop this one.
        return ask_attributes(terminal) if os.tcgetpgrp(terminal) == os.getpgrp() else frozenset()
    except OSError:
        return frozenset()
    finally:
        os.close(terminal)


def _read_answer(terminal: int, patience: float) -> tuple[frozenset[int], bytes]:
    """The attributes, and what else was read."""
    end = time.monotonic() + patience
    read = b""
    while _waits(terminal, end - time.monotonic()):
        byte = os.read(terminal, 1)
        if not byte:
            break
        read += byte
        found = _ANSWER.search(read)
        if found:
            numbers = frozenset(int(number) for number in found[1].split(b";") if number)
            return numbers, read[: found.start()] + read[found.end() :]
    return frozenset(), read


def _waits(terminal: int, seconds: float) -> bool:
    """Whether something can be read by then."""
    return bool(select.select([terminal], [], [], max(0.0, seconds))[0])


def _give_back(terminal: int, typed: bytes) -> None:
    """Put keys back into the terminal's input. Newer Linux kernels refuse that; then they are lost."""
    import fcntl
    import termios

    try:
        for key in typed:
            fcntl.ioctl(terminal, termios.TIOCSTI, bytes([key]))
    except OSError:
        return


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Signals that would end the process on the spot raise SystemExit here, so that what is changed is put back first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    caught = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in caught:
        signal.signal(each, leave)
    try:
        yield
    finally:
        for each in caught:
            signal.signal(each, signal.SIG_DFL)


def _can_print(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
