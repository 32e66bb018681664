"""The commands as a user types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset.home import home
from tests.commands.typed import curate, lines
from tests.pictures import make_stripes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An ImageFolder of stripes, two of them in the wrong class."""
    return make_stripes(tmp_path / "stripes")


@pytest.fixture
def stripes(folder: Path) -> str:
    curate("import", folder, "-d", "stripes")
    return "stripes"


def test_help_is_there_for_every_command() -> None:
    names = [command.name for command in app.registered_commands]
    assert {"demo", "import", "export", "ls", "info", "history", "diff", "undo", "rm", "embed", "mistakes"} <= set(
        names
    )
    for name in names:
        assert "--json" in curate(str(name), "--help").stdout


def test_version() -> None:
    assert curate("--version").stdout.startswith("curate 0.")


def test_import_says_what_it_read_and_importing_again_changes_nothing(folder: Path) -> None:
    (first,) = lines(curate("import", folder, "-d", "stripes", "--json"))
    assert first["format"] == "imagefolder"
    assert first["reason"]
    assert first["changes"] == {"images added": 60, "classes added": 2, "annotations added": 60}
    assert first["losses"] == []
    (second,) = lines(curate("import", folder, "-d", "stripes", "--json"))
    assert (second["changes"], second["commit"]) == ({}, 1)
    assert "nothing new" in curate("import", folder, "-d", "stripes").stderr


def test_ls_info_history(stripes: str, folder: Path) -> None:
    assert lines(curate("ls", "--json"))[0] | {"time": ""} == {
        "name": stripes,
        "images": 60,
        "annotations": 60,
        "predictions": 0,
        "open_findings": 0,
        "commit": 1,
        "time": "",
    }
    (info,) = lines(curate("info", stripes, "--json"))
    assert info["classes"] == {"ground_truth": {"horizontal": 30, "vertical": 30}}
    assert info["layers"] == {"ground_truth": {"label": 60}}
    assert "30" in curate("info", "-d", stripes).stdout
    assert "60 images added" in curate("history", stripes).stdout
    assert lines(curate("history", stripes, "--json"))[0]["changes"]["images added"] == 60


def test_diff_and_undo(stripes: str, folder: Path) -> None:
    (folder / "vertical" / "00.png").rename(folder / "horizontal" / "00.png")
    (folder / "vertical" / "new.png").write_bytes((folder / "horizontal" / "01.png").read_bytes())
    curate("import", folder, "-d", stripes)
    (diff,) = lines(curate("diff", "1", "2", "-d", stripes, "--json"))
    # The class folder is part of the location, so a moved picture is a new one; the old row stays until removed.
    assert diff["images"]["added"]["count"] == 2
    assert "2 images added" in curate("diff", "1", "2", "-d", stripes).stdout
    curate("undo", "-d", stripes)
    assert "no difference" in curate("diff", "1", "3", "-d", stripes).stdout
    assert "nothing to undo" in curate("undo", "-d", stripes, status=2).stderr


def test_rm_asks_first(stripes: str) -> None:
    for answer in ("n\n", "\n", ""):
        result = CliRunner().invoke(app, ["rm", stripes], input=answer)
        assert result.exit_code == 2
        assert "60 images" in result.stderr
        assert "not removed" in result.stderr
        assert "--yes" in result.stderr
        assert result.stdout == ""
    assert len(lines(curate("ls", "--json"))) == 1
    assert lines(curate("rm", stripes, "--yes", "--json")) == [{"removed": stripes}]
    assert lines(curate("ls", "--json")) == []
    assert f"no datasets yet in {home() / 'datasets'}" in curate("ls").stderr


def test_rm_takes_yes_for_an_answer(stripes: str) -> None:
    assert "removed stripes" in CliRunner().invoke(app, ["rm", stripes], input="y\n").stderr
    assert lines(curate("ls", "--json")) == []


def test_ls_where_the_home_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("x")
    text = curate("ls", status=2).stderr
    assert "cannot be listed" in text
    assert str(tmp_path / "file") in text
    assert "CURATE_HOME" in text


