"""The report in a real browser: every control, odd names, decisions out and back in, and accessibility."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from curate.checks.store import stored_findings
from curate.cli import app
from curate.dataset import open_dataset
from curate.report.html.build import Choice, write_report
from tests.report.report_sets import ODD_CLASSES, ODD_NAMES, PLAIN_CLASSES, evaluate_set, make_set, prove_and_stress_set
from tests.servers.browser import Open

if TYPE_CHECKING:
    from playwright.sync_api import Page

SECTIONS = (
    "summary",
    "findings",
    "classes",
    "taken",
    "copies",
    "leaks",
    "slices",
    "spread",
    "map",
    "rounds",
    "robustness",
    "history",
)
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A report of the dataset 'plain'."""
    return report_of("plain", tmp_path)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A report of a dataset in which every name is odd."""
    return report_of("odd", tmp_path, names=ODD_NAMES, classes=ODD_CLASSES)


def report_of(name: str, folder: Path, **options: Any) -> Path:
    make_set(name, folder, **options)
    evaluate_set(name, options.get("classes", PLAIN_CLASSES))
    prove_and_stress_set(name, options.get("classes", PLAIN_CLASSES))
    path = folder / f"{name}.html"
    write_report(open_dataset(name), path, Choice())
    return path


def read_findings(page: Page) -> None:
    """Go to the findings, and wait until those in sight are made."""
    page.evaluate("document.getElementById('findings-about').scrollIntoView()")
    page.locator(".card .body").first.wait_for()


def choose(page: Page, field: str, value: str) -> None:
    """Set a filter, and wait until the first card that it leaves is made."""
    page.select_option(f"#by-{field}", value)
    page.locator(".card").first.scroll_into_view_if_needed()
    page.locator(".card").first.locator(".body").wait_for()


def shown(page: Page) -> int:
    return page.locator(".card").count()


def test_every_section_is_there_and_says_what_the_dataset_holds(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    for section in SECTIONS:
        assert page.locator(f"#{section}").is_visible(), section
    assert page.locator("#sections a").count() == len(SECTIONS)
    assert page.title() == "plain: what curate found"
    assert page.locator("#figures li").all_inner_texts()[0].split() == ["6", "images"]
    row = page.locator("#kinds tr", has_text="exact duplicate").inner_text().split("\t")
    assert row[1:4] == ["duplicates", "1", "1"]
    assert page.locator("#class-rows tbody tr").count() == 2
    assert "bolt" in page.locator("#confusion-rows").inner_text()
    assert page.locator("#group-rows li img").count() == 2
    assert page.locator("#leak-pairs li img").count() == 2
    assert page.locator("#taken-rows tbody tr").all_inner_texts()[0].split("\t")[:3] == ["bolt", "nut", "5"]
    assert page.locator("#slice-rows tbody tr").inner_text().split("\t")[:4] == ["dark, nut", "light", "4", "1"]
    assert page.locator("#light-rows tbody tr").count() == page.locator("#content-rows tbody tr").count() == 2
    assert "brightness 21 (48.5)" in page.locator("#light-rows").inner_text()
    assert page.locator("#fate-rows tbody tr").count() == 3
    assert "curate import" in page.locator("#commit-rows").inner_text()
    assert page.locator("#map-legend li").count() >= 2


def test_proofs_and_stress_are_shown_with_charts_that_the_keyboard_opens(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    proof = [row.split("\t") for row in page.locator("#proof-rows tbody tr").all_inner_texts()]
    assert [row[1:3] for row in proof] == [["bolt", "target"], ["bolt", "elsewhere"]]
    assert proof[0][6:] == ["0.25", "0.5", "+0.25", "+0.1 to +0.4", "gain"]
    stress = [row.split("\t") for row in page.locator("#stress-rows tbody tr").all_inner_texts()]
    assert stress == [
        ["motion", "44%", "0.2", "0.5", "conveyor_motion"], ["warm", "99%", "0.79", "never", "\u2013"],
    ]  # fmt: skip
    figures = page.locator("#robustness .chart")
    assert figures.locator("h3").all_inner_texts() == ["What run:nut keeps", "Where run:nut breaks"]
    numbers = figures.first.locator("summary")
    numbers.focus()
    page.keyboard.press("Enter")
    assert figures.first.locator("tbody tr").all_inner_texts() == ["motion\tkept\t43.8", "warm\tkept\t98.8"]


def test_leaks_without_a_card_are_counted_all_the_same(tmp_path: Path, open_page: Open) -> None:
    make_set("plain", tmp_path)
    write_report(open_dataset("plain"), tmp_path / "few.html", Choice(most=1))
    page = open_page(tmp_path / "few.html")
    assert page.locator("#leak-rows tbody tr").inner_text().split("\t") == ["val", "train", "1"]
    assert page.locator("#slice-rows tbody tr").inner_text().split("\t")[:4] == ["dark, nut", "light", "4", "1"]


def test_a_card_shows_what_is_there_what_should_be_and_what_it_is_compared_with(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    choose(page, "kind", "=mislabeled")
    card = page.locator(".card").first
    assert card.locator(".score").text_content() == "99%"
    assert card.locator(".labels dd").all_text_contents() == ["bolt", "nut"]
    assert card.locator(".main img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 60
    assert card.locator(".main .line.given").count() == 1
    assert card.locator(".related img").count() == 2
    assert "nut" in card.locator(".related figcaption").first.inner_text()
    card.locator("summary").click()
    assert "p wrong" in card.locator(".pair").inner_text()
    choose(page, "kind", "=mislocated")
    assert page.locator(".card .main .line.suggested").count() == 1
    choose(page, "kind", "=bad_mask")
    assert page.locator(".card .main .line.region").count() == 1


def test_what_was_fixed_shows_what_it_is_now(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    choose(page, "status", "=fixed")
    assert page.locator(".card .labels dt").all_text_contents() == ["labelled", "suggested", "now"]


def test_every_filter_and_order_does_what_it_says(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    # What is decided is left out at first.
    assert shown(page) == 9
    page.select_option("#by-status", "")
    assert shown(page) == 12
    for field, value, count in [
        ("kind", "=mislabeled", 2),
        ("check", "=quality", 2),
        ("status", "=rejected", 1),
        ("class", "=nut", 4),
        ("split", "=val", 6),
        ("slice", "=dark, nut", 1),
        ("decision", "none", 12),
    ]:
        page.select_option(f"#by-{field}", value)
        assert shown(page) == count, field
        page.select_option(f"#by-{field}", "")
    page.fill("#by-score", "0.9")
    assert shown(page) == 4
    page.fill("#by-score", "0")
    page.fill("#by-text", "HOLES")
    assert shown(page) == 1
    page.click("#reset")
    page.locator(".card").nth(11).wait_for(state="attached")
    for order, first in [
        ("kind", "bad mask"),
        ("image", "mislabeled"),
        ("given", "mislabeled"),
        ("commit", "exact duplicate"),
    ]:
        page.select_option("#sort", order)
        assert first in (page.locator(".card h3").first.text_content() or ""), order
    page.fill("#by-text", "there is no such thing")
    assert shown(page) == 0
    assert page.locator("#shown").inner_text() == "0 of 12 findings are shown"


def test_links_above_lead_to_findings(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    page.locator("#kinds button", has_text="leak").click()
    assert shown(page) == 1
    page.locator("#class-rows button", has_text="nut").click()
    assert shown(page) == 4
    page.locator("#slice-rows button").click()
    assert shown(page) == 1
    page.locator("#group-rows button").first.click()
    assert "exact duplicate" in (page.locator(".card h3").first.text_content() or "")


def test_classes_confused_lead_to_the_cards_of_that_pair_alone(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    # The other way round there is a label as well, which was fixed.
    (row,) = page.locator("#confusion-rows tbody tr").all()
    assert row.inner_text().split("\t")[:3] == ["bolt", "nut", "1"]
    row.locator("button").click()
    assert shown(page) == 1
    page.locator(".card .body").wait_for()
    assert page.locator(".card .labels dd").all_text_contents() == ["bolt", "nut"]
    assert page.locator("#by-pair option").all_text_contents() == ["any", "bolt → nut (1)"]
    page.click("#reset")
    page.locator(".card").nth(11).wait_for(state="attached")


def test_keys_move_and_decide_and_can_be_switched_off(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    assert page.locator("#decided").is_hidden()
    ids = page.eval_on_selector_all(".card", "cards => cards.map((card) => card.dataset.place)")
    focused = "document.activeElement.dataset.place"
    page.keyboard.press("j")
    assert page.evaluate(focused) == ids[0]
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert page.evaluate(focused) == ids[0]
    page.keyboard.press("y")
    page.keyboard.press("n")
    assert page.evaluate(focused) == ids[2]
    assert page.locator(".card").nth(0).get_attribute("data-decision") == "accept"
    assert page.locator(".card").nth(1).locator("button.no").get_attribute("aria-pressed") == "true"
    assert page.locator("#decided-count").inner_text() == "Decided: 2 findings (1 yes, 1 no)"
    page.keyboard.press("u")
    assert page.evaluate(focused) == ids[1]
    assert page.locator("#decided-count").inner_text() == "Decided: 1 finding (1 yes, 0 no)"
    page.focus("#by-text")
    page.keyboard.type("jyn")
    assert page.locator("#decided-count").inner_text() == "Decided: 1 finding (1 yes, 0 no)"
    page.fill("#by-text", "")
    page.uncheck("#keys")
    page.locator(".card").nth(3).focus()
    page.keyboard.press("n")
    assert page.locator("#decided-count").inner_text() == "Decided: 1 finding (1 yes, 0 no)"


def test_decisions_survive_a_reload_and_are_forgotten_when_asked(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    read_findings(page)
    page.locator(".card").first.locator("button.yes").click()
    page.select_option("#theme", "dark")
    page.reload()
    read_findings(page)
    assert page.locator("#decided-count").inner_text() == "Decided: 1 finding (1 yes, 0 no)"
    assert page.locator(".card").first.locator("button.yes").get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#clear")
    assert page.locator("#decided").is_hidden()
    page.reload()
    assert page.locator("#decided").is_hidden()


def test_saved_decisions_are_what_accept_reads(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    for kind, button in (("missing", "yes"), ("leak", "no"), ("hard", "yes")):
        choose(page, "kind", f"={kind}")
        page.locator(f".card button.{button}").click()
    page.locator(".card button.yes").click()  # once more takes it back
    with page.expect_download() as download:
        page.click("#save")
    saved = plain.with_name(download.value.suggested_filename)
    download.value.save_as(saved)
    assert saved.name == "plain-decisions.json"
    assert json.loads(page.locator("#file-text").input_value()) == json.loads(saved.read_text())
    assert page.locator("#file-command").inner_text() == "curate accept --from plain-decisions.json -d plain"
    page.click("#copy")
    page.click("#close")
    assert page.locator("#saving").is_hidden()
    result = CliRunner().invoke(app, ["accept", "--from", str(saved), "-d", "plain", "--json"])
    assert json.loads(result.stdout) == {"confirmed": 1, "rejected": 1, "unchanged": 0, "stale": 0, "commit": 4}
    status = {finding.kind: finding.status for finding in stored_findings(open_dataset("plain"))}
    assert (status["missing"], status["leak"], status["hard"]) == ("confirmed", "rejected", "open")


def test_a_browser_that_keeps_nothing_says_so(plain: Path, open_page: Open) -> None:
    broken = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    page = open_page(plain, before=broken)
    read_findings(page)
    page.locator(".card").first.locator("button.no").click()
    assert "save before you leave" in page.locator("#kept").inner_text()


def test_colours_and_lines_follow_their_controls(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.select_option("#theme", "dark")
    assert page.evaluate(background) == "rgb(20, 23, 27)"
    read_findings(page)
    page.uncheck("#lines")
    assert page.locator(".card .picture svg").first.is_hidden()
    dark = open_page(plain, color_scheme="dark")
    assert dark.evaluate(background) == "rgb(20, 23, 27)"
    dark.select_option("#theme", "light")
    assert dark.evaluate(background) == "rgb(255, 255, 255)"


def test_the_map_shows_images_by_pointer_and_by_keyboard(plain: Path, open_page: Open) -> None:
    page = open_page(plain)
    canvas = page.locator("#map-canvas")
    canvas.scroll_into_view_if_needed()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator("#map-tip")
    first = tip.locator("bdi").first.inner_text()
    assert tip.locator("img").count() == 1
    assert first in page.locator("#said").inner_text()
    seen = {first}
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "-"):
        page.keyboard.press(key)
        seen.add(tip.locator("bdi").first.inner_text())
    assert len(seen) > 1
    for button in ("map-in", "map-out", "map-all"):
        page.click(f"#{button}")
    page.select_option("#map-by", "split")
    assert page.locator("#map-legend").inner_text().split() == ["train", "3", "val", "3"]
    page.select_option("#map-by", "light")
    assert page.locator("#map-legend li").all_inner_texts() == ["dark, nut 4", "bright 2"]
    canvas.focus()
    page.keyboard.press("ArrowRight")
    light = tip.locator("strong").inner_text()
    assert light in {"dark, nut", "bright"}
    assert light in page.locator("#said").inner_text()
    page.select_option("#map-by", "content")
    assert page.locator("#map-legend li").all_inner_texts() == ["rich 3", "plain 2", "in none 1"]
    canvas.focus()
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    for name in ("kind", "content"):
        page.select_option("#map-by", name)
        drawn = page.evaluate(
            """() => {
            const canvas = document.getElementById('map-canvas');
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const seen = new Set();
            for (let i = 0; i < data.length; i += 4) {
              if (data[i + 3] === 255) seen.add(`rgb(${data[i]}, ${data[i + 1]}, ${data[i + 2]})`);
            }
            const dots = [...document.querySelectorAll('#map-legend .dot')];
            return dots.map((dot) => seen.has(getComputedStyle(dot).backgroundColor));
            }"""
        )
        assert drawn
        assert all(drawn), name
    pointed = page.evaluate(
        """() => {
        const box = document.getElementById('map-canvas').getBoundingClientRect();
        const steps = [...Array(60).keys()];
        for (const x of steps) for (const y of steps) {
          const at = { clientX: box.left + box.width * x / 59, clientY: box.top + box.height * y / 59, bubbles: true };
          document.getElementById('map-canvas').dispatchEvent(new PointerEvent('pointermove', at));
          if (!document.getElementById('map-tip').hidden) return true;
        }
        return false;
        }"""
    )
    assert pointed
    tip.locator("button").click()
    assert shown(page) >= 1


@pytest.mark.parametrize("section", ["findings", "copies", "map", "classes", "taken", "slices", "history"])
def test_odd_names_are_text_everywhere(odd: Path, open_page: Open, section: str) -> None:
    page = open_page(odd)
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    page.evaluate(f"document.getElementById('{section}').scrollIntoView()")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.keyboard.press("j")
    page.keyboard.press("y")
    assert page.title() == "odd: what curate found"
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelectorAll('img:not([src^=\"data:image/webp\"]), b').length") == 0
    page.select_option("#by-status", "")
    texts = page.locator(".card h3 bdi").all_text_contents()
    assert set(texts) == set(ODD_NAMES)
    options = page.locator("#by-class option").all_text_contents()
    assert all(any(name in option for option in options) for name in ODD_CLASSES)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("how", ["light", "dark", "phone"])
def test_no_serious_fault_of_accessibility(odd: Path, open_page: Open, how: str) -> None:
    looks: dict[str, dict[str, Any]] = {"light": {}, "dark": {"color_scheme": "dark"}, "phone": PHONE}
    page = open_page(odd, **looks[how])
    assert faults(page) == []
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    choose(page, "status", "")
    page.locator(".card").first.locator("button.yes").click()
    page.locator("#map-canvas").focus()
    page.keyboard.press("ArrowRight")
    assert faults(page) == []
    with page.expect_download():
        page.click("#save")
    assert faults(page) == []


def faults(page: Page) -> list[str]:
    """What axe-core finds that is serious."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    result = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
    ]


