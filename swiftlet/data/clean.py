"""Pictures as shards store them: without metadata, upright, perhaps smaller."""

import hashlib
import io
import threading
from collections.abc import Sequence

from PIL import Image

from swiftlet.data.decode import open_photo
from swiftlet.data.listing import Files, Pictures
from swiftlet.data.shard_index import MAX_STORED
from swiftlet.data.shard_reader import Stored
from swiftlet.data.strip import PNG, stripped
from swiftlet.errors import BadImage

QUALITY = 90  # 30 KB and an error of two grey levels for a photo of 240 pixels; 95 takes 40 % more for 1.3 levels


class Cleaned:
    """Pictures as they are stored: without metadata, upright, at most `side` pixels on the short side.

    A file whose pixels stay the same without its metadata is stored so, and no pixel is encoded anew; that they do is
    checked for each by decoding both. Others are encoded: PNG files, and pictures that are in no file, as PNG,
    all else as JPEG without chroma subsampling.
    """

    def __init__(self, pictures: Pictures, side: int | None) -> None:
        self._pictures, self._side = pictures, side
        self._last = threading.local()  # the audit asks for the picture, then for its digest

    def stored(self, index: int) -> tuple[bytes, Image.Image, bool]:
        """(file, picture in it, whether it was encoded). Raises BadImage."""
        if getattr(self._last, "index", None) != index:
            self._last.found = self._make(index)
            self._last.index = index
        found: tuple[bytes, Image.Image, bool] = self._last.found
        return found

    def image(self, index: int, *, least_side: int | None = None) -> Image.Image:
        return self.stored(index)[1]

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(self.stored(index)[0]).digest()

    def subset(self, indices: Sequence[int]) -> "Cleaned":
        return Cleaned(self._pictures.subset(indices), self._side)

    def _make(self, index: int) -> tuple[bytes, Image.Image, bool]:
        upright = self._pictures.image(index)
        data = self._file(index)
        short = min(upright.size)
        if self._side is not None and short > self._side:
            size = (round(upright.width * self._side / short), round(upright.height * self._side / short))
            upright = upright.resize(size, Image.Resampling.BICUBIC)
        else:
            bare = stripped(data)
            if bare is not None and _shows(bare, upright):
                return bare, upright, False
        stream = io.BytesIO()
        if data.startswith(PNG) or not data:
            upright.save(stream, "PNG")
        else:
            upright.save(stream, "JPEG", quality=QUALITY, subsampling=0)
        encoded = _bounded(stream.getvalue())
        return encoded, open_photo(encoded), True

    def _file(self, index: int) -> bytes:
        """As it was; nothing for a picture that is in no file."""
        try:
            if isinstance(self._pictures, Files):
                with self._pictures.paths[index].open("rb") as stream:
                    return _bounded(stream.read(MAX_STORED + 1))
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror or error}") from error
        return self._pictures.data(index) if isinstance(self._pictures, Stored) else b""


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_STORED:
        raise BadImage(f"its file has more than {MAX_STORED:,} bytes")
    return data


def _shows(data: bytes, picture: Image.Image) -> bool:
    try:
        found = open_photo(data)
    except BadImage:
        return False
    return found.size == picture.size and found.tobytes() == picture.tobytes()