def test_predictions_are_counted_apart(stripes: str, tmp_path: Path) -> None:
    curate("export", tmp_path / "out", "-d", stripes, "-f", "coco")
    curate("import", tmp_path / "out", "-d", "both", "-f", "coco")
    curate("import", tmp_path / "out", "-d", "both", "-f", "coco", "--layer", "predictions/net")
    row = next(row for row in lines(curate("ls", "--json")) if row["name"] == "both")
    assert (row["annotations"], row["predictions"]) == (60, 60)


def test_export_to_coco_counts_what_it_wrote(stripes: str, tmp_path: Path) -> None:
    (report,) = lines(curate("export", tmp_path / "a", "-d", stripes, "-f", "coco", "--json"))
    assert report["carried"] == {"images": 60, "annotations": 60, "classes": 2}
    shown = curate("export", tmp_path / "b", "-d", stripes, "-f", "coco", "--where", "location like '%/06.png'").stdout
    assert "came over: 1 image, 2 classes, 1 annotation\n" in shown


def test_a_second_file_says_what_stays_and_places_are_relative(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]}],
    }
    (tmp_path / "a.jpg").write_bytes(b"no image")
    for name in ("first", "second", "third"):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    shown = curate("import", tmp_path / "first.json", "-d", "cats")
    assert "1 image added" in shown.stderr
    assert "    at a.jpg: " in shown.stdout
    assert str(tmp_path) not in shown.stdout
    (second,) = lines(curate("import", tmp_path / "second.json", "-d", "cats", "--json"))
    assert second["kept_from_other_files"] == {"first.json": 1}
    third = curate("import", tmp_path / "third.json", "-d", "cats").stderr
    assert "keep annotations from other files: 1 from first.json, 1 from second.json\n" in third


def test_help_says_what_arguments_are() -> None:
    assert re.search(r"SOURCE +File, folder, or archive", curate("import", "--help").stdout)
    assert re.search(r"A\] +Commit number\.", curate("diff", "--help").stdout)
    assert re.search(r"NAME\] +The dataset;", curate("rm", "--help").stdout)


def test_embed_reuses_what_is_there(stripes: str) -> None:
    (first,) = lines(curate("embed", "-d", stripes, "--json"))
    (second,) = lines(curate("embed", "-d", stripes, "--json"))
    assert (first["embedded"], first["reused"]) == (60, 0)
    assert (second["embedded"], second["reused"]) == (0, 60)
    assert [row["commit"] for row in lines(curate("history", stripes, "--json"))] == [2, 1]


def test_mistakes_puts_wrong_labels_first(stripes: str) -> None:
    found = lines(curate("mistakes", "-d", stripes, "--json"))
    assert {Path(finding["image"]).name for finding in found[:2]} == {"06.png", "13.png"}
    first = found[0]
    assert first["kind"] == "mislabeled"
    assert first["score"] > 0.5
    assert {first["given"], first["suggested"]} == {"horizontal", "vertical"}
    assert first["status"] == "open"
    assert first["commit"] == 2
    assert first["related"]
    evidence = first["evidence"]
    assert evidence["p_suggested"] > evidence["p_given"]
    assert [finding["score"] for finding in found] == sorted((finding["score"] for finding in found), reverse=True)
    assert sum(finding["score"] >= 0.5 for finding in found) == 2
    assert lines(curate("findings", "-d", stripes, "--json")) == found


def test_mistakes_prints_counts_rows_and_confused_classes(stripes: str) -> None:
    text = curate("mistakes", "-d", stripes).stdout
    assert "mislabeled" in text
    assert "06.png" in text
    assert "Classes confused" in text


def test_mistakes_twice_is_one_commit_less(stripes: str) -> None:
    first = lines(curate("mistakes", "-d", stripes, "--json"))
    second = lines(curate("mistakes", "-d", stripes, "--json"))
    assert [(f["id"], f["score"]) for f in first] == [(f["id"], f["score"]) for f in second]


