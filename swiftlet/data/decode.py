"""One photo file -> one upright RGB picture, by one written rule, or BadImage with the reason.

The rule, in this order (every other path, training, server or browser, must give the same pixels):

1. JPEG, PNG and WebP only. The size is read from the header and checked before any pixel is decoded.
2. The first frame of an animation, the base picture of a multi-picture JPEG.
3. EXIF orientation is applied; then all metadata (EXIF, GPS, XMP, ICC profile) is dropped. Colours are taken as sRGB.
4. 16 bits per channel -> the top byte, which is what Pillow itself does with 16-bit colour PNG.
5. Any transparency (RGBA, LA, PA, or a transparent colour in a palette, grey or RGB picture) -> laid over white.
6. Palette -> its colours. Grey and black-and-white -> three equal channels. CMYK -> RGB by Pillow's formula.

A truncated file, a broken checksum and anything that Pillow warns about is refused, not repaired.

Training may ask for less than that picture: a JPEG decoded at a half, a quarter or an eighth of its size, which is
several times faster for photos of many megapixels. Evaluation never does.
"""

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from swiftlet.errors import BadImage

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".png": "PNG", ".webp": "WEBP"}
NOT_A_PHOTO = "not a JPEG, PNG or WebP file"
MAX_PIXELS = 50_000_000


def open_photo(file: Path | bytes, *, max_pixels: int = MAX_PIXELS, least_side: int | None = None) -> Image.Image:
    """The picture in `file` (a path or the file's bytes) as upright RGB without metadata; safe to call from threads.

    A path must be a regular file, no symlink, and its name must tell the truth about its format. With `least_side` a
    JPEG may come out smaller by a factor of 2, 4 or 8, as long as no side falls below it; its pixels then differ
    slightly from those of the rule. Raises BadImage.
    """
    if isinstance(file, bytes):
        if not file:
            raise BadImage("empty file")
        return _decode(io.BytesIO(file), None, max_pixels, least_side)
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise BadImage(NOT_A_PHOTO)
    try:
        about = file.lstat()
        if stat.S_ISLNK(about.st_mode):
            raise BadImage("symbolic link: swiftlet does not follow links")
        if not stat.S_ISREG(about.st_mode):
            raise BadImage("not a regular file")
        if about.st_size == 0:
            raise BadImage("empty file")
        with file.open("rb") as stream:
            return _decode(stream, suffix, max_pixels, least_side)
    except OSError as error:
        raise BadImage(f"cannot be opened: {error.strerror or error}") from error


def _decode(stream: IO[bytes], suffix: str | None, max_pixels: int, least_side: int | None) -> Image.Image:
    with _pillow_warnings_are_errors():
        try:
            with Image.open(stream, formats=("JPEG", "PNG", "WEBP")) as image:
                _check_header(image, suffix, max_pixels)
                if least_side is not None:
                    image.draft(None, (least_side, least_side))  # other formats have no such thing, and ignore it
                deep = any(";16" in str(tile[3]) for tile in image.tile)  # the tiles are gone once it is loaded
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _to_rgb(image, deep)
        except BadImage:
            raise
        except UnidentifiedImageError as error:
            raise BadImage("holds no JPEG, PNG or WebP picture, or only the first bytes of one") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise BadImage(_too_large(max_pixels)) from error
        except Exception as error:  # a hostile file can make a decoder raise anything; all of it means the same to us
            raise BadImage(f"cannot be decoded: {str(error) or type(error).__name__}") from error


def _check_header(image: Image.Image, suffix: str | None, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(f"{width}x{height}: {_too_large(max_pixels)}")
    holds = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with more JPEGs behind it (phones)
    if suffix is not None and FORMATS[suffix] != holds:
        raise BadImage(f"named {suffix} but holds {'WebP' if holds == 'WEBP' else holds}: rename it")


def _too_large(max_pixels: int) -> str:
    return f"more than {max_pixels:,} pixels"


def _to_rgb(image: Image.Image, deep: bool) -> Image.Image:
    """Steps 4 to 6 of the rule. `deep`: the file held 16 bits per channel."""
    if image.mode.startswith("I"):
        image = _grey_top_byte(image)
    elif deep and isinstance(key := image.info.get("transparency"), tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)  # Pillow cut the pixels, but not this colour
    # a new picture: clearing `info` would leave the parsed EXIF behind
    clean = Image.new("RGB", image.size, "white" if image.has_transparency_data else None)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        clean.paste(layer, mask=layer.getchannel("A"))
    else:
        clean.paste(image)  # converts
    return clean


def _grey_top_byte(image: Image.Image) -> Image.Image:
    """Modes I, I;16 and I;16B: 16-bit grey (no format that is let in holds more), perhaps with one clear value."""
    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    clear = image.info.get("transparency")
    if clear is not None:
        grey[values == clear] = 255
    return Image.fromarray(grey)


_lock = threading.Lock()
_inside = 0
_filters = warnings.catch_warnings()


@contextmanager
def _pillow_warnings_are_errors() -> Iterator[None]:
    """Warnings from Pillow raise while any thread is inside.

    Warning filters belong to the whole process: the first thread in sets them and the last one out restores them,
    because overlapping catch_warnings() blocks of several threads would leave the wrong filters behind.
    """
    global _inside, _filters
    with _lock:
        if _inside == 0:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("error", module=r"PIL\.")
            # A multi-picture JPEG cut down to its base picture by an editor. The base picture is all that we want.
            warnings.filterwarnings("ignore", message="Image appears to be a malformed MPO", module=r"PIL\.")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _filters.__exit__(None, None, None)
