"""Maps of depth: as files, and as what a dataset keeps of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from curate.dataset import begin, open_dataset, undo
from curate.dataset.store import remove
from curate.dataset.summary import summarize
from curate.errors import InputError, UsageError
from curate.formats.importing import import_source
from curate.models.depth.codec import LONGEST_SIDE, STEPS, decode_map, encode_map
from curate.models.depth.maps import DepthMaps, open_maps, update_maps
from curate.models.depth.predict import DepthResult
from curate.models.predictors.base import DepthMap
from curate.models.predictors.predict import Request, predict
from curate.models.predictors.registry import load_predictor
from tests.models import colour_predictor
from tests.models.colour_predictor import paint, predicted
from tests.models.onnx_models import grey_map

GREY = 85, 170, 255


def round_trip(depth: npt.NDArray[np.float32], *, metric: bool) -> npt.NDArray[np.float32]:
    found = encode_map(DepthMap(depth, metric))
    return decode_map(found.content, found.near, found.far, metric=metric)


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(0.0625, 1e4, width=32) | st.just(float("nan")),
    ),
    st.booleans(),
)
def test_depths_come_back_to_half_a_step(depth: npt.NDArray[np.float32], metric: bool) -> None:
    back = round_trip(depth, metric=metric)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(depth))
    known = depth[~np.isnan(depth)].astype(np.float64)
    if len(known):
        near, far = known.min(), known.max()
        if metric:
            step = np.log(far / near) / (STEPS - 1)
            assert np.abs(np.log(back[~np.isnan(back)] / known)).max() <= step / 2 + 1e-6
        else:
            assert np.abs(back[~np.isnan(back)] - known).max() <= (far - near) / (STEPS - 1) / 2 + 1e-6 * far


def test_what_is_no_depth_is_not_known() -> None:
    depth = np.array([[1, 2, np.inf], [-1, 0, np.nan]], np.float32)
    np.testing.assert_array_equal(np.isnan(round_trip(depth, metric=True)), [[0, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(np.isnan(round_trip(depth, metric=False)), [[0, 0, 1], [0, 0, 1]])
    nothing = encode_map(DepthMap(np.full((2, 3), np.nan, np.float32), metric=True))
    assert (nothing.near, nothing.far, nothing.known) == (None, None, 0)
    assert np.isnan(decode_map(nothing.content, None, None, metric=True)).all()


def test_a_constant_map_stays_constant() -> None:
    for metric in (True, False):
        assert (round_trip(np.full((4, 5), 7.5, np.float32), metric=metric) == 7.5).all()
    assert (round_trip(np.zeros((4, 5), np.float32), metric=False) == 0).all()


def test_large_maps_are_made_smaller_without_mixing_depths() -> None:
    depth = np.where(np.arange(3000) < 1500, 2.0, 50.0).astype(np.float32)[None].repeat(1000, axis=0)
    back = round_trip(depth, metric=True)
    assert back.shape == (LONGEST_SIDE // 3, LONGEST_SIDE)
    np.testing.assert_allclose(np.unique(back), [2, 50], rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4), (3,), (2, 2, 2)])
def test_what_is_no_map_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="has height and width"):
        encode_map(DepthMap(np.ones(shape, np.float32), metric=True))


@pytest.mark.parametrize("content", [b"", b"no png", cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes()])
def test_a_broken_file_is_told(content: bytes) -> None:
    with pytest.raises(InputError, match="file of depths is broken"):
        decode_map(content, 1.0, 2.0, metric=True)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three grey pictures, each brighter to the right, and one that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, grey in enumerate(GREY):
        row = np.linspace(0, grey, 64)
        cv2.imwrite(str(folder / f"{number}.png"), np.repeat(row[None], 48, axis=0).astype(np.uint8))
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    import_source("toys", folder, format="imagefolder", command="test")
    return folder


@pytest.fixture
def network(tmp_path: Path) -> str:
    """A depth estimator that takes what is bright for near."""
    return f"onnx:{grey_map(tmp_path / 'midas.onnx', shape=('n', 3, 32, 32))}"


def run(model: str, progress: Any = None, **more: Any) -> DepthResult:
    result = predict("toys", model, Request(**more), command="test", progress=progress)
    assert isinstance(result, DepthResult)
    return result


def maps() -> DepthMaps:
    found = open_maps(open_dataset("toys"))
    assert found is not None
    return found


def files() -> list[Path]:
    return sorted((open_dataset("toys").path / "depth").rglob("*.*"))


def test_each_image_gets_a_map_once(pictures: Path, network: str) -> None:
    result = run(network)
    assert (result.update.images, result.update.predicted, result.update.reused) == (4, 3, 0)
    assert (result.update.metric, result.update.empty, result.update.flat) == (0, 0, 0)
    assert any("larger is farther within one image" in note for note in result.notes)
    assert any("1 image cannot be read" in note for note in result.notes)
    assert result.to_json()["predicted"] == 3
    for row in range(3):
        depth = maps().read(row)
        assert depth.shape == (48, 64)
        assert depth[0, 0] == pytest.approx(1)
        assert depth[0, -1] == pytest.approx(0)
        assert (np.diff(depth[10]) <= 1e-6).all()
    assert summarize(open_dataset("toys"))["tables"] == {result.update.table: 3}
    commit = open_dataset("toys").commit
    assert commit.counts == {"depth maps": 3}
    again = run(network)
    assert (again.update.predicted, again.update.reused, again.commit) == (0, 3, commit.number)


def test_only_changed_images_and_lost_maps_are_made_again(pictures: Path, network: str) -> None:
    run(network)
    cv2.imwrite(str(pictures / "1.png"), np.full((48, 64), 9, np.uint8))
    result = run(network)
    assert (result.update.predicted, result.update.reused, result.update.flat) == (1, 2, 1)
    lost = open_dataset("toys").path / maps().table["file"][0].as_py()
    lost.unlink()
    with pytest.raises(InputError, match="depth cannot be read"):
        maps().read(0)
    assert run(network).update.predicted == 1
    assert lost.exists()
    assert run(network, replace=True).update.predicted == 3


def test_an_undo_takes_maps_back_and_finds_them_again(pictures: Path, network: str) -> None:
    run(network, where="location = '0.png'")
    first = maps().read(0)
    run(network)
    assert maps().table.num_rows == 3
    undo("toys", command="test")
    assert maps().table.num_rows == 1
    np.testing.assert_array_equal(maps().read(0), first)
    undo("toys", command="test")
    assert open_maps(open_dataset("toys")) is None
    undo("toys", command="test", to=3)
    assert maps().table.num_rows == 3
    np.testing.assert_array_equal(maps().read(2).shape, (48, 64))
    folder = open_dataset("toys").path
    remove("toys")
    assert not folder.exists()


def test_the_model_that_was_run_last_is_used(pictures: Path, network: str, tmp_path: Path) -> None:
    run(network)
    other = f"onnx:{grey_map(tmp_path / 'zoedepth.onnx', shape=('n', 3, 16, 16))}"
    result = run(other)
    assert maps().model == result.update.model
    assert result.update.metric == 3
    assert run(network).update.predicted == 0
    assert maps().model != result.update.model


def test_an_interrupted_run_goes_on_where_it_stopped(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colour_predictor.register(monkeypatch)

    def interrupt(done: int, total: int) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("colours:depth", batch_size=1, progress=interrupt)
    assert open_dataset("toys").commit.number == 1
    before = sum(predicted)
    assert before < 3
    result = run("colours:depth", batch_size=1)
    assert (result.update.predicted, sum(predicted)) == (3, 3)
    assert result.update.empty == 3  # it says that all is 0 metres away
    assert "3 depth maps know no depth at all" in result.notes
    assert len([path for path in files() if path.suffix == ".png"]) == 1  # named after what is in it
    assert not [path for path in files() if path.suffix != ".png"]


def test_what_concerns_layers_only_is_refused(pictures: Path, network: str) -> None:
    with pytest.raises(UsageError, match="--layer has no meaning for a model that estimates depth"):
        run(network, layer="x", told={"a": "b"})
    with pytest.raises(UsageError, match="there are no images to predict on"):
        run(network, where="location = 'nowhere'")
    assert open_dataset("toys").commit.number == 1
    assert not files()


def test_another_task_makes_no_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colour_predictor.register(monkeypatch)
    paint(tmp_path / "toys" / "a.png", {"red": (4, 8, 16, 12)})
    import_source("toys", tmp_path / "toys", format="imagefolder", command="test")
    with begin("toys", command="test") as transaction, pytest.raises(InputError, match="is no map of depth"):
        update_maps(transaction, load_predictor("colours:classify"))


@pytest.mark.parametrize(("name", "metric"), [("depth_anything", False), ("depth_anything_metric", True)])
def test_models_of_transformers(pictures: Path, tmp_path: Path, name: str, metric: bool) -> None:
    pytest.importorskip("transformers")
    from tests.models.hf_models import save

    result = run(f"hf:{save(name, tmp_path / 'model')}")
    assert (result.update.predicted, result.update.metric) == (3, 3 * metric)
    assert maps().read(0).shape == (48, 64)
    assert np.isfinite(maps().read(0)).any()
