"""Golden pictures: proof, on any machine, that a file sees the same pixels and gives the same answer.

Four pictures that a formula makes travel as nothing but their names; the digests of their pixels under the file's
input contract and the scores that the file gave are written into its metadata. Beside the file the same proof lies
as a folder, with real photos too, for readers in other languages.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from swiftlet.data.contract import InputContract, golden_pictures
from swiftlet.errors import BadFile
from swiftlet.files import write_atomically, write_json

Run = Callable[[np.ndarray], np.ndarray]  # uint8 (N, side, side, 3) -> scores (N, classes)


def golden_record(run: Run, contract: InputContract) -> dict[str, object]:
    """What goes into the metadata: name, digest of the pixels and scores, to 6 decimals, of each picture."""
    return _record(run, contract, golden_pictures())


def parity(run: Run, contract: InputContract, record: object) -> npt.NDArray[np.float64]:
    """For each picture of a record, the largest absolute difference between its scores now and those recorded.

    Raises BadFile if the record is malformed or if our pixels differ from those that the file was tested with.
    """
    pictures = dict(golden_pictures())
    try:
        names, digests = list(record["pictures"]), list(record["pixels_sha256"])  # type: ignore[index]
        expected = np.array(record["scores"], np.float64)  # type: ignore[index]
        images = np.stack([contract.pixels(pictures[name]) for name in names])
        if not len(names) == len(digests) == len(expected):
            raise ValueError("as many pictures as digests and scores are needed")
    except (TypeError, KeyError, ValueError) as error:
        raise BadFile(
            f"the golden record in the file's metadata is malformed ({error!r}); export the file again"
        ) from error
    for name, image, digest in zip(names, images, digests, strict=True):
        if _digest(image) != digest:
            raise BadFile(f"golden picture {name}: this machine computes other pixels than the file was tested with")
    scores = run(images)
    if scores.shape != expected.shape:
        raise BadFile(f"golden record: scores of shape {expected.shape}, the file gives {scores.shape}")
    differences: npt.NDArray[np.float64] = np.abs(scores - expected).max(1)
    return differences


def write_golden(folder: Path, run: Run, contract: InputContract, photos: Sequence[tuple[str, Image.Image]]) -> None:
    """Fill `folder` with PNG pictures and golden.json: the formula's pictures and the given photos."""
    folder.mkdir(exist_ok=True)
    pictures = [*golden_pictures(), *photos]
    for name, picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        write_atomically(folder / f"{name}.png", buffer.getvalue())
    record = _record(run, contract, pictures) | {"contract": contract.to_json()}
    write_json(folder / "golden.json", record)


def _record(run: Run, contract: InputContract, pictures: Sequence[tuple[str, Image.Image]]) -> dict[str, object]:
    images = np.stack([contract.pixels(picture) for _, picture in pictures])
    scores = [[round(float(value), 6) for value in row] for row in run(images)]
    return {"pictures": [n for n, _ in pictures], "pixels_sha256": [_digest(i) for i in images], "scores": scores}


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:32]
