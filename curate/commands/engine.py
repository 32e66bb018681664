"""--engine, for the commands that run stages over images or compare vectors: where the work is done."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperOption

from curate.commands.arguments import CurateCommand

LOCAL: Final = "local"
_CHOSEN: Final = "curate.engine"


class EngineCommand(CurateCommand):
    """A command with `--engine`, all of which runs on that engine. Its function needs no parameter for it."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        option = TyperOption(
            param_decls=["--engine"],
            type=str,
            default=LOCAL,
            show_default=True,
            envvar="CURATE_ENGINE",
            show_envvar=True,
            help="Where the work is done: local, ray or ray:HOST:PORT?workers=N&cpus=N&gpus=N.",
            metavar="ENGINE",
            expose_value=False,
            callback=_remember,
        )
        parameters = list(settings.pop("params", None) or [])
        at = next((k for k, each in enumerate(parameters) if "--json" in each.opts), len(parameters))
        super().__init__(name, params=[*parameters[:at], option, *parameters[at:]], **settings)

    def invoke(self, ctx: Any) -> Any:
        spec = ctx.meta[_CHOSEN]
        if spec == LOCAL:
            return super().invoke(ctx)
        from curate.engine.engines import use_engine

        with use_engine(spec):
            return super().invoke(ctx)


def _remember(ctx: Any, _: Any, value: str) -> None:
    ctx.meta[_CHOSEN] = value
