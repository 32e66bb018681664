"""Commands as a user types them, and what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from curate.cli import app


def curate(*arguments: str | Path, status: int = 0) -> Result:
    """Run a command; its exit status must be `status`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def lines(result: Result) -> list[dict[str, Any]]:
    """The JSON objects on stdout: one per line, and nothing else."""
    return [json.loads(line) for line in result.stdout.splitlines()]
