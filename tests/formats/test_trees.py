"""XML and JSON files that cannot be read as trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_cases import write_image

from curate.errors import FormatError
from curate.formats.base import ReadOptions
from curate.formats.losses import LossReport
from curate.formats.trees import read_xml
from curate.formats.voc import FORMAT

ENTITIES = '<!DOCTYPE x [<!ENTITY a "b">]><annotation><filename>&a;.jpg</filename></annotation>'


def test_entities_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(ENTITIES)
    with pytest.raises(FormatError, match="declares XML entities, which are refused") as caught:
        read_xml(path)
    assert "EntitiesForbidden" not in str(caught.value)
    assert "ENTITY" in (caught.value.remedy or "")


def test_voc_says_why_a_file_is_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "b.jpg", (20, 20))
    (tmp_path / "a.xml").write_text(ENTITIES)
    (tmp_path / "c.xml").write_text("<annotation>")
    (tmp_path / "b.xml").write_text(
        "<annotation><filename>b.jpg</filename><object><name>cat</name></object></annotation>"
    )
    losses = LossReport()
    list(FORMAT.read(tmp_path, ReadOptions(), losses).annotations)
    found = {loss.reason: loss.places for loss in losses.losses}
    assert found["declares XML entities, which are refused"] == ["a.xml"]
    assert found["not valid XML"][0].startswith("c.xml: no element found")