def test_a_phone_has_no_second_direction_to_scroll(odd: Path, open_page: Open) -> None:
    page = open_page(odd, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    read_findings(page)
    page.locator("#choose summary").click()
    assert page.locator("#by-kind").is_visible()
    button = page.locator(".card button.yes").first
    button.scroll_into_view_if_needed()
    assert button.bounding_box()["height"] >= 44  # type: ignore[index]
    button.tap()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_phone_breaks_no_word_and_leaves_room_for_what_changed(plain: Path, open_page: Open) -> None:
    page = open_page(plain, **PHONE)
    line = page.evaluate("parseFloat(getComputedStyle(document.body).lineHeight)")
    for kind in page.locator("#kinds td button").all():
        box = kind.bounding_box()
        assert box
        assert box["height"] <= 1.2 * line, kind.inner_text()
    changes = page.locator("#commit-rows tbody td:nth-child(3)").first.bounding_box()
    assert changes
    assert changes["width"] >= 200


def test_a_table_that_scrolls_sideways_shows_it(odd: Path, open_page: Open) -> None:
    page = open_page(odd, **PHONE)
    frame = page.locator("#kinds .scroller")
    assert frame.evaluate("each => each.scrollWidth > each.clientWidth")
    shadow = "each => getComputedStyle(each).backgroundAttachment"
    assert frame.evaluate(shadow) == "local, local, scroll, scroll"


@pytest.mark.parametrize("section", ["taken", "classes", "robustness"])
def test_letters_of_charts_can_be_read(plain: Path, open_page: Open, section: str) -> None:
    page = open_page(plain)
    sizes = page.eval_on_selector_all(
        f"#{section} .chart svg text",
        """texts => texts.map((each) => {
          const { width, height } = each.getBoundingClientRect();
          return [each.textContent, Math.min(width, height)];
        })""",
    )
    assert sizes
    assert [text for text, size in sizes if len(text) > 1 and size < 10] == []


def test_without_scripts_it_says_what_is_missing(plain: Path, open_page: Open) -> None:
    page = open_page(plain, java_script_enabled=False)
    assert "needs JavaScript" in page.locator("noscript").inner_text()


def test_thousands_of_findings_are_made_as_they_come_near(tmp_path: Path, open_page: Open) -> None:
    page = open_page(report_of("many", tmp_path, copies=2000))
    page.select_option("#by-status", "")
    assert shown(page) == 2011
    page.evaluate("document.getElementById('findings').scrollIntoView()")
    page.wait_for_selector(".card .body")
    page.wait_for_timeout(300)
    assert 0 < page.locator(".card .body").count() < 60
    page.keyboard.press("j")
    page.evaluate("document.querySelector('.part:last-child').scrollIntoView()")
    page.locator(".part:last-child .body").first.wait_for()
    page.wait_for_timeout(300)
    assert page.locator(".card .body").count() < 120
    page.fill("#by-text", "holes")
    assert shown(page) == 1


@pytest.mark.slow
def test_the_demo_in_a_browser(tmp_path: Path, open_page: Open) -> None:
    run = CliRunner().invoke
    assert run(app, ["demo", "--images", "40"]).exit_code == 0
    assert run(app, ["check", "-d", "parts_v3"]).exit_code == 0
    path = tmp_path / "demo.html"
    result = run(app, ["report", "-d", "parts_v3", "-o", str(path), "--json"])
    told = json.loads(result.stdout)
    assert told["bytes"] == path.stat().st_size < 10_000_000
    page = open_page(path)
    assert page.locator("#spread .chart").count() >= 6
    assert page.locator("#map").is_visible()
    page.select_option("#by-status", "")
    assert shown(page) == told["findings"] == len(stored_findings(open_dataset("parts_v3")))
    for kind in page.eval_on_selector_all("#by-kind option", "options => options.map((option) => option.value)"):
        page.select_option("#by-kind", kind)
        for card in page.locator(".card").all()[:3]:
            card.scroll_into_view_if_needed()
            card.locator(".body").wait_for()
            assert card.locator(".main img").count() == 1
    assert faults(page) == []
