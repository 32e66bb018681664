"""What goes into a report: choice, pictures within a limit, shapes, charts, and files that are left alone."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from curate.checks.evaluation.store import store_evaluations
from curate.checks.findings import Finding, from_table, to_table
from curate.checks.shift.stored import read_slices
from curate.cli import app
from curate.dataset import begin, open_dataset
from curate.dataset.ids import image_ids
from curate.errors import CurateError, UsageError
from curate.geometry import encode_rle
from curate.loop.machine import State
from curate.report.html.build import Choice, Report, write_report
from curate.report.html.cards import choose_findings
from curate.report.html.charts import bar_chart, clean, heatmap, histogram
from curate.report.html.outlines import CLOSED, OPEN, POINTS, annotation_outlines, box_outline
from curate.report.html.page import SCRIPTS, as_json
from curate.report.html.pictures import LEVELS, Source, Wanted, make_pictures, window_around
from curate.report.html.places import place_images
from curate.report.html.rounds import model_confusions, without_home
from curate.report.html.setups import cluster_rows, clusters_of
from curate.report.html.summary import count_classes, count_findings
from tests.report.report_sets import HEIGHT, PLAIN_NAMES, WIDTH, evaluate_set, make_set

ABSENT = dict.fromkeys(("type", "label", "bbox", "rotated_box", "polygons", "rle", "rle_size", "keypoints"))


def data_of(path: Path) -> dict[str, object]:
    """The data in a page."""
    text = path.read_text().partition('id="data">')[2].partition("</script>")[0]
    found: dict[str, object] = json.loads(text)
    return found


def write(name: str, path: Path, **choice: object) -> Report:
    return write_report(open_dataset(name), path, Choice(**choice))  # type: ignore[arg-type]


def test_a_report_reads_and_writes_nothing_in_the_dataset(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    report = write("plain", tmp_path / "r.html")
    assert open_dataset("plain").commit.number == 1
    assert (report.findings, report.all_findings) == (12, 12)
    assert report.pictures == report.wanted_pictures > 6
    assert report.bytes == report.path.stat().st_size
    assert report.notes == ["exposure and blur were not measured: 'curate quality' does"]


def test_the_same_dataset_gives_the_same_report(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    pages = []
    for name in ("a", "b"):
        write("plain", tmp_path / f"{name}.html")
        data = data_of(tmp_path / f"{name}.html")
        del data["made"]
        pages.append(data)
    assert pages[0] == pages[1]


def test_a_condition_and_a_score_choose_what_is_counted_and_shown(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    assert write("plain", tmp_path / "a.html", where="kind = 'leak'").all_findings == 1
    assert write("plain", tmp_path / "b.html", min_score=0.9).all_findings == 4
    with pytest.raises(UsageError, match="condition"):
        write("plain", tmp_path / "c.html", where="colour = 'red'")
    with pytest.raises(UsageError, match="probability"):
        write("plain", tmp_path / "c.html", min_score=2.0)
    assert not (tmp_path / "c.html").exists()


def test_fewer_cards_than_findings_are_told_and_every_kind_has_its_share(tmp_path: Path) -> None:
    found = make_set("plain", tmp_path, copies=30)
    report = write("plain", tmp_path / "r.html", most=15)
    assert (report.findings, report.all_findings) == (15, 41)
    assert report.notes[0].startswith("15 of 41 findings have a card")
    kinds = [card["kind"] for card in data_of(report.path)["cards"]]  # type: ignore[attr-defined]
    assert set(kinds) == {finding.kind for finding in found}


def test_those_to_be_decided_on_come_first() -> None:
    done = Finding("mislabeled", 0.99, "a", "00000000000000aa", "mistakes", annotation_id="1", status="fixed")
    rows = [done, replace(done, score=0.2, annotation_id="2", status="open")]
    assert [each.status for each in choose_findings(to_table(rows), 1)] == ["open"]
    assert [each.score for each in choose_findings(to_table(rows), 2)] == [0.99, 0.2]
    assert choose_findings(to_table(rows), 0) == []


def test_the_limit_of_bytes_is_kept_by_smaller_then_fewer_pictures(tmp_path: Path) -> None:
    make_set("plain", tmp_path, copies=100)
    make_noise(tmp_path)
    limits = (3_000_000, 220_000, 150_000)
    reports = [write("plain", tmp_path / f"{limit}.html", max_bytes=limit) for limit in limits]
    assert all(report.path.stat().st_size <= limit for report, limit in zip(reports, limits, strict=True))
    assert reports[0].bytes > reports[1].bytes > reports[2].bytes
    assert [report.findings == 111 for report in reports] == [True, True, False]
    assert reports[0].pictures == reports[1].pictures == 12
    assert "have a card" in reports[2].notes[0]


def test_where_even_small_pictures_are_too_large_the_last_are_left_out(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    make_noise(tmp_path)
    ids = image_ids(PLAIN_NAMES).to_pylist()
    wanted = Wanted({each: Source("x", str(tmp_path / f"{k}.png"), WIDTH, HEIGHT) for k, each in enumerate(ids)})
    for each in ids:
        wanted.want(each)
    made = make_pictures(wanted, 7_000)
    assert made.side == LEVELS[-1][0]
    kept = [each is not None for each in made.encoded]
    assert 0 < made.beyond == 6 - sum(kept) < 6
    assert kept[0]


def make_noise(folder: Path) -> None:
    """Pictures that are large whatever one does."""
    random = np.random.default_rng(0)
    for number in range(len(PLAIN_NAMES)):
        noise = random.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")


def test_a_limit_below_what_the_text_takes_is_an_error(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    with pytest.raises(UsageError, match="without one picture") as refused:
        write("plain", tmp_path / "r.html", max_bytes=60_000)
    assert not (tmp_path / "r.html").exists()
    advised = re.match(r"--max-mb (\d+\.\d) or more", refused.value.remedy or "")
    assert advised
    assert write("plain", tmp_path / "r.html", max_bytes=round(float(advised[1]) * 1e6)).bytes > 60_000


def test_images_that_are_not_there_are_told_and_stop_nothing(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"no image")
    report = write("plain", tmp_path / "r.html")
    assert report.pictures < report.wanted_pictures
    (note,) = [note for note in report.notes if "could not be read" in note]
    assert f"the first: {PLAIN_NAMES[1]}: " in note
    assert str(tmp_path) not in note


def test_a_dataset_without_anything_has_a_report(tmp_path: Path) -> None:
    with begin("empty", command="test", create=True):
        pass
    report = write("empty", tmp_path / "r.html")
    assert (report.findings, report.pictures) == (0, 0)
    assert any("'curate check'" in note for note in report.notes)


def test_what_changed_since_a_commit_is_counted(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    assert CliRunner().invoke(app, ["reject", "-d", "plain", "--where", "kind = 'dark'"]).exit_code == 0
    write("plain", tmp_path / "r.html", since=1)
    assert data_of(tmp_path / "r.html")["changes"] == [
        {"table": "findings", "what": "changed", "count": 1, "by": {"dark": 1}}
    ]
    with pytest.raises(CurateError, match="no commit 9"):
        write("plain", tmp_path / "r.html", since=9)


def test_only_older_reports_are_replaced(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    precious = tmp_path / "annotations.json"
    precious.write_text("{}")
    result = CliRunner().invoke(app, ["report", "-d", "plain", "-o", str(precious)])
    assert result.exit_code == 2
    assert "is no report" in result.stderr
    assert precious.read_text() == "{}"
    for _ in range(2):
        result = CliRunner().invoke(app, ["report", "-d", "plain", "-o", str(tmp_path / "r.html"), "--json"])
        assert json.loads(result.stdout)["findings"] == 12
    for wrong in (tmp_path, tmp_path / "nowhere" / "r.html"):
        assert CliRunner().invoke(app, ["report", "-d", "plain", "-o", str(wrong)]).exit_code == 2


def test_a_pipe_and_a_link_to_one_are_left_where_they_are(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for target in (pipe, link):
        result = CliRunner().invoke(app, ["report", "-d", "plain", "-o", str(target)])
        assert result.exit_code == 2
        assert "a named pipe" in result.stderr
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_a_report_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    folder = tmp_path / "kept"
    folder.mkdir()
    real, link = folder / "r.html", tmp_path / "link.html"
    link.symlink_to(real)
    for _ in range(2):
        write("plain", link)
        assert link.is_symlink()
        assert real.stat().st_size > 10_000
    real.write_text("{}")
    with pytest.raises(UsageError, match="is no report"):
        write("plain", link)
    assert real.read_text() == "{}"


def test_the_command_writes_beside_the_user_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set("plain", tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", "-d", "plain", "--max-mb", "1"])
    assert result.exit_code == 0
    assert "plain-report.html: 0.1 MB, 12 findings" in result.stderr
    assert (tmp_path / "plain-report.html").is_file()


def test_the_page_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    write("plain", tmp_path / "r.html")
    assert str(tmp_path) not in (tmp_path / "r.html").read_text()
    assert without_home(f"curate import {Path.home()}/parts") == "curate import ~/parts"


@given(st.text() | st.lists(st.text(), max_size=3))
def test_no_text_ends_the_element_that_it_is_in(value: object) -> None:
    text = as_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert text.isascii()
    assert json.loads(text) == value


def test_findings_are_counted_by_check_kind_and_status(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    dataset = open_dataset("plain")
    rows = {(row["check"], row["kind"]): row for row in count_findings(dataset.table("findings"))}
    assert len(rows) == 11
    mislabeled = rows["mistakes", "mislabeled"]
    assert (mislabeled["all"], mislabeled["flagged"], mislabeled["open"], mislabeled["fixed"]) == (2, 2, 1, 1)
    assert mislabeled["expected"] == pytest.approx(1.8, abs=0.05)
    bolt, nut = sorted(
        count_classes(dataset, dataset.table("findings"), dataset.table("images")), key=lambda row: str(row["class"])
    )
    assert (bolt["class"], bolt["objects"], bolt["splits"]) == ("bolt", 3, {"train": 2, "val": 1})
    assert (nut["objects"], nut["flagged"]) == (3, 3)


def test_leaks_and_slices_are_counted_among_all_findings(tmp_path: Path) -> None:
    """Whether they have a card or not, but for those that are settled."""
    make_set("plain", tmp_path)
    table = open_dataset("plain").table("findings")
    leak, shifted = (next(each for each in from_table(table) if each.kind == kind) for kind in ("leak", "shifted"))
    more = [replace(leak, image_id=f"{number:016x}") for number in range(30)]
    more += [replace(leak, image_id=f"{number:016x}", status="fixed") for number in range(30, 34)]
    more += [replace(shifted, image_id=f"{number:016x}") for number in range(40, 52)]
    told = {**shifted.evidence, "slice": "by night", "p_value": 0.04}
    more += [replace(shifted, image_id=f"{number:016x}", evidence=told) for number in range(60, 63)]
    with begin("plain", command="test") as transaction:
        transaction.append("findings", [to_table(more)])
    write("plain", tmp_path / "r.html", most=5)
    data: Any = data_of(tmp_path / "r.html")
    assert len(data["cards"]) == 5
    assert data["leaks"] == [{"split": "val", "other": "train", "images": 31}]
    rows = [(each["slice"], each["images"], each["findings"], each["p_value"]) for each in data["slices"]]
    assert rows == [("dark, nut", 4, 13, 0.001), ("by night", None, 3, 0.04)]


def test_set_ups_of_light_and_kinds_of_content_are_told_and_color_the_map(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    slices = read_slices(open_dataset("plain"))
    rows = cluster_rows(slices)
    assert [(row["found_by"], row["slice"], row["images"], row["error"]) for row in rows] == [
        ("light", "dark, nut", 4, 0.4),
        ("light", "bright", 2, 0.1),
        ("content", "rich", 3, None),
        ("content", "plain", 2, None),
    ]
    assert [row["measured"] for row in rows[:2]] == ["brightness 21 (48.5)", ""]
    ids = image_ids(PLAIN_NAMES).to_pylist()
    clusters = clusters_of([ids[5], ids[0], ids[2]], slices)
    assert clusters == {
        "light": {"names": ["dark, nut", "bright"], "of": [1, 0, 0]},
        "content": {"names": ["plain", "rich"], "of": [-1, 0, 1]},
    }
    assert clusters_of(ids, {}) == {}


def test_what_models_confuse_is_told_of_their_newest_evaluation(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    assert model_confusions(open_dataset("plain")) == []
    evaluate_set("plain")
    (found,) = model_confusions(open_dataset("plain"))
    assert (found["layer"], found["commit"], found["counted"]) == ("predictions/model", 1, "objects")
    assert found["rows"][0] == {"true": "bolt", "predicted": "nut", "count": 5, "share": 0.5}
    write("plain", tmp_path / "r.html")
    charts: Any = data_of(tmp_path / "r.html")["charts"]
    (chart,) = [each for each in charts if each["title"] == "Confusion of predictions/model"]
    assert ["(nothing)", "nut", 1] in chart["rows"]


def test_what_is_drawn_of_an_object_is_traced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many cards show it, and however often a page is tried."""
    make_set("plain", tmp_path, copies=100)
    make_noise(tmp_path)
    traced: list[tuple[Any, Any]] = []

    def counting(row: Any, window: Any) -> Any:
        traced.append((row["annotation_id"], window))
        return annotation_outlines(row, window)

    monkeypatch.setattr("curate.report.html.cards.annotation_outlines", counting)
    report = write("plain", tmp_path / "r.html", max_bytes=150_000)
    assert "have a card" in report.notes[0]
    drawn = [each for each in traced if each[0] is not None]
    assert len(drawn) == len(set(drawn)) > 100


