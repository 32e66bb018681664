"""What was typed: no number is NaN or infinite, and nothing is ignored in silence."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from curate.cli import app


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("compress --model run:x --max-drop nan", "--max-drop"),
        ("compress --model run:x --max-slice-drop inf", "--max-slice-drop"),
        ("compress --model run:x --minutes nan", "--minutes"),
        ("compress --model run:x --minutes 0", "--minutes"),
        ("compress --model run:x --minutes 1 --steps 10", "--minutes"),
        ("package --model run:x --max-drop nan", "--max-drop"),
        ("package --model run:x --max-drop -1", "--max-drop"),
        ("package --model run:x --max-slice-drop inf", "--max-slice-drop"),
        ("package --model run:x --ask nan:0.5", "--ask"),
        ("package --model run:x --ask 0.7:0.3", "--ask"),
        ("bench p --seconds nan", "--seconds"),
        ("bench p --seconds 0", "--seconds"),
        ("bench p --cores 9999", "--cores"),
        (f"bench p --memory {'9' * 400}GB", "--memory"),
    ],
)
def test_what_is_no_number_or_cannot_be_is_one_clear_error(command: str, said: str) -> None:
    result = CliRunner().invoke(app, command.split())

    assert result.exit_code == 2, result.output
    assert result.stderr.count("error:") == 1
    assert f"at: {said}" in " ".join(result.stderr.split())
