"""What was typed: options that mean nothing together, and numbers that are none. Nothing is ignored in silence."""

from __future__ import annotations

import math
from collections.abc import Collection

import typer
from click.core import ParameterSource


def given(context: typer.Context) -> dict[str, str]:
    """The options that somebody typed: how they are written, by the parameter's name."""
    typed = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {
        str(parameter.name): parameter.opts[0]
        for parameter in context.command.params
        if parameter.param_type_name == "option" and context.get_parameter_source(str(parameter.name)) in typed
    }


def refuse(context: typer.Context, names: Collection[str], what: str, remedy: str) -> None:
    """Refuse options that would be ignored.

    Args:
        context: Of the command.
        names: Of their parameters.
        what: Why they mean nothing.
        remedy: What to do.

    Raises:
        UsageError: One of them was typed.
    """
    from curate.errors import UsageError

    options = [option for name, option in given(context).items() if name in names]
    if options:
        raise UsageError(what, where=", ".join(options), remedy=remedy)


def require_numbers(
    context: typer.Context, *, positive: Collection[str] = (), not_negative: Collection[str] = ()
) -> None:
    """Refuse NaN and infinity in any option, and in some what is not above 0, or below.

    Args:
        context: Of the command.
        positive: Parameters that must be above 0.
        not_negative: Parameters that must not be below 0.

    Raises:
        UsageError: A number is none of these.
    """
    from curate.errors import UsageError

    for parameter in context.command.params:
        name, option = str(parameter.name), parameter.opts[0]
        value = context.params.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if not math.isfinite(value):
            raise UsageError(f"{value} is no number", where=option, remedy="give one")
        if name in positive and value <= 0:
            raise UsageError(f"{value:g} is not above 0", where=option, remedy="give more than 0")
        if name in not_negative and value < 0:
            raise UsageError(f"{value:g} is below 0", where=option, remedy="give 0 or more")