@given(st.tuples(*[st.floats(-500, 1500)] * 2, *[st.floats(0, 2000)] * 2), st.integers(1, 2000), st.integers(1, 2000))
def test_a_window_lies_in_its_image_and_shows_the_middle_of_its_box(
    box: tuple[float, float, float, float], width: int, height: int
) -> None:
    x, y, w, h = window_around(box, width, height)
    assert 0 <= x <= x + w <= width
    assert 0 <= y <= y + h <= height
    assert w >= 1
    assert h >= 1
    middle = (box[0] + box[2] / 2, box[1] + box[3] / 2)
    if 0 <= middle[0] <= width and 0 <= middle[1] <= height:
        assert x <= middle[0] + 1
        assert middle[0] <= x + w + 1
        assert y <= middle[1] + 1
        assert middle[1] <= y + h + 1
    assert window_around((np.nan, 0, 1, 1), width, height) == (0, 0, width, height)


def test_pictures_are_wanted_once_and_made_as_large_as_there_is_room(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    ids = image_ids(PLAIN_NAMES).to_pylist()
    sources = {each: Source("x", str(tmp_path / f"{k}.png"), WIDTH, HEIGHT) for k, each in enumerate(ids)}
    wanted = Wanted({**sources, "no file": Source("x", None, 9, 9), "no size": Source("x", None, None, None)})
    assert [wanted.want(each) for each in [*ids, ids[0]]] == [0, 1, 2, 3, 4, 5, 0]
    assert wanted.want(ids[0], (1, 1, 9, 9)) == 6
    assert wanted.want("no file") is wanted.want("no size") is wanted.want("unknown") is None
    assert make_pictures(wanted, 10**6).side == LEVELS[0][0]
    nothing = make_pictures(wanted, 0)
    assert (nothing.beyond, set(nothing.encoded)) == (7, {None})


def test_outlines_are_in_thousandths_of_the_pictures_width() -> None:
    window = (100.0, 50.0, 200.0, 100.0)
    assert box_outline((100, 50, 200, 100), window) == [(CLOSED, [0, 0, 1000, 0, 1000, 500, 0, 500])]
    assert box_outline((np.nan, 0, 1, 1), window) == []
    mask = np.zeros((200, 400), np.uint8)
    mask[60:100, 120:200] = 1
    ((how, points),) = annotation_outlines({**ABSENT, "rle": encode_rle(mask), "rle_size": [200, 400]}, window)
    assert how == CLOSED
    assert min(points[::2]) == pytest.approx(100, abs=4)
    assert max(points[1::2]) == pytest.approx(250, abs=4)
    line = {**ABSENT, "type": "polyline", "polygons": [[100.0, 50.0, 300.0, 150.0]]}
    assert annotation_outlines(line, window) == [(OPEN, [0, 0, 1000, 500])]
    posed = {**ABSENT, "bbox": None, "keypoints": [100.0, 50.0, 2.0, 0.0, 0.0, 0.0]}
    assert annotation_outlines(posed, window) == [(POINTS, [0, 0])]
    assert annotation_outlines({**ABSENT, "rle": "broken", "rle_size": [9, 9]}, window) == []
    circle = np.arange(0, 2 * np.pi, 0.001)
    many = np.stack([200 + 80 * np.cos(circle), 100 + 40 * np.sin(circle)], axis=1).ravel().tolist()
    ((_, fewer),) = annotation_outlines({**ABSENT, "type": "polygon", "polygons": [many]}, window)
    assert len(fewer) <= 160


def test_a_drawing_holds_nothing_that_runs_or_is_fetched() -> None:
    svg = clean(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9" onload="x()">'
        '<script>x()</script><style>*{}</style><a xlink:href="https://example.com"><path d="M0,0"/></a>'
        '<g style="x"><path d="M0,0" aria-label="&lt;b&gt;" onclick="x()" fill="red"/></g><foreignObject/></svg>'
    )
    assert 'viewBox="0 0 9 9"' in svg
    assert "<title>&lt;b&gt;</title>" in svg
    for gone in ("script", "style", "href", "onclick", "onload", "foreignObject"):
        assert gone not in svg


def test_every_script_beside_the_page_is_in_it() -> None:
    there = {each.name for each in files("curate.report.html").joinpath("js").iterdir()}
    assert there == set(SCRIPTS)


def test_charts_hold_any_name_as_text_and_all_numbers_as_a_table() -> None:
    odd = "<script>alert(1)</script>"
    names = [odd, "x" * 300, f"{'x' * 299}y", "bell\x07", "מסמר", "", "a.b[0]\\"]
    rows = [{"name": name, "part": "all", "value": k + 1, "says": f"{name}: {k}"} for k, name in enumerate(names)]
    chart = bar_chart(rows, title="Classes", unit="objects", caption="")
    assert "<script>" not in chart.svg
    assert chart.svg.count("<title>") == len(names)
    assert [row[2] for row in chart.rows] == [1, 2, 3, 4, 5, 6, 7]
    assert histogram([1, 2], [0, 1, 2], title="", unit="", caption="").rows == [["0", "1", 1], ["1", "2", 2]]
    cell = {"row": odd, "column": "b", "value": 1.5, "says": odd}
    assert "<script>" not in heatmap([cell], title="", caption="", row="given", column="probably", value="wrong").svg


def test_the_map_is_laid_out_alike_every_time_and_keeps_what_has_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set("plain", tmp_path)
    ids = image_ids(PLAIN_NAMES).to_pylist()
    first, again = (place_images(open_dataset("plain"), [], seed=1) for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.to_json() == again.to_json()
    assert first.x.min() >= 0
    assert first.x.max() <= 1
    monkeypatch.setattr("curate.report.html.places.MOST", 2)
    fewer = place_images(open_dataset("plain"), ids[3:5])
    assert fewer is not None
    assert sorted(fewer.ids) == sorted(ids[3:5])
    assert fewer.total == 6


def test_a_report_may_have_no_cards_at_all(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    report = write("plain", tmp_path / "r.html", most=0)
    assert (report.findings, report.all_findings) == (0, 12)
    assert data_of(report.path)["kinds"]


def test_rounds_and_models_are_told_with_what_they_gained(tmp_path: Path) -> None:
    make_set("plain", tmp_path)
    for commit, value in ((1, 0.5), (2, 0.6)):
        row = {
            "layer": "predictions/m",
            "labels": "ground_truth",
            "task": "detect",
            "where": None,
            "images": 6 + commit,
        }
        with begin("plain", command="curate evaluate") as transaction:
            numbers: dict[str, Any] = {
                "metrics": {"AP": value, "AP50": 0.9},
                "classes": {},
                "slices": {"split:val": 0.4},
            }
            measured = {**row, **numbers, "confusion": []}
            store_evaluations(transaction, [(open_dataset("plain"), measured)])
    state = State(
        log=[{"round": 1, "step": "evaluate", "time": "", "metric": 0.6}, {"round": 1, "step": "wait", "fixed": 3}]
    )
    loops = open_dataset("plain").path / "loops"
    loops.mkdir()
    (loops / "night.json").write_text(json.dumps(asdict(state)))
    path = tmp_path / "r.html"
    assert CliRunner().invoke(app, ["report", "-d", "plain", "-o", str(path)]).exit_code == 0
    data: Any = data_of(path)
    assert [(each["metric"], each["value"], each["gain"]) for each in data["evaluations"]] == [
        ("AP", 0.5, None),
        ("AP", 0.6, 0.1),
    ]
    assert data["evaluations"][0]["slices"] == [["split:val", 0.4]]
    assert [(each["loop"], each["round"], each["fixed"], each["metric"]) for each in data["rounds"]] == [
        ("night", 1, 3, 0.6)
    ]
    assert "Models over the commits" in [chart["title"] for chart in data["charts"]]
