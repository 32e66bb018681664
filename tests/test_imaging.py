"""Opening, measuring and cutting images."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFile, ImageOps

from curate import imaging
from curate.errors import ImageError
from curate.imaging import IMAGE_SUFFIXES, ScaledPixels, crop, load_labels, load_pixels, read_header, resize


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def save(image: Image.Image, path: Path, orientation: int | None = None) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_header_and_pixels(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = save(gradient(40, 20), tmp_path / f"image{suffix}", orientation)
    header = read_header(path)
    size = (20, 40) if orientation >= 5 else (40, 20)
    assert (header.width, header.height, header.orientation) == (*size, orientation)
    assert header.stored_size == (40, 20)
    pixels = load_pixels(path)
    assert pixels.shape == (size[1], size[0], 3)
    # Where the stored top-left corner (dark red, dark green) goes, by the Exif specification.
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[
        orientation
    ]
    assert pixels[corner][:2].max() < 40


def test_header_agrees_with_pillow_on_real_files(shared_data: Path) -> None:
    paths = [path for path in shared_data.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    seen = 0
    for path in paths:
        try:
            with Image.open(path) as image:
                size, tiff = image.size, image.format == "TIFF"
        except OSError:
            with pytest.raises(ImageError):
                read_header(path)
            continue
        header = read_header(path)
        assert ((header.width, header.height) if tiff else header.stored_size) == size, path
        seen += 1
    assert seen > 900


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = gradient(30, 10).convert("L")
    if mode in {"I;16", "I", "F"}:
        values = np.asarray(grey).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        image = Image.fromarray(values * 200)
    else:
        image = grey.convert(mode)
    path = tmp_path / "image.tiff"
    image.save(path)
    pixels = load_pixels(path)
    assert pixels.shape == (10, 30, 3)
    assert pixels.dtype == np.uint8
    assert int(pixels.max()) - int(pixels.min()) > 150


def test_deep_files_are_scaled_and_say_so(tmp_path: Path) -> None:
    values = np.asarray(gradient(30, 10).convert("L")).astype(np.uint16)
    loaded = []
    for number, stored in enumerate((values * 200, values * 100, values * 200)):
        path = tmp_path / f"{number}.{'tiff' if number == 2 else 'png'}"
        Image.fromarray(stored).save(path)
        loaded.append(load_pixels(path))
    first, dimmer, again = loaded
    assert isinstance(first, ScaledPixels)
    assert isinstance(dimmer, ScaledPixels)
    assert isinstance(again, ScaledPixels)
    np.testing.assert_array_equal(first, dimmer)
    assert first.digest == again.digest != dimmer.digest
    part = crop(first, [2, 2, 5, 5])
    assert isinstance(part, ScaledPixels)
    assert (part.bits, part.digest) == (16, first.digest)
    plain = tmp_path / "plain.png"
    gradient(30, 10).save(plain)
    assert not isinstance(load_pixels(plain), ScaledPixels)


@pytest.mark.parametrize("mode", ["I;16", "L", "P", "LA"])
def test_orientation_is_applied_in_every_mode(tmp_path: Path, mode: str) -> None:
    grey = gradient(40, 20).convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 200) if mode == "I;16" else grey.convert(mode)
    upright, turned = load_pixels(save(image, tmp_path / "a.png")), load_pixels(save(image, tmp_path / "b.png", 6))
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(path)
    assert (load_pixels(path) == 255).all()


def test_large_jpegs_are_decoded_smaller_when_that_is_enough(tmp_path: Path) -> None:
    path = save(gradient(1600, 1200), tmp_path / "image.jpg")
    assert load_pixels(path).shape == (1200, 1600, 3)
    assert load_pixels(path, shortest_side=64).shape == (150, 200, 3)
    whole = resize(load_pixels(path), (64, 48)).astype(int)
    draft = resize(load_pixels(path, shortest_side=48), (64, 48)).astype(int)
    assert np.abs(whole - draft).mean() < 1.0


def pillow_pixels(path: Path, shortest_side: int | None) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        if shortest_side is not None and (ratio := 2 * shortest_side / min(image.size)) < 1:
            image.draft("RGB", (round(image.width * ratio), round(image.height * ratio)))
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("size", [(97, 131), (641, 479), (1500, 17)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_pixels_of_a_jpeg_are_those_that_pillow_gives(
    tmp_path: Path, size: tuple[int, int], subsampling: int, progressive: bool
) -> None:
    grain = np.random.default_rng(0).normal(0, 20, (size[1], size[0], 3))
    image = Image.fromarray((np.asarray(gradient(*size)) + grain).clip(0, 255).astype(np.uint8))
    for number, shortest_side in enumerate((None, 8, 20, 60, 100)):
        exif = Image.Exif()
        exif[0x0112] = number + 4
        image.save(path := tmp_path / "image.jpg", exif=exif, subsampling=subsampling, progressive=progressive)
        assert np.array_equal(load_pixels(path, shortest_side=shortest_side), pillow_pixels(path, shortest_side))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_unusual_jpegs_are_those_that_pillow_gives(tmp_path: Path, mode: str) -> None:
    gradient(60, 40).convert(mode).save(path := tmp_path / "image.jpg")
    assert np.array_equal(load_pixels(path), pillow_pixels(path, None))


def test_a_jpeg_is_turned_as_its_xmp_says_where_exif_is_silent(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    gradient(60, 40).save(path := tmp_path / "image.jpg", xmp=xmp)
    assert load_pixels(path).shape == (60, 40, 3)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_jpeg_that_was_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    gradient(640, 480).save(path := tmp_path / "image.jpg")
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * kept)])
    with pytest.raises(ImageError, match="truncated"):
        load_pixels(path)


def test_crop_keeps_inside_and_adds_margin() -> None:
    pixels = np.asarray(gradient(100, 50))
    assert crop(pixels, [10, 10, 20, 10]).shape == (10, 20, 3)
    assert crop(pixels, [10, 10, 20, 10], margin=0.5).shape == (30, 40, 3)
    assert crop(pixels, [-5, -5, 10, 10]).shape == (5, 5, 3)
    assert crop(pixels, [500, 500, 10, 10]).shape == (1, 1, 3)
    assert crop(pixels, [10.2, 10.2, 0.1, 0.1]).shape == (1, 1, 3)


def test_bad_files_give_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing.jpg"
    with pytest.raises(ImageError, match="not there"):
        load_pixels(missing)
    with pytest.raises(ImageError, match="not there"):
        read_header(missing)
    text = tmp_path / "text.jpg"
    text.write_text("not an image")
    with pytest.raises(ImageError, match="cannot be read"):
        load_pixels(text)
    cut = save(gradient(400, 300), tmp_path / "cut.jpg")
    cut.write_bytes(cut.read_bytes()[:2000])
    assert read_header(cut).width == 400
    with pytest.raises(ImageError, match=r"cut\.jpg"):
        load_pixels(cut)
    large = save(gradient(40, 30), tmp_path / "large.png")
    monkeypatch.setattr(imaging, "MAX_PIXELS", 1000)
    with pytest.raises(ImageError, match="more than the limit"):
        load_pixels(large)


# ---------------------------------------------------------------------------------------------------------------- labels


def _png_grey(path: Path, bits: int, rows: list[bytes], width: int) -> Path:
    """A grey PNG of 1, 2 or 4 bits, which Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("bits", "row", "expected"),
    [(1, b"\xa0", [1, 0, 1, 0]), (2, b"\x1b", [0, 1, 2, 3]), (4, b"\x0f\x72", [0, 15, 7, 2])],
)
def test_labels_of_few_bits_are_not_stretched(tmp_path: Path, bits: int, row: bytes, expected: list[int]) -> None:
    labels = load_labels(_png_grey(tmp_path / "a.png", bits, [row], 4))
    assert labels.values.tolist() == [expected]
    assert labels.values.dtype == np.uint8
    assert labels.palette is None


