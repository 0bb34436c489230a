"""Decoding of image files: every mode that Pillow opens becomes 8-bit RGB, or the file is refused by its name.

Values map to 0..1 by the range of the file's type: 8 bits / 255, 12 bits / 4095, 16 bits / 65535, floats as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from trainers.datasets import DataError, first_line

_ENDINGS = ".jpg .jpeg .jpe .jfif .png .bmp .webp .avif .tif .tiff .ppm .pgm .pbm .pnm .pfm .gif .jp2"
ENDINGS = frozenset(_ENDINGS.split())
Color = tuple[int, int, int]
Array = np.ndarray[Any, Any]

_WIDE = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I", "F"})
"""Modes of one channel with more than 8 bits, which Pillow would clip to 255."""
_MAX_16 = 65535
_UNITS = {"L;2": 85, "L;4": 17}
"""Factor from the grey values of a PNG with 2 or 4 bits to those of the decoded image."""


class _RangeError(ValueError):
    """The values have no known range; the text says how to save the image."""


def decode(path: Path, background: Color) -> Image.Image:
    """Returns the first frame in RGB, upright, with its transparent parts over the background colour.

    Raises DataError, naming the file, if it cannot be read or its values have no known range.
    """
    with _errors_named(path), Image.open(path) as image:
        rawmode = image.tile[0].args if image.tile else None
        image.load()
        return _to_rgb(image, rawmode, background)


def has_more_frames(path: Path) -> bool:
    """Returns whether a file holds an animation or several pages. Raises DataError."""
    with _errors_named(path), Image.open(path) as image:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))  # MPO: a photo with its preview


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about details such as damaged EXIF data
            yield
    except _RangeError as error:
        raise DataError(f"{path} {error}") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        text = f"{path} cannot be read as an image ({first_line(error)}); get it again or remove it"
        raise DataError(text) from error


def _to_rgb(image: Image.Image, rawmode: Any, background: Color) -> Image.Image:
    orientation = _orientation(image)
    if image.mode in _WIDE:
        image = _to_8_bits(image)
    else:
        _correct_transparency(image, rawmode)
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        below = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    rgb = image.convert("RGB")
    rgb.info.clear()
    rgb.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(rgb, in_place=True)
    return rgb


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 if the EXIF data are damaged. Pillow has applied that of a TIFF file."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's parser raises errors of many types
        return 1


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Returns an image of a wide mode as grey values of 8 bits, with alpha if it has a transparent value.

    Raises _RangeError if the range of the values is not known.
    """
    values = np.asarray(image)
    shares = _shares(image, values)
    if image.format == "TIFF" and _tag(image, PHOTOMETRIC_INTERPRETATION) == 0:  # 0 is white
        shares = 1.0 - shares
    grey = Image.fromarray(np.round(255.0 * shares).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


def _shares(image: Image.Image, values: Array) -> Array:
    """Returns the values of a wide mode as shares of white."""
    if image.mode != "F":
        return np.asarray(values / _largest(image))
    low, high = values.min(), values.max()
    if not 0.0 <= low <= high <= 1.0:  # also for NaN
        text = f"holds float values from {low:g} to {high:g}, which must be 0 to 1"
        raise _RangeError(f"{text}; scale them, or save the image with 8 or 16 bits")
    return values


def _largest(image: Image.Image) -> int:
    """Returns the value of white of an integer mode. Raises _RangeError if the file does not determine it."""
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # Pillow reads their 16 bits as I
        low, high = image.getextrema()
        text = f"holds integers of {_tag(image, BITSPERSAMPLE) or 32} bits from {low} to {high}"
        raise _RangeError(f"{text}, whose range is not known; save it with 8 bits, or with 16 bits without sign")
    bits = _tag(image, BITSPERSAMPLE) if image.format == "TIFF" else None
    return _MAX_16 if bits is None else 2**bits - 1


def _tag(image: Image.Image, tag: int) -> int | None:
    """Returns the (first) value of a TIFF tag."""
    value = getattr(image, "tag_v2", {}).get(tag)
    if value is None:
        return None
    return int(value[0] if isinstance(value, tuple) else value)


def _correct_transparency(image: Image.Image, rawmode: Any) -> None:
    """Scales the transparent colour of a PNG to the 8 bits of its pixels, which Pillow leaves in the file's bits."""
    color = image.info.get("transparency")
    if image.format != "PNG" or color is None:
        return
    if rawmode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in color)
    elif rawmode in _UNITS:
        image.info["transparency"] = color * _UNITS[rawmode]
