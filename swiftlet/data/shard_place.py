"""Where shards lie: a folder, or any address that fsspec opens (s3://, gs://, https://, memory://, ...)."""

import re
import time
from pathlib import Path
from typing import Any, Protocol

from swiftlet.errors import BadPhotos, MissingExtra

ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
WAITS = (0.5, 4.0)  # seconds before the second and the third try: networks fail now and then


def is_address(source: object) -> bool:
    return isinstance(source, str) and ADDRESS.match(source) is not None


class Place(Protocol):
    """Files by name, safe to use from threads. Both methods raise BadPhotos; str() is what errors call it."""

    def whole(self, name: str, limit: int) -> bytes:
        """A file of at most `limit` bytes."""
        ...

    def part(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`, by one seek or one range request."""
        ...


class Folder:
    """On a disk of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def whole(self, name: str, limit: int) -> bytes:
        return self._read(name, 0, limit + 1, limit)

    def part(self, name: str, start: int, length: int) -> bytes:
        return _exactly(f"{self}/{name}", self._read(name, start, length, length), start, length)

    def _read(self, name: str, start: int, length: int, limit: int) -> bytes:
        try:
            with (self.path / name).open("rb") as stream:
                stream.seek(start)
                data = stream.read(min(length, limit + 1))
        except OSError as error:
            raise BadPhotos(f"{self}/{name}: cannot be read: {error.strerror or error}") from error
        return _within(f"{self}/{name}", data, limit)


class Remote:
    """At an address, through fsspec. Raises MissingExtra, and BadPhotos for a protocol that fsspec does not know."""

    def __init__(self, address: str) -> None:
        try:
            from fsspec.core import url_to_fs

            files, root = url_to_fs(address)
        except ImportError as error:
            raise MissingExtra(
                f"{address}: {error}; pip install 'swiftlet[shards]', or what fsspec asks for"
            ) from error
        except ValueError as error:
            raise BadPhotos(f"{address}: {error}") from error
        self.address, self._files, self._root = address, files, root.rstrip("/")

    def __str__(self) -> str:
        return self.address.rstrip("/")

    def whole(self, name: str, limit: int) -> bytes:
        return _within(f"{self}/{name}", self._read(name, 0, limit + 1), limit)

    def part(self, name: str, start: int, length: int) -> bytes:
        return _exactly(f"{self}/{name}", self._read(name, start, start + length), start, length)

    def _read(self, name: str, start: int, end: int) -> bytes:
        for wait in (*WAITS, None):
            try:
                data: Any = self._files.cat_file(f"{self._root}/{name}", start=start, end=end)
                return bytes(data)
            except FileNotFoundError as error:
                raise BadPhotos(f"{self}/{name}: there is no such file") from error
            except Exception as error:  # every protocol has errors of its own
                if wait is None:
                    tries = len(WAITS) + 1
                    text = str(error) or type(error).__name__
                    raise BadPhotos(f"{self}/{name}: cannot be read, tried {tries} times: {text:.300}") from error
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")


def _within(where: str, data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise BadPhotos(f"{where}: is larger than {limit:,} bytes; it is not what it should be")
    return data


def _exactly(where: str, data: bytes, start: int, length: int) -> bytes:
    if len(data) != length:
        raise BadPhotos(
            f"{where}: gave {len(data):,} bytes for {length:,} from {start:,}; it is cut off, or its server "
            "answers no range requests"
        )
    return data
