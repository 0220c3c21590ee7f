"""Pictures in a NumPy .npz file: uint8 pictures and integer labels, split or not.

Arrays `x_train, y_train[, x_val, y_val], x_test, y_test` or `x, y`; `images`/`labels` may stand for x/y, before or
after the split's name. Pictures are (N, H, W), (N, H, W, 1) or (N, H, W, 3). Optional: `classes`, the names.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.data.listing import SPLIT_NAMES, Listing, Rows
from swiftlet.data.memory import check_memory
from swiftlet.errors import BadPhotos

MAX_BYTES = 4_000_000_000
NAMES = (("x_{}", "y_{}"), ("images_{}", "labels_{}"), ("{}_images", "{}_labels"), ("{}_x", "{}_y"))
NAMES_WITHOUT_SPLIT = (("x", "y"), ("images", "labels"))
Arrays = dict[str, npt.NDArray[Any]]


def list_npz(file: Path, classes: tuple[str, ...] | None = None, *, max_bytes: int = MAX_BYTES) -> Listing:
    """The pictures in `file`, in its order; a key is the array's name and the position.

    Without `classes` in the file, the class names are the labels that occur, as text. With the argument `classes`
    labels are matched to it by name, or by position if the file has no names and `classes` are not numbers.
    Raises BadPhotos.
    """
    arrays = _read(file, max_bytes)
    parts = list(_parts(file, arrays))
    used = {name for _, *names in parts for name in names} | {"classes"}
    extra = sorted(arrays.keys() - used)
    notes: tuple[str, ...] = (f"arrays that were not used: {', '.join(extra)}",) if extra else ()
    rows: list[npt.NDArray[np.uint8]] = []
    keys: list[str] = []
    splits: list[str] = []
    values: list[npt.NDArray[np.int64]] = []
    for split, x, y in parts:
        pictures = _pictures(file, x, arrays[x])
        values.append(_labels(file, y, arrays[y], x, len(pictures)))
        rows += list(pictures)
        keys += [f"{x}[{index}]" for index in range(len(pictures))]
        splits += [split] * len(pictures)
    known, labels = _classes(file, np.concatenate(values), arrays.get("classes"), classes)
    given = frozenset(split for split, *_ in parts if split)
    if given == {"train"}:
        given, splits = frozenset(), [""] * len(rows)
        notes += ("there is only a train split: validation and test pictures are taken from it",)
    return Listing(
        name=file.stem,
        classes=known,
        keys=tuple(keys),
        labels=labels,
        splits=np.array(splits, "U5"),
        pictures=Rows(rows),
        given=given,
        notes=notes,
    )


def _read(file: Path, max_bytes: int) -> Arrays:
    try:
        with zipfile.ZipFile(file) as archive:
            _check_sizes(file, archive, max_bytes)
        with np.load(file, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except BadPhotos:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on a damaged or hostile file
        raise BadPhotos(f"{file}: cannot be read as .npz: {str(error) or type(error).__name__}") from error


def _check_sizes(file: Path, archive: zipfile.ZipFile, max_bytes: int) -> None:
    """Nothing is allocated before this: what a header declares must fit the limit and what the file really holds."""
    declared = sum(info.file_size for info in archive.infolist())
    if declared > max_bytes:
        raise BadPhotos(
            f"{file}: unpacks to {declared:,} bytes, above the limit of {max_bytes:,}; use a folder of photos"
        )
    check_memory(declared, str(file))
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            raise BadPhotos(f"{file}: holds {info.filename!r}, which is no NumPy array")
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(member)
            if dtype.hasobject:
                raise BadPhotos(f"{file}: {info.filename} holds Python objects (pickle), which swiftlet does not open")
            if math.prod(shape) * dtype.itemsize != info.file_size - member.tell():
                raise BadPhotos(f"{file}: {info.filename} declares shape {shape}, which is not what it holds")


def _parts(file: Path, arrays: Arrays) -> Iterator[tuple[str, str, str]]:
    """(split or "", name of the pictures, name of the labels)"""
    pairs = [("", x, y) for x, y in NAMES_WITHOUT_SPLIT]
    pairs += [(split, x.format(word), y.format(word)) for word, split in SPLIT_NAMES.items() for x, y in NAMES]
    found = [(split, x, y) for split, x, y in pairs if x in arrays or y in arrays]
    if not found:
        names = ", ".join(sorted(arrays)) or "nothing"
        raise BadPhotos(f"{file}: needs arrays x and y, or x_train, y_train, x_test, y_test; it holds {names}")
    for split, x, y in found:
        if x not in arrays or y not in arrays:
            raise BadPhotos(f"{file}: has {x if x in arrays else y} but no {y if x in arrays else x}")
        if [part[0] for part in found].count(split) > 1 or (split == "") != (found[0][0] == ""):
            raise BadPhotos(f"{file}: {' and '.join(part[1] for part in found)} contradict each other; keep one form")
    yield from found


def _pictures(file: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise BadPhotos(f"{file}: {name} is {array.dtype}; swiftlet takes uint8 with values 0 to 255")
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if not (array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)) or 0 in array.shape[1:]:
        raise BadPhotos(
            f"{file}: {name} has shape {array.shape}; swiftlet takes (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
        )
    return np.ascontiguousarray(array)


def _labels(file: Path, name: str, array: npt.NDArray[Any], x: str, count: int) -> npt.NDArray[np.int64]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise BadPhotos(f"{file}: {name} is {array.dtype} {array.shape}; labels are integers, one per picture")
    if len(array) != count:
        raise BadPhotos(f"{file}: {x} has {count} pictures but {name} has {len(array)} labels")
    if array.dtype == np.uint64 and count and int(array.max()) >= 2**63:
        raise BadPhotos(f"{file}: {name} holds labels above 2^63")
    return array.astype(np.int64)


def _classes(
    file: Path,
    values: npt.NDArray[np.int64],
    names: npt.NDArray[Any] | None,
    classes: tuple[str, ...] | None,
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """(class names, labels as positions in them)"""
    if names is not None:
        if names.ndim != 1 or names.dtype.kind != "U" or len(set(names.tolist())) != len(names):
            raise BadPhotos(f"{file}: classes must be a one-dimensional array of different texts")
        _check_range(file, values, len(names))
        own: tuple[str, ...] = tuple(names.tolist())
        labels = values
    elif classes is not None and not all(name.lstrip("-").isdigit() for name in classes):
        _check_range(file, values, len(classes))
        return classes, values
    else:
        kinds, labels = np.unique(values, return_inverse=True)
        own = tuple(str(kind) for kind in kinds)
    if classes is None:
        return own, labels.astype(np.int64)
    for label in np.unique(labels):
        if own[label] not in classes:
            raise BadPhotos(f"{file}: class {own[label]!r} is not one of the file's classes ({', '.join(classes)})")
    place = np.array([classes.index(name) if name in classes else -1 for name in own], np.int64)
    return classes, place[labels]


def _check_range(file: Path, values: npt.NDArray[np.int64], count: int) -> None:
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < count:
        raise BadPhotos(f"{file}: labels run from {values.min()} to {values.max()}, but there are {count} classes")
