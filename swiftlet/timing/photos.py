"""From a photo on disk to its scores: how long decoding, resizing and the network take, each by itself."""

from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from swiftlet.check import load_classifier
from swiftlet.data.decode import FORMATS, open_photo
from swiftlet.errors import BadImage, BadInput, BadPhotos
from swiftlet.progress import Progress
from swiftlet.runtime.denormals import flushed_denormals
from swiftlet.runtime.machine import disturbance, machine, moment, others
from swiftlet.timing.entrants import Entry, admit, zeros

STAGES = ("decode", "resize", "network")
MOST = 500  # photos: their pixels are not kept, but each is read from the disk once before


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Milliseconds over photos."""

    p50_ms: float
    p90_ms: float
    share: float  # of the sum over all photos


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoTimes:
    """decode: file to upright RGB; resize: crop and resize to the network's side; network: normalising where the file
    leaves it to the caller, and the run. total: the three, photo by photo. pixels: median of a photo's."""

    entry: Entry
    photos: int
    pixels: int
    set_aside: int
    stages: dict[str, Stage]
    total: Stage
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        entry = found.pop("entry")
        return {**entry, "file": str(self.entry.file), **found, "machine": str(machine())}


def time_photos(
    file: Path,
    folder: Path,
    runtime: str = "onnxruntime",
    threads: int = 1,
    *,
    seconds: float = 5.0,
    progress: Progress | None = None,
) -> PhotoTimes:
    """Run the photos under `folder`, one at a time, for about `seconds` and each at most once.

    Files are read once before, so that decoding is timed and not the disk. Those that are no usable photos are
    counted in set_aside. Raises BadPhotos if none is usable, BadFile, BadInput, MissingExtra.
    """
    if not seconds > 0:
        raise BadInput(f"seconds={seconds} must be above 0")
    if not folder.is_dir():
        raise BadPhotos(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
    order = np.random.default_rng(0).permutation(len(paths))[:MOST]
    show: Progress = progress or (lambda what, done, total: None)
    times: list[list[int]] = []
    sizes: list[int] = []
    set_aside = 0
    with flushed_denormals():
        (admitted,), _ = admit([Entry(file, runtime, threads)], 1, show)
        admitted.program.close()
        classifier = load_classifier(file, runtime=runtime, threads=threads)
        contract = classifier.contract
        classifier.scores(np.zeros((1, contract.side, contract.side, 3), np.uint8))
        before = moment()
        end = perf_counter_ns() + seconds * 1e9
        for done, path in enumerate(paths[i] for i in order):
            try:
                open_photo(path)
                start = perf_counter_ns()
                image = open_photo(path)
            except BadImage:
                set_aside += 1
                continue
            decoded = perf_counter_ns()
            pixels = contract.pixels(image)
            resized = perf_counter_ns()
            classifier.scores(pixels[None])
            times.append([decoded - start, resized - decoded, perf_counter_ns() - resized])
            sizes.append(image.width * image.height)
            show("photos", done + 1, len(order))
            if perf_counter_ns() > end:
                break
        busy = others(before, moment())
        classifier.program.close()
    if not times:
        raise BadPhotos(f"{folder}: no photo in it can be used; {set_aside} files end in {', '.join(sorted(FORMATS))}")
    ms = np.array(times) / 1e6
    whole = ms.sum()
    return PhotoTimes(
        entry=admitted.entry,
        photos=len(times),
        pixels=int(np.median(sizes)),
        set_aside=set_aside,
        stages={name: _stage(ms[:, i], whole) for i, name in enumerate(STAGES)},
        total=_stage(ms.sum(1), whole),
        notes=(*classifier.notes, *zeros(file), *disturbance(busy)),
    )


def _stage(ms: "np.ndarray[Any, np.dtype[Any]]", whole: float) -> Stage:
    p50, p90 = np.quantile(ms, (0.5, 0.9))
    return Stage(p50_ms=float(p50), p90_ms=float(p90), share=float(ms.sum() / whole))
