"""Decoding of every mode that Pillow opens: rightly, or refused by the file's name."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from trainers.data.image_files import decode, has_more_frames
from trainers.datasets import DataError

Array = np.ndarray[Any, Any]
GREY = (124, 116, 104)
RAMP = np.arange(32) * 65535 // 31
COLORS = np.array([[[255, 0, 0], [0, 255, 0]], [[10, 100, 200], [128, 128, 128]]], np.uint8)


def grey_levels(path: Path) -> list[int]:
    """Returns the grey values of the decoded image, whose channels must be equal."""
    pixels = np.asarray(decode(path, GREY))
    assert (pixels == pixels[..., :1]).all()
    return [int(value) for value in pixels[..., 0].ravel()]


def eight_bits(values: Array, white: float) -> list[int]:
    return [int(value) for value in np.round(255 * values.astype(float) / white)]


def write_tiff(path: Path, values: Array, white_is_zero: bool = False, bits: int | None = None) -> None:
    """Writes one row of grey values as a little-endian TIFF without compression."""
    size = values.dtype.itemsize
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    if bits == 12:
        pairs = [(int(a), int(b)) for a, b in values.reshape(-1, 2)]
        raw = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    tags = [(256, len(values)), (257, 1), (258, bits or 8 * size), (259, 1), (262, int(not white_is_zero)), (273, 8)]
    tags += [(277, 1), (278, 1), (279, len(raw)), (339, kind)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    offset = 8 + len(raw) + len(raw) % 2
    header = b"II*\0" + struct.pack("<I", offset) + raw + bytes(len(raw) % 2)
    path.write_bytes(header + struct.pack("<H", len(tags)) + entries + bytes(4))


def write_png(path: Path, bits: int, color: int, rows: Sequence[bytes], width: int, transparent: bytes) -> None:
    """Writes a PNG with a transparent colour, which Pillow writes for 8 bits only."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", transparent) + pixels + chunk(b"IEND", b""))


# ---------------------------------------------------------------------------------------------- more than 8 bits


@pytest.mark.parametrize(
    ("mode", "kind", "name"),
    [("I;16", "<u2", "x.png"), ("I;16", "<u2", "x.tif"), ("I;16B", ">u2", "x.tif"), ("I;16B", ">u2", "x.png")],
)
def test_16_bits_keep_their_levels(tmp_path: Path, mode: str, kind: str, name: str) -> None:
    image = Image.frombytes(mode, (32, 1), RAMP.astype(kind).tobytes())
    image.save(tmp_path / name)
    assert grey_levels(tmp_path / name) == eight_bits(RAMP, 65535)


def test_grey_maps_of_any_maximum_are_scaled_by_it(tmp_path: Path) -> None:
    for maximum in (1, 15, 255, 1000, 4095, 65535):
        values = np.linspace(0, maximum, 8).astype(">u2" if maximum > 255 else np.uint8)
        (tmp_path / "x.pgm").write_bytes(b"P5 8 1 %d\n" % maximum + values.tobytes())
        got = np.array(grey_levels(tmp_path / "x.pgm"))
        assert np.abs(got - 255 * values.astype(float) / maximum).max() <= 1


def test_12_bits_of_a_tiff_are_scaled_by_their_maximum(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 8).astype(np.uint16)
    write_tiff(tmp_path / "x.tif", values, bits=12)
    assert grey_levels(tmp_path / "x.tif") == eight_bits(values, 4095)


@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_a_tiff_whose_zero_is_white_is_inverted(tmp_path: Path, kind: str) -> None:
    values = (RAMP if kind == "u2" else RAMP / 65535).astype(kind)
    write_tiff(tmp_path / "x.tif", values, white_is_zero=True)
    assert grey_levels(tmp_path / "x.tif") == eight_bits(65535 - RAMP, 65535)


