"""The labelling configuration: made for a dataset, and extended without touching what is somebody's work."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.connectors.base import ProjectSpec
from curate.connectors.label_studio.config import (
    classes_of,
    extended,
    is_boolean,
    lacking,
    new_config,
    parse_config,
    wanted_controls,
)
from curate.errors import FormatError
from curate.formats.base import ClassInfo
from curate.formats.label_studio.config import Control
from tests.connectors.label_studio.label_studio_samples import CLASSES, TYPES, spec

THEIRS = """<View>
  <!-- é: a > b --><Style>.x > .y {color: red}</Style>
  <Image name="img" value="$photo" zoom='true'/>
  <RectangleLabels name="r" toName="img" hint="/>"><Label value="q"/></RectangleLabels>
  <BrushLabels name="br" toName="img" t='a/>"b' /><Header value="Note"/></View>
"""

names = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="\x7f"), min_size=1, max_size=12
)


def test_new_config_says_what_it_was_made_for() -> None:
    config = parse_config(new_config(spec("m")))
    assert classes_of(config) == CLASSES
    assert {control.type for control in config.controls.values()} == {
        *("rectanglelabels", "polygonlabels", "brushlabels", "keypointlabels", "vectorlabels", "choices", "number"),
    }
    assert config.images == {"image": "image"}
    assert is_boolean(config.controls["occluded"])
    assert config.controls["make"].settings["whenLabelValue"] == "car"
    assert lacking(config, wanted_controls(spec("m"), config)) == {}


def test_new_config_shows_the_finding_and_asks_for_none() -> None:
    xml = new_config(spec("m"))
    root = ElementTree.fromstring(xml)
    assert (root[0].tag, root[0].attrib) == ("Header", {"value": "$curate_finding"})
    assert parse_config(xml).images == {"image": "image"}


def test_labels_without_a_color_get_one_that_is_not_the_classs() -> None:
    classes = [ClassInfo(f"class {number}") for number in range(7)] + [ClassInfo("car", color="#ff0000")]
    made = spec("m", classes=classes, types=frozenset({"box", "mask", "label"}))
    xml = new_config(made)
    shown = {control.tag: [label.get("background") for label in control] for control in ElementTree.fromstring(xml)}
    assert shown["RectangleLabels"] == shown["BrushLabels"]
    assert len(set(shown["RectangleLabels"])) == 8
    assert shown["RectangleLabels"][-1] == "#ff0000"
    assert set(shown["Choices"]) == {None}
    assert [info.color for info in classes_of(parse_config(xml))] == [None] * 7 + ["#ff0000"]
    # A class that comes later has the color that it would have had, and one that a person chooses counts.
    theirs = '<View><Image name="i" value="$i"/><RectangleLabels name="r" toName="i"><Label value="q"/></RectangleLabels></View>'
    grown = extended(theirs, {"r": Control("rectanglelabels", "i", ("q", "class 3"))}, classes)
    (label,) = ElementTree.fromstring(grown).findall(".//Label[@value='class 3']")
    assert label.get("background") == shown["RectangleLabels"][3]
    recolored = grown.replace(f'background="{label.get("background")}"', 'background="#123456"')
    assert parse_config(recolored).colors == {"class 3": "#123456"}


def test_keypoints_keep_their_places_where_classes_share_them() -> None:
    classes = [ClassInfo("a", keypoints=("x", "y")), ClassInfo("b", keypoints=("y", "z", "x"))]
    config = parse_config(new_config(spec("m", classes=classes, types=frozenset({"keypoints"}))))
    assert config.keypoints_of == {"a": ("x", "y"), "b": ("y", "z", "x")}


def test_extending_leaves_every_byte_that_was_there() -> None:
    config = parse_config(THEIRS)
    wanted = wanted_controls(spec("m"), config)
    xml = extended(THEIRS, wanted, CLASSES)
    now = parse_config(xml)
    assert lacking(now, wanted) == {}
    assert extended(xml, wanted, CLASSES) == xml
    assert now.controls["r"].labels == ("q", "car", "dog", "person")
    assert now.controls["br"].labels == ("car", "dog", "person")
    rest = iter(xml)
    # An empty element got an end tag; everything else is there, in its order.
    assert all(char in rest for char in THEIRS.replace("t='a/>\"b' />", "t='a/>\"b' >"))


@pytest.mark.parametrize("xml", ["<View></View>", "<View/>", '<View><Text name="t" value="$t"/></View>'])
def test_a_project_without_images_gets_one(xml: str) -> None:
    config = parse_config(extended(xml, wanted_controls(spec("m"), parse_config(xml)), CLASSES))
    assert config.images == {"image": "image"}
    assert classes_of(config) == CLASSES


def test_xml_that_is_none_is_refused() -> None:
    with pytest.raises(FormatError, match="not valid XML"):
        extended("<View>", {"r": Control("rectanglelabels", "image", ("a",))}, [])
    assert parse_config("<View>").controls == {}


@given(st.lists(names, min_size=1, max_size=4, unique=True), st.frozensets(st.sampled_from(sorted(TYPES))))
def test_any_class_fits_in(labels: list[str], types: frozenset[str]) -> None:
    made = ProjectSpec("m", "t", [ClassInfo(label) for label in labels], types)
    fresh = parse_config(new_config(made))
    grown = parse_config(extended(THEIRS, wanted_controls(made, parse_config(THEIRS)), made.classes))
    for config in (fresh, grown):
        assert {info.name for info in classes_of(config)} - {"q"} == set(labels) - {"q"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False], "choices"),
        (["a", "b"], "choices"),
        ([1, 2.5], "number"),
        ([1, "a"], None),
        (["true", "false"], None),  # would come back as yes and no
        ([" a"], None),
        ([{"a": 1}], None),
        ([None], None),
    ],
)
def test_attributes_are_asked_for_where_answers_are_their_values(values: list[object], kind: str | None) -> None:
    config = parse_config(new_config(spec("m", attributes={"car": {"it": values, "origin": ["a"], "image": ["a"]}})))
    assert getattr(config.controls.get("it"), "type", None) == kind
    assert "origin" not in config.controls


def test_classes_of_other_peoples_configs() -> None:
    xml = """<View><Image name="i" value="$i"/><KeyPointLabels name="k" toName="i"><Label value="tip"/></KeyPointLabels>
    <Choices name="c" toName="i" perRegion="true"><Choice value="yes"/></Choices></View>"""
    assert [info.name for info in classes_of(parse_config(xml))] == ["tip"]
