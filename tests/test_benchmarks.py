"""The benchmarks start, take their options, and write the JSON that `python -m benchmarks` makes its page from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS, DOCUMENT, page, with_tables
from benchmarks.growth import fitted
from benchmarks.report import machine

ROOT = Path(__file__).parents[1]
WITHOUT_CLEANLAB = """
import runpy, sys
sys.modules["cleanlab"] = None
sys.argv = sys.argv[1:]
runpy.run_module({!r}, run_name="__main__")
"""


def call(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}" if name else "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def measured(tmp_path: Path, name: str, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "result.json"
    done = call(name, *arguments, "--json", str(file))
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(file.read_text())
    assert set(report) == {"date", "command", "machine", "settings", "results", "table", "notes"}
    assert report["table"] == done.stdout.strip()
    return report


@pytest.mark.parametrize("name", ["", *BENCHMARKS])
def test_help_names_the_shared_options(name: str) -> None:
    done = call(name, "--help")
    assert done.returncode == 0, done.stderr
    assert ("--out" if not name else "--json") in done.stdout
    assert ("--data" in done.stdout) == (not name or BENCHMARKS[name].data)


def test_every_script_is_in_the_list() -> None:
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "--json FILE" in path.read_text()}
    assert scripts == set(BENCHMARKS)


def test_label_errors_scale(tmp_path: Path) -> None:
    report = measured(
        tmp_path, "label_errors_scale", "--rows", "20000", "--classes", "10", "--repeats", "1", "--only", "curate"
    )
    assert report["command"] == (
        "python -m benchmarks.label_errors_scale --rows 20000 --classes 10 --repeats 1 --only curate"
    )
    assert report["settings"] == {"rows": 20_000, "classes": 10, "repeats": 1}
    (ours,) = report["results"]
    assert ours["method"] == "curate"
    assert 900 < ours["flagged"] < 1100  # 5% of the labels are wrong, and the probabilities are good
    assert ours["f1"] > 0.97
    assert ours["cpu_s"] > 0


@pytest.mark.skipif(find_spec("cleanlab") is None, reason="cleanlab is in the extra 'bench'")
def test_label_errors_scale_against_cleanlab(tmp_path: Path) -> None:
    report = measured(tmp_path, "label_errors_scale", "--rows", "20000", "--classes", "10", "--repeats", "1")
    f1 = {row["method"]: row["f1"] for row in report["results"]}
    assert list(f1) == ["curate", "cleanlab", "cleanlab batched"]
    assert f1["curate"] >= max(f1["cleanlab"], f1["cleanlab batched"])


def test_import_coco(tmp_path: Path) -> None:
    report = measured(tmp_path, "import_coco", "--images", "500", "--only", "curate import", "pycocotools load")
    ours, theirs = report["results"]
    assert (ours["tool"], theirs["tool"]) == ("curate import", "pycocotools load")
    boxes = report["settings"]["boxes"]
    assert theirs["output"] == str(boxes)
    assert json.loads(ours["output"])["changes"]["annotations added"] == boxes
    assert ours["cpu_s"] > 0
    assert ours["peak_mb"] > 0


@pytest.mark.slow
def test_embed(tmp_path: Path) -> None:
    ours = ["model alone", "decoding alone", "commit of one", "curate"]
    report = measured(
        tmp_path,
        "embed",
        *("--images", "8", "--encoders", "builtin-v0", "--cores", "1", "--memory", "70", "--only", *ours),
    )
    small, large, memory = report["results"]
    assert [small["pictures"], large["pictures"], memory["pictures"]] == ["640 x 480", "4000 x 3000", 70]
    assert [small["curate"]["images"], large["curate"]["images"], memory["images"]] == [7, 1, 69]
    assert [small["model alone"]["images"], small["commit of one"]["images"]] == [8, 1]
    assert large["decoding alone"]["cpu_s"] / 2 > small["decoding alone"]["cpu_s"] / 8
    assert memory["peak_mb"] >= memory["before_mb"] > 10


@pytest.mark.slow
def test_predict(tmp_path: Path, shared_data: Path) -> None:
    sizes = ("--images", "8", "--repeats", "1", "--memory", "70")
    report = measured(tmp_path, "predict", "--data", str(shared_data), *sizes)
    small, large, real, memory = report["results"]
    assert [row["pictures"] for row in report["results"]] == ["640 x 480", "4000 x 3000", "BCCD, 640 x 480", 70]
    assert [row["curate"]["images"] for row in (small, large, real)] == [7, 1, 7]
    assert [small["model"]["images"], small["commit of one"]["images"], memory["images"]] == [8, 1, 69]
    assert memory["peak_mb"] >= memory["before_mb"] > 10


@pytest.mark.parametrize("name", ["label_errors_scale", "mistakes_detection"])
def test_without_cleanlab_it_says_what_to_install(name: str) -> None:
    code = WITHOUT_CLEANLAB.format(f"benchmarks.{name}")
    done = subprocess.run([sys.executable, "-c", code, name], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr == "error: cleanlab is not installed (pip install 'curate-vision[bench]')\n"


def test_page_has_every_table_and_no_names_of_machines() -> None:
    report = {"table": "| a |\n| --- |\n| 1 |", "notes": ["b is left out"], "date": "2026-01-02", "machine": machine()}
    text = page({name: report | {"command": f"python -m benchmarks.{name}"} for name in ("encoders", "import_coco")})
    assert text.count("| --- |") == 2
    assert text.count("Note: b is left out.") == 2
    assert "- encoders, import_coco: cores " in text  # one machine, said once
    assert str(Path.home()) not in text


def test_the_tables_of_the_page_on_performance_are_those_of_the_results() -> None:
    text = DOCUMENT.read_text()
    results = {path.stem: json.loads(path.read_text()) for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert re.findall(r"<!-- table: (\w+) -->", text) == ["versus", "growth", "startup"]
    assert with_tables(text, results) == text


def test_tables_are_put_between_their_marks() -> None:
    text = "a\n<!-- table: versus -->\nold\n<!-- end -->\nb\n<!-- table: other -->\nkept\n<!-- end -->\n"
    made = with_tables(text, {"versus": {"command": "python -m it", "date": "2026-01-02", "table": "| new |"}})
    assert made == text.replace("old", "`python -m it`, 2026-01-02\n\n| new |")


def test_startup(tmp_path: Path) -> None:
    report = measured(tmp_path, "startup", "--repeats", "1")
    assert [row["command"] for row in report["results"]] == [
        *("python -c pass", "curate --version", "curate --help", "curate ls")
    ]
    assert all(row["cpu_s"] > report["results"][0]["cpu_s"] for row in report["results"][1:])


def test_versus_gives_every_contender_the_same_work(tmp_path: Path) -> None:
    report = measured(
        tmp_path, "versus", "--scale", "0.02", "--repeats", "2", "--only", "evaluate", "mistakes, classes"
    )
    found = {(row["row"], row["contender"]): row for row in report["results"]}
    assert found["evaluate", "curate"]["found"] == found["evaluate", "pycocotools"]["found"]  # AP, in millionths
    assert {row["size"] for name, row in found.items() if name[0] == "evaluate"} == {100}
    assert found["mistakes, classes", "curate"]["cpu_s"] > found["mistakes, classes", "limit"]["cpu_s"] > 0
    assert all(row["peak_mb"] > 10 for row in found.values())
    assert report["settings"]["rates"]["memory_gb"] > 0


def test_growth_is_fitted(tmp_path: Path) -> None:
    report = measured(tmp_path, "growth", "--sizes", "200", "400", "--only", "info", "export --where")
    assert [row["command"] for row in report["results"]] == ["info", "export --where"]
    for row in report["results"]:
        assert [point["images"] for point in row["points"]] == [200, 400]
        assert all(point["cpu_s"] > 0.05 for point in row["points"])
    points = [{"images": n, "cpu_s": n**1.5, "peak_mb": 100 + n / 1000} for n in (10, 1_000, 10_000, 100_000)]
    assert fitted(points) == {"exponent": 1.5, "mb_per_million": 1000}