def test_floats_of_0_to_1_are_taken_as_they_are(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 6, dtype=np.float32)
    write_tiff(tmp_path / "x.tif", values)
    (tmp_path / "x.pfm").write_bytes(b"Pf 6 1 -1.0\n" + values.astype("<f4").tobytes())
    assert grey_levels(tmp_path / "x.tif") == grey_levels(tmp_path / "x.pfm") == eight_bits(values, 1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([0.0, 255.0], np.float32), "float values from 0 to 255, which must be 0 to 1"),
        (np.array([-0.5, 0.5], np.float32), "float values from -0.5 to 0.5"),
        (np.array([0.5, np.nan], np.float32), "float values from nan to nan"),
        (np.array([0.5, np.inf], np.float32), "float values from 0.5 to inf"),
        (np.array([0, 255], np.int32), "integers of 32 bits from 0 to 255, whose range is not known"),
        (np.array([-5, 300], np.int16), "integers of 16 bits from -5 to 300"),
        (np.array([0, 70_000], np.uint32), "integers of 32 bits from 0 to 70000"),
    ],
    ids=str,
)
def test_values_without_a_known_range_are_refused_with_the_files_name(tmp_path: Path, values: Array, text: str) -> None:
    path = tmp_path / "x.tif"
    write_tiff(path, values)
    with pytest.raises(DataError) as caught:
        decode(path, GREY)
    assert str(caught.value).startswith(f"{path} holds {text}")
    assert "16 bits" in str(caught.value).rpartition("; ")[2] or "scale them" in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- transparency

OPAQUE = np.linspace(0, 255, 6).astype(np.uint8)


@pytest.mark.parametrize("ink", [0, 255])
def test_a_glyph_in_the_alpha_channel_is_seen_on_the_background(tmp_path: Path, ink: int) -> None:
    pixels = np.stack([np.full(6, ink, np.uint8), OPAQUE], 1)[None]
    Image.fromarray(pixels, "LA").save(tmp_path / "x.png")
    got = np.asarray(decode(tmp_path / "x.png", GREY))[0].astype(float)
    share = OPAQUE[:, None] / 255
    assert np.abs(got - (share * ink + (1 - share) * np.array(GREY))).max() <= 1
    assert len(np.unique(got, axis=0)) == 6


@pytest.mark.parametrize(("mode", "name"), [("RGBA", "x.png"), ("RGBA", "x.tif"), ("RGBA", "x.webp"), ("PA", "x.tif")])
def test_transparent_pixels_of_any_format_show_the_background(tmp_path: Path, mode: str, name: str) -> None:
    image = Image.new("RGBA", (2, 1), (10, 200, 30, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    if mode == "PA":
        image = image.convert("RGB").quantize(4).convert("PA")
        image.putalpha(Image.frombytes("L", (2, 1), bytes([255, 0])))
    image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    assert np.asarray(decode(tmp_path / name, GREY)).tolist() == [[[10, 200, 30], [*GREY]]]


@pytest.mark.parametrize("transparency", [b"\xff\x80\x00", 2])
def test_a_palette_with_transparency_shows_the_background(tmp_path: Path, transparency: bytes | int) -> None:
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([0, 0, 0, 255, 255, 255, 9, 9, 9])
    image.save(tmp_path / "x.png", transparency=transparency)
    first, middle, last = np.asarray(decode(tmp_path / "x.png", GREY))[0].tolist()
    assert (first, last) == ([0, 0, 0], [*GREY])
    assert middle == ([255] * 3 if transparency == 2 else [190, 186, 180])


@pytest.mark.parametrize(
    ("bits", "color", "row", "transparent", "seen"),
    [
        (1, 0, b"\x80", b"\x00\x01", [None, [0] * 3]),
        (2, 0, b"\x90", b"\x00\x02", [None, [85] * 3]),
        (4, 0, b"\xc3", b"\x00\x0c", [None, [51] * 3]),
        (8, 0, b"\x0c\x03", b"\x00\x0c", [None, [3] * 3]),
        (16, 0, b"\x9c\x40\x13\x88", b"\x9c\x40", [None, [19] * 3]),
        (8, 2, b"\x04\x05\x06\x01\x02\x03", b"\x00\x04\x00\x05\x00\x06", [None, [1, 2, 3]]),
        (16, 2, b"\x04\x00\x05\x00\x06\x00\x01\x00\x02\x00\x03\x00", b"\x04\x00\x05\x00\x06\x00", [None, [1, 2, 3]]),
    ],
)
def test_the_transparent_colour_of_a_png_of_any_depth_shows_the_background(
    tmp_path: Path, bits: int, color: int, row: bytes, transparent: bytes, seen: list[Any]
) -> None:
    write_png(tmp_path / "x.png", bits, color, [row], 2, transparent)
    assert np.asarray(decode(tmp_path / "x.png", GREY))[0].tolist() == [part or [*GREY] for part in seen]


# ---------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize(
    ("mode", "name", "error"),
    [
        ("RGB", "x.png", 0),
        ("RGB", "x.bmp", 0),
        ("RGB", "x.ppm", 0),
        ("RGB", "x.jp2", 0),
        ("RGBX", "x.tif", 0),
        ("CMYK", "x.tif", 0),
        ("CMYK", "x.jpg", 3),
        ("YCbCr", "x.tif", 3),
        ("LAB", "x.tif", 24),
    ],
)
def test_colours_of_every_mode_are_kept(tmp_path: Path, mode: str, name: str, error: int) -> None:
    image = Image.fromarray(COLORS)
    if mode == "LAB":  # eight bits of a and b are coarse where colours are saturated
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")  # type: ignore[assignment]
    else:
        image = image.convert(mode)
    image.save(tmp_path / name, **({"quality": 100, "subsampling": 0} if name == "x.jpg" else {}))
    with Image.open(tmp_path / name) as stored:
        assert stored.mode == ("RGB" if mode == "RGBX" else mode)
    assert np.abs(np.asarray(decode(tmp_path / name, GREY)).astype(int) - COLORS).max() <= error


def test_black_and_white_and_palettes_are_read(tmp_path: Path) -> None:
    Image.frombytes("1", (8, 1), b"\xa5").save(tmp_path / "x.png")
    assert grey_levels(tmp_path / "x.png") == [255, 0, 255, 0, 0, 255, 0, 255]
    Image.fromarray(COLORS).quantize(4).save(tmp_path / "x.gif")
    assert np.abs(np.asarray(decode(tmp_path / "x.gif", GREY)).astype(int) - COLORS).max() <= 2


# ---------------------------------------------------------------------------------------------- orientation


def upright(orientation: int, image: Image.Image, path: Path) -> None:
    """Saves the image as a camera with this orientation stores it."""
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (image if stored is None else image.transpose(stored)).save(path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "name", "mode"),
    [*itertools.product(range(1, 9), ["x.png", "x.tif"], ["RGB"]), (6, "x.png", "I;16"), (8, "x.png", "LA")],
)
def test_images_are_turned_upright(tmp_path: Path, orientation: int, name: str, mode: str) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    image = Image.fromarray(pixels) if mode != "I;16" else Image.fromarray(pixels.astype(np.uint16) * 257)
    upright(orientation, image if mode == "I;16" else image.convert(mode), tmp_path / name)
    got = np.asarray(decode(tmp_path / name, GREY))
    assert got.shape == (2, 3, 3)
    assert got[..., 0].tolist() == pixels.tolist()