def test_labels_keep_palette_indices_and_sixteen_bits(tmp_path: Path) -> None:
    values = np.array([[0, 3, 2]], dtype=np.uint8)
    image = Image.fromarray(values)
    image.putpalette([0, 0, 0, 9, 8, 7, 1, 1, 1, 5, 6, 7])
    image.save(tmp_path / "p.png")
    labels = load_labels(tmp_path / "p.png")
    assert labels.values.tolist() == [[0, 3, 2]]
    assert labels.palette is not None
    assert labels.palette[[1, 3]].tolist() == [[9, 8, 7], [5, 6, 7]]
    Image.fromarray(np.array([[0, 255, 33_001]], dtype=np.uint16)).save(tmp_path / "i.png")
    assert load_labels(tmp_path / "i.png").values.tolist() == [[0, 255, 33_001]]
    Image.fromarray(np.array([[[1, 2, 3, 0]]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert load_labels(tmp_path / "a.png").values.tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_labels_are_turned_by_exif(tmp_path: Path, kind: type[np.uint8 | np.uint16]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], dtype=kind)).save(tmp_path / "a.png", exif=exif)
    assert load_labels(tmp_path / "a.png").values.tolist() == [[4, 1], [5, 2], [6, 3]]


def test_labels_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.array([[0.5]], dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ImageError, match="fractions"):
        load_labels(tmp_path / "f.tif")
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr("curate.imaging.MAX_PIXELS", 399)
    with pytest.raises(ImageError, match="more than the limit"):
        load_labels(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(ImageError):
        load_labels(tmp_path / "b.png")


def png(width: int, height: int, *late: tuple[bytes, bytes]) -> bytes:
    """A black PNG with chunks behind its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(bytes((width + 1) * height))
    half = len(pixels) // 2
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", pixels[:half])]
    parts += [(b"IDAT", pixels[half:]), *late, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def late_orientation(orientation: int) -> list[tuple[bytes, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
    return [
        (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
    ]


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_behind_the_pixels_of_a_png(tmp_path: Path, way: int, orientation: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(40, 20, late_orientation(orientation)[way]))
    header = read_header(path)
    assert header.orientation == orientation
    assert load_pixels(path).shape == (header.height, header.width, 3)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff", ".gif", ".bmp"])
def test_reading_a_header_decodes_nothing(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a{suffix}"
    gradient(40, 20).save(path)

    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", refuse)
    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert read_header(path).width == 40


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "content", [b"", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", b"junk", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0"]
)
def test_broken_metadata_of_a_png_is_no_other_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    for data in (
        png(40, 20, (b"eXIf", content)),
        png(40, 20, (b"zTXt", content)),
        png(40, 20, (b"iTXt", content))[:-20],
    ):
        path.write_bytes(data)
        with contextlib.suppress(ImageError):
            assert read_header(path).stored_size == (40, 20)
