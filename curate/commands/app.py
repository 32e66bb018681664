"""What all commands share: one way to fail, and the command line for the history."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import click
import typer
from typer.core import TyperGroup

from curate.errors import CurateError
from curate.redaction import redact
from curate.wording import printable_lines

INTERRUPTED = 130
INTERRUPTION = "interrupted: nothing is half-written, and finished work is kept"
INTERNAL = 70
"""EX_SOFTWARE of sysexits.h: a bug, never the user's fault."""

_interrupted: list[int] = []
"""The signals that have come."""


class CurateGroup(TyperGroup):
    """Prints a `CurateError` as its three parts, and Ctrl-C as one line; `--debug` anywhere shows the traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self.debug = "--debug" in args
        return super().parse_args(ctx, [argument for argument in args if argument != "--debug"])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CurateError as error:
            self._show_traceback()
            print_error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            self._show_traceback()
            print(INTERRUPTION, file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader (head, less) has gone. Python would complain again when it flushes stdout on the way out.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:
            self._show_traceback()
            reason = error.strerror or str(error)
            print_error(CurateError(f"the system refused: {reason}", where=error.filename, remedy=_remedy(error)))
            raise typer.Exit(CurateError.exit_code) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            self._show_traceback()
            if _interrupted:
                print(INTERRUPTION, file=sys.stderr)
                raise typer.Exit(INTERRUPTED) from None
            print_error(
                CurateError(f"a fault in curate itself: {error!r}", remedy="please report it, with what --debug prints")
            )
            raise typer.Exit(INTERNAL) from None

    def _show_traceback(self) -> None:
        """With --debug, print the traceback: here and not by the interpreter, so that it holds no token."""
        if self.debug:
            print(redact(traceback.format_exc()), file=sys.stderr, end="")


def note_interruptions() -> None:
    """From now on a Ctrl-C is one, though a library makes an error of another kind of it.

    NumPy does where it compares structured arrays, as `numpy.unique` of rows does, and leaves no trace of the Ctrl-C.
    """

    def interrupt(number: int, _frame: object) -> None:
        _interrupted.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as in the background
        signal.signal(signal.SIGINT, interrupt)


def print_error(error: CurateError) -> None:
    """What happened, where, and the remedy, on stderr."""
    for lead, text in (("error", error.what), ("   at", error.where), ("   do", error.remedy)):
        if text is not None:
            print(f"{lead}: {printable_lines(redact(text))}", file=sys.stderr)


def _remedy(error: OSError) -> str:
    full = error.errno == errno.ENOSPC or "No space left" in str(error)
    return "free some space, then run the command again" if full else "check that the path exists and may be written"


def command_line() -> str:
    """The command as the user typed it, for the history."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