def test_the_orientation_of_a_photo_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 8, 8))
    upright(6, image, tmp_path / "x.jpg")
    got = np.asarray(decode(tmp_path / "x.jpg", GREY))
    assert got.shape == (16, 32, 3)
    assert got[:6, :6].min() > 200
    assert got[10:].max() < 50


@pytest.mark.parametrize("exif", [b"Exif\0\0damaged", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\x00"])
def test_damaged_exif_data_count_as_none(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(COLORS).save(tmp_path / "x.png", exif=exif)
    assert np.asarray(decode(tmp_path / "x.png", GREY)).tolist() == COLORS.tolist()


# ---------------------------------------------------------------------------------------------- frames, damage


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.tif", "x.webp"])
def test_the_first_frame_of_several_is_read(tmp_path: Path, name: str) -> None:
    frames = [Image.new("L", (4, 4), value).convert("RGB") for value in (0, 255)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / f"one-{name}")
    assert np.asarray(decode(tmp_path / name, GREY)).max() <= 2
    assert has_more_frames(tmp_path / name)
    assert not has_more_frames(tmp_path / f"one-{name}")


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


@pytest.mark.parametrize(
    "damage", [lambda data: b"", cut, lambda data: b"<html>404</html>"], ids=["empty", "cut", "html"]
)
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.tif", "x.webp", "x.bmp", "x.ppm"])
def test_damaged_files_are_refused_by_their_name(tmp_path: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    path, memory = tmp_path / name, io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(memory, Image.registered_extensions()[path.suffix])
    path.write_bytes(damage(memory.getvalue()))
    with pytest.raises(DataError) as caught:
        decode(path, GREY)
    assert str(caught.value).startswith(f"{path} cannot be read as an image (")
    assert "\n" not in str(caught.value)
