"""Several images and several outputs through a graph: each comes back to the image it belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.models.predictors.network import open_network
from curate.models.predictors.sidecar import Sidecar
from curate.models.runtime import Graph, open_graph
from tests.models.onnx_models import bright_box, channel_means, constant_model, identity, picture


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return open_graph(channel_means(tmp_path_factory.mktemp("graph") / "m.onnx"), threads=3)


@given(st.integers(1, 100), st.one_of(st.none(), st.integers(1, 40)))
def test_pieces_are_the_rows_in_order(graph: Graph, count: int, step: int | None) -> None:
    rows = np.arange(count)
    pieces = graph.pieces(rows, step)
    np.testing.assert_array_equal(np.concatenate(pieces), rows)
    sizes = [len(piece) for piece in pieces]
    if step is None:
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= (graph.most_rows or count)
        assert len(pieces) >= min(count, graph.workers)
    else:
        assert set(sizes[:-1]) <= {step}
        assert 1 <= sizes[-1] <= step
    assert [part for piece in graph.pieces(list(range(count)), step) for part in piece] == list(range(count))


@pytest.mark.parametrize("threads", [1, 3])
def test_work_is_done_in_order_and_may_call_the_network(tmp_path: Path, threads: int) -> None:
    graph = open_graph(channel_means(tmp_path / "m.onnx"), threads=threads)
    images = [np.full((1, 3, 8, 8), number, np.float32) for number in range(20)]
    means = graph.map(lambda image: float(graph.call({"image": image}, ["logits"])[0][0, 0]), images)
    assert means == list(range(20))


@pytest.mark.parametrize("batch", ["n", 1, 4])
@settings(max_examples=10, deadline=None)
@given(corners=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=9))
def test_outputs_come_back_to_their_images(
    tmp_path_factory: pytest.TempPathFactory, batch: int | str, corners: list[tuple[int, int]]
) -> None:
    path = bright_box(tmp_path_factory.mktemp("network") / "m.onnx", shape=(batch, 3, 64, 64))
    network = open_network(path, Sidecar())
    images = [picture(64, 64, (x, y, x + 20, y + 30)).transpose(2, 0, 1).astype(np.float32) for x, y in corners]
    found = network.run(images, ["boxes", "scores"], lambda number, given: (number, given["boxes"], given["scores"]))
    assert [number for number, *_ in found] == list(range(len(images)))
    for (x, y), (_, boxes, scores) in zip(corners, found, strict=True):
        np.testing.assert_array_equal(boxes, [[x, y, x + 20, y + 30]])
        np.testing.assert_array_equal(scores, [[1]])


def test_what_a_graph_cannot_do_is_said(tmp_path: Path) -> None:
    network = open_network(channel_means(tmp_path / "m.onnx"), Sidecar())
    with pytest.raises(InputError, match=r"fails on an input of shape \(3, 9, 9\)") as caught:
        network.run([np.zeros((3, 9, 9), np.float32)], ["logits"], lambda _, given: given)
    assert caught.value.where == str(tmp_path / "m.onnx")
    one_row = constant_model(tmp_path / "one.onnx", {"logits": np.zeros((1, 3), np.float32)}, shape=(2, 3, 8, 8))
    with pytest.raises(InputError, match=r"has shape \(1, 3\) for 2 images"):
        open_network(one_row, Sidecar()).run([np.zeros((3, 8, 8), np.float32)] * 2, ["logits"], lambda _, given: given)


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_outputs_stay_what_they_were_when_the_inputs_memory_is_used_again(tmp_path: Path, batch: int | str) -> None:
    """Even where a graph gives back what it was given, and sides and counts change from call to call."""
    sides: list[int | str] = [batch, 3, "h", "w"]
    network = open_network(identity(tmp_path / "m.onnx", shape=tuple(sides)), Sidecar())
    rng = np.random.default_rng(0)
    for count, side in ((5, 4), (1, 9), (3, 2), (5, 9)):
        images = [rng.random((3, side, side + 1), np.float32) for _ in range(count)]
        given = network.run(images, ["logits"], lambda _, outputs: outputs["logits"])
        for image, output in zip(images, given, strict=True):
            np.testing.assert_array_equal(output, image)


def test_images_become_numbers_where_they_are_put_together(tmp_path: Path) -> None:
    network = open_network(channel_means(tmp_path / "m.onnx"), Sidecar())
    images = [np.full((3, 8, 8), number, np.uint8) for number in range(7)]

    def halve(out: np.ndarray, image: np.ndarray) -> None:
        np.multiply(image, np.float32(0.5), out=out)

    means = network.run(images, ["logits"], lambda _, outputs: float(outputs["logits"][0]), halve)
    assert means == [number / 2 for number in range(7)]
