"""Running an example as a reader would, in its small form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"

RunExample = Callable[[str], dict[str, Any]]


@pytest.fixture
def run_example(tmp_path: Path) -> RunExample:
    """What runs an example's script with --small, and gives what is in its result.json."""

    def run(name: str) -> dict[str, Any]:
        work = tmp_path / name
        command = [sys.executable, str(EXAMPLES / name / "run.py"), "--small", "--work", str(work)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.strip(), "a table is printed"
        with Image.open(work / "picture.png") as picture:
            assert min(picture.size) > 100
        result: dict[str, Any] = json.loads((work / "result.json").read_bytes())
        assert result["small"] is True
        return result

    return run
