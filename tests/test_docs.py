"""Every command and every example in the documentation runs."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.connectors.fiftyone.database import URI_VARIABLE
from curate.loop.plan import read_plan

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"  # its blocks need one another: test_tutorial.py runs them
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path != TUTORIAL)]
COMMAND = re.compile(r"^(?:    )?\$ (curate .*)$", re.MULTILINE)
SERVER = "127.0.0.1:8080"
FIFTYONE = "fiftyone://"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
LOOP = re.compile(r"```yaml\n(dataset: .*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the demo's dataset, small; a copy of it is beside it."""
    made = tmp_path_factory.mktemp("docs") / "curate-home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_HOME", str(made))
        patch.delenv("CURATE_DATASET", raising=False)
        assert CliRunner().invoke(app, ["demo", "--images", "40"]).exit_code == 0
    shutil.copytree(made, made.with_name("kept"))
    return made


@pytest.fixture
def parts(demo_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in every test, whatever the one before did to it; where its images are."""
    shutil.rmtree(demo_home)
    shutil.copytree(demo_home.with_name("kept"), demo_home)
    monkeypatch.setenv("CURATE_HOME", str(demo_home))
    return demo_home / "demo" / "parts_v3"


def commands(page: Path) -> list[str]:
    """What follows a prompt in the page's examples."""
    return [match.group(1) for match in COMMAND.finditer(page.read_text())]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_run(
    page: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    host = SERVER
    if SERVER in page.read_text():
        server = request.getfixturevalue("new_label_studio")
        host = server.url.removeprefix("http://")
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
    if FIFTYONE in page.read_text():
        monkeypatch.setenv(URI_VARIABLE, request.getfixturevalue("mongodb"))
        request.getfixturevalue("recwarn")  # FiftyOne's, and of what it imports, are not ours to end
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_parts").symlink_to(parts)
    for command in commands(page):
        text = command.partition("#")[0].partition("|")[0].partition(">")[0].replace(SERVER, host)
        if text.startswith("curate app ") and "--pull" not in text:
            _open_and_end(shlex.split(text)[1:])
            continue
        result = CliRunner().invoke(app, shlex.split(text)[1:])
        allowed = {0, 1} if "--fail-on" in text else {0}
        assert result.exit_code in allowed, f"{command}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"


def _open_and_end(arguments: list[str]) -> None:
    """Run a command that shows the App until Ctrl-C."""
    command = [sys.executable, "-c", "from curate.cli import main; main()", *arguments, "--json", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        opened = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "127.0.0.1" in opened, said


@pytest.mark.parametrize(
    "page", [page for page in PAGES if PYTHON.search(page.read_text())], ids=lambda page: page.name
)
def test_python_examples_run(page: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(100) % 10
    names = {
        "vectors": np.eye(10)[labels] + random.normal(0, 0.1, (100, 10)),
        "labels": labels,
        "image_numbers": np.arange(100) // 2,
    }
    for example in PYTHON.findall(page.read_text()):
        exec(compile(example, str(page), "exec"), dict(names))


@pytest.mark.parametrize("page", [page for page in PAGES if LOOP.search(page.read_text())], ids=lambda page: page.name)
def test_files_of_loops_are_read(page: Path, tmp_path: Path) -> None:
    for number, example in enumerate(LOOP.findall(page.read_text())):
        path = tmp_path / f"{number}.yaml"
        path.write_text(example)
        assert read_plan(path).dataset == "parts_v3"


@pytest.mark.slow
def test_the_example_draws_a_picture(parts: Path, tmp_path: Path) -> None:
    target = tmp_path / "mistakes.png"
    script = ROOT / "examples" / "show_mistakes.py"
    subprocess.run([sys.executable, str(script), "parts_v3", str(target)], check=True)
    assert target.stat().st_size > 10_000