def test_what_only_a_gate_looks_at_is_not_printed(stripes: str) -> None:
    arguments = ("mistakes", "-d", stripes, "--min-score", "0.9", "--fail-on", "mislabeled:0.1", "--json")
    assert all(row["score"] >= 0.9 for row in lines(curate(*arguments, status=1)) if row["kind"] == "mislabeled")
    assert "2 is not a probability" in curate("findings", "-d", stripes, "--min-score", "2", status=2).stderr


def test_fail_on_is_for_ci(stripes: str) -> None:
    assert "failed: 2 mislabeled" in curate("mistakes", "-d", stripes, "--fail-on", "mislabeled", status=1).stderr
    curate("mistakes", "-d", stripes, "--fail-on", "missing")
    assert "no kind" in curate("mistakes", "-d", stripes, "--fail-on", "nonsense", status=2).stderr
    # A gate looks at what --min-score would leave out.
    curate("mistakes", "-d", stripes, "--min-score", "1", "--fail-on", "mislabeled:0.3", status=1)


def test_a_rejected_finding_stays_rejected(stripes: str) -> None:
    first = lines(curate("mistakes", "-d", stripes, "--json"))[0]
    curate("reject", first["id"], "-d", stripes)
    again = lines(curate("mistakes", "-d", stripes, "--json"))[0]
    assert (again["id"], again["status"]) == (first["id"], "rejected")
    shown = curate("mistakes", "-d", stripes).stdout
    assert first["id"][:8] not in shown
    assert "1 more were rejected or are fixed" in shown
    curate("accept", "--where", "status = 'open'", "-d", stripes)
    assert not lines(curate("findings", "-d", stripes, "--status", "open", "--json"))


def test_export_appears_whole_or_not_at_all(stripes: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert "--copy" in curate("export", target, "-d", stripes, "-f", "imagefolder", status=2).stderr
    assert not target.exists()
    (report,) = lines(curate("export", target, "-d", stripes, "-f", "imagefolder", "--copy", "--json"))
    assert len(list(target.rglob("*.png"))) == 60
    assert report["target"] == str(target)
    assert "there already" in curate("export", target, "-d", stripes, "-f", "coco", status=2).stderr
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_where_chooses_images(stripes: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    curate("export", target, "-d", stripes, "-f", "imagefolder", "--link", "--where", "location like '%/0%.png'")
    assert len(list(target.rglob("*.png"))) == 10
    assert "cannot be understood" in curate("mistakes", "-d", stripes, "--where", "nonsense = 1", status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["info", "nothing"], 2, "no dataset named 'nothing'"),
        (["info"], 2, "no dataset was named"),
        (["mistakes", "-d", "nothing"], 2, "no dataset named"),
        (["import", "/nowhere", "-d", "x"], 2, "no such file or folder"),
        (["import", ".", "-d", "../x"], 2, "cannot be a dataset's name"),
        (["import", ".", "-d", "Nul.x"], 2, "cannot be a dataset's name"),
        (["import", ".", "-d", "x", "--layer", "foo/bar"], 2, "cannot be a layer"),
        (["import", ".", "-d", "x", "--format", "nonsense"], 2, "no format named 'nonsense'"),
        (["nonsense"], 2, "No such command"),
        (["diff", "1"], 2, "--dataset"),
        (["leaks", "-d", "x", "--fail-on", "dark"], 2, "nothing that is run finds 'dark'"),
        (["check", "-d", "x", "--only", "leaks", "--fail-on", "missing"], 2, "nothing that is run finds 'missing'"),
    ],
)
def test_wrong_use_gives_one_clear_error(arguments: list[str], status: int, words: str) -> None:
    result = curate(*arguments, status=status)
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_shows_the_traceback() -> None:
    command = [sys.executable, "-c", "from curate.cli import main; main()", "info", "nothing", "--debug"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "DatasetNotFound" in result.stderr
    assert "Traceback" in result.stderr
