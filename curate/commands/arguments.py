"""Help texts of arguments, which some pairs of Typer and Click lose."""

from __future__ import annotations

from typing import Any, get_type_hints

from typer.core import TyperArgument, TyperCommand
from typer.models import ArgumentInfo


class CurateCommand(TyperCommand):
    """A command whose --help has the text of its arguments.

    From 8.5 on, Click's `Argument` has a `help` of its own, and sets it to None over the one that Typer (up to 0.25) has
    just set. Here it is put back from the function's annotations.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        hints = get_type_hints(self.callback, include_extras=True)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument) and parameter.help is None:
                notes = getattr(hints.get(str(parameter.name)), "__metadata__", ())
                parameter.help = next((note.help for note in notes if isinstance(note, ArgumentInfo)), None)
        super().format_options(ctx, formatter)
