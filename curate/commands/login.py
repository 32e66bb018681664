"""login: keep a server's token in the system's keyring."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from curate.commands.options import JsonOption
from curate.commands.output import note, print_json


def login(
    context: typer.Context,
    remote: Annotated[
        str,
        typer.Argument(
            help="A server, or a project on it: cvat://HOST, labelstudio://HOST, roboflow://WORKSPACE.",
            metavar="REMOTE",
            show_default=False,
        ),
    ],
    forget: Annotated[bool, typer.Option("--forget", help="Take the token out of the keyring.")] = False,
    json: JsonOption = False,
) -> None:
    """Keep a server's token in the system's keyring. It is asked for, or read from stdin; never from the command line."""
    from curate.connectors.addresses import is_address, parse_address
    from curate.connectors.registry import CONNECTORS
    from curate.connectors.tokens import account, checked_token, forget_token, store_token
    from curate.errors import UsageError

    if context.args or not is_address(remote):
        # What was given instead may be the token: it is not shown.
        raise UsageError(
            "a server's address is needed, and nothing else",
            remedy="for example 'curate login labelstudio://host:8080'; the token is asked for, or read from stdin",
        )
    address = parse_address(remote)
    spec = CONNECTORS.get(address.service)
    if forget:
        had = forget_token(address)
        text = f"the token for {account(address)} is forgotten" if had else f"there was no token for {account(address)}"
    else:
        token = _asked(f"{spec.login}\nToken for {account(address)}").strip()
        if not token:
            raise UsageError("no token was given", where=remote, remedy=f"paste it, or set {spec.token}")
        store_token(address, checked_token(token, "the token that was given"))
        text = f"the token for {account(address)} is in the system's keyring; {spec.token} goes before it"
    if json:
        print_json({"server": account(address), "stored": not forget})
    else:
        note(text)


def _asked(text: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().decode("utf-8-sig", "replace")
    try:
        return str(typer.prompt(text, hide_input=True, err=True))
    except typer.Abort:
        raise KeyboardInterrupt from None
