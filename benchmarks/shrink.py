"""`swiftlet.shrink` beside what one would otherwise do with the same trained network.

Three networks are trained first. Then all shrink them: the same photos, the same 256 calibration pictures, at most half
a point lost, the same minutes where anything is trained. Accuracy, bytes and milliseconds are those of the delivered
files, on test pictures that nobody saw, in one race on one thread at batch 1; a file that is not ONNX is run by what it
was made for. All stages lie in runs/shrink, so a call that was stopped goes on. Needs SWIFTLET_DATA, the extra
`rivals`, an otherwise idle machine and about an hour and a quarter of two cores.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import shrink_rivals as rivals
from benchmarks.ledger import record
from benchmarks.shrink_pruned import torch_pruning
from benchmarks.shrink_start import cifar10, imagenet
from benchmarks.shrink_table import OURS, Row, goal, judged
from swiftlet.budget import Budget
from swiftlet.check import Classifier, load_classifier, wilson
from swiftlet.data.photos import Photos, load_photos
from swiftlet.errors import MissingExtra
from swiftlet.run import Run
from swiftlet.runtime.base import Array, Program, first_line
from swiftlet.runtime.measurement import compare
from swiftlet.runtime.openvino import import_openvino, settings
from swiftlet.runtime.race import Contestant, race
from swiftlet.shrinking.source import open_source
from swiftlet.shrinking.verb import shrink
from swiftlet.training import train

FOLDER = Path("runs/shrink")
MINUTES = 5.0  # of all that trains a network once more, ours and theirs
MAX_DROP = 0.5  # points, on the validation photos
SECONDS = 5.0  # of the race, for each file


@dataclass(frozen=True, kw_only=True)
class Network:
    """data: below SWIFTLET_DATA, or what writes it; minutes: of the training; weights: what writes those that it starts
    from, if any do; options: of train; kept: of rivals.Given."""

    name: str
    data: str | Callable[[Path], Path]
    minutes: float = 4.0
    weights: Callable[[Path], Path] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return FOLDER / self.name.partition(" ")[0]


NETWORKS = (
    Network(
        name="mobilenet_v2 at 96 from ImageNet, clothing10",
        data="clothing10",
        weights=imagenet,
        options={"side": 96},
    ),
    Network(
        name="resnet20 at 32, CIFAR-10 (JPEG q75)",
        data=cifar10,
        minutes=12.0,  # the published weights have seen the validation pictures
        options={"model": "resnet20", "side": 32},
        kept=("stem.0", "body.1.0"),  # Torch-Pruning 1.6 cannot follow shortcuts that pad with zeros (IndexError)
    ),
    Network(
        name="mobilenet_v1 0.5 at 28, Fashion-MNIST",
        data="fashion_mnist/fashion_mnist.npz",
        options={
            "model": "mobilenet_v1",
            "arguments": {"width": 0.5, "stem_stride": 1},
            "side": 28,
            "recipe": "glyphs",
            "changes": {"flip": True, "rotation": 5.0},  # clothes
        },
    ),
)

# each writes a file; what runs it
PTQ: dict[str, tuple[Callable[[rivals.Given], Path], str]] = {
    "as trained, float32": (rivals.float32, "onnxruntime"),
    "ONNX Runtime, defaults": (rivals.onnxruntime_default, "onnxruntime"),
    "ONNX Runtime, preprocessed, per channel": (rivals.onnxruntime_best, "onnxruntime"),
    "NNCF": (rivals.nncf_onnx, "onnxruntime"),
    "NNCF with accuracy control": (rivals.nncf_accuracy_control, "onnxruntime"),
    "NNCF for OpenVINO": (rivals.nncf_openvino, "openvino"),
    "torchao PT2E, compiled": (rivals.torchao_inductor, "torch"),
    "torchao PT2E, exported": (rivals.torchao_onnx, "onnxruntime"),
}
PRUNED = {
    "float32": "Torch-Pruning, fine-tuned",
    "int8": "Torch-Pruning, fine-tuned, ONNX Runtime per channel",
}


class Called(Program):
    """A compiled network of another runtime, one picture at a time."""

    def __init__(self, file: Path, side: int, call: Callable[[Array], Array]) -> None:
        self.name, self.input_shape, self.input_dtype = file.name, (1, 3, side, side), np.dtype(np.float32)
        self.output_names, self.precision = ("scores",), "int8"
        self._call = call

    def execute(self, batch: Array) -> list[Array]:
        return [self._call(batch)]


def opened(file: Path, runtime: str, given: rivals.Given) -> Classifier:
    """By one thread."""
    if file.suffix == ".onnx":
        return load_classifier(file, runtime=runtime, contract=given.contract)
    if runtime == "openvino":
        compiled = import_openvino().Core().compile_model(str(file), "CPU", settings(1, "f32"))
        request = compiled.create_infer_request()

        def call(batch: Array) -> Array:
            request.infer([batch], share_inputs=True)
            found: Array = request.get_output_tensor(0).data.copy()
            return found

    else:
        package: Any = torch._inductor.aoti_load_package(str(file))

        def call(batch: Array) -> Array:
            found: Array = package(torch.from_numpy(batch)).numpy()
            return found

    return Classifier(Called(file, given.contract.side, call), given.contract, None, None, None, ())


def trained(network: Network) -> tuple[Path, Path]:
    """(the photos, the folder of the run)"""
    network.folder.mkdir(parents=True, exist_ok=True)
    given = Path(os.environ["SWIFTLET_DATA"])
    data = given / network.data if isinstance(network.data, str) else network.data(FOLDER)
    start = {"model": str(network.weights(network.folder))} if network.weights else {}
    out = network.folder / "trained"
    train(data, minutes=network.minutes, out=out, **start | network.options)
    return data, out


def measure(network: Network) -> dict[str, Any]:
    data, run = trained(network)
    print(f"{network.name}: trained", flush=True)
    ours = {}
    for name, runtime in OURS.items():
        budget = Budget(max_drop=MAX_DROP, runtime=runtime)
        ours[name] = shrink(run, data, budget, minutes=MINUTES, out=network.folder / f"ours-{runtime}")
        print(f"{network.name}: {name}, {ours[name].precision}", flush=True)
    source, photos = open_source(run), load_photos(data)
    with Run(network.folder / "others") as stages:
        given = rivals.Given(
            model=source.model,
            contract=source.contract,
            photos=photos,
            minutes=MINUTES,
            max_drop=MAX_DROP,
            folder=stages.folder,
            kept=network.kept,
        )
        files = made_by_others(given, stages)
    for name, shrunk in ours.items():
        files.append({"method": name, "runtime": OURS[name], "file": shrunk.file, "seconds": shrunk.seconds})
    rows = raced(files, given, photos)
    found = {
        "name": network.name,
        "minutes": network.minutes,
        "n": len(photos.test),
        "rows": rows,
        "judged": judged(rows),
    }
    ladders = {
        name: [f"{rung.step}: {rung.undone or 'kept'}" for rung in shrunk.ladder] for name, shrunk in ours.items()
    }
    return found | {"ladders": ladders}


def made_by_others(given: rivals.Given, stages: Run) -> list[Row]:
    """A file of each, or why there is none, made once."""

    def attempt(make: Callable[[rivals.Given], Any]) -> Row:
        began = perf_counter()
        try:
            made = make(given)
        except MissingExtra:
            raise
        except Exception as error:  # whatever it is, it is this tool's answer to this network
            return {"failed": f"{type(error).__name__}: {first_line(error)}"}
        return {"file": str(made), "seconds": perf_counter() - began} if isinstance(made, Path) else dict(made)

    rows: list[Row] = []
    for name, (make, runtime) in PTQ.items():
        found = stages.once(make.__name__, partial(attempt, make))
        rows.append({"method": name, "runtime": runtime, **found})
        print(f"{name}: {found.get('failed') or 'done'}", flush=True)
    pruned = stages.once("pruned", partial(attempt, torch_pruning))
    for kind, name in PRUNED.items():
        found = pruned.get(kind, pruned)
        rows.append({"method": name, "runtime": "onnxruntime", **found})
        print(f"{name}: {found.get('failed') or found}", flush=True)
    return rows


def raced(files: list[Row], given: rivals.Given, photos: Photos) -> list[Row]:
    """The rows of the table: what each file is worth, and against ours."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    test = photos.test.open("benchmark", given.folder / "test-opened.json")
    pixels = cache(test.pixels)  # ours may take smaller pictures
    whole = [row for row in files if "failed" not in row]
    classifiers = [opened(Path(row["file"]), row["runtime"], given) for row in whole]
    right = [classifier.scores(pixels(classifier.contract)).argmax(1) == test.labels for classifier in classifiers]
    contestants = [
        Contestant(row["method"], classifier.program, row["runtime"], 1)
        for row, classifier in zip(whole, classifiers, strict=True)
    ]
    measured = race(contestants, seconds=SECONDS * len(contestants))
    torch.set_num_threads(threads)
    ours = min((i for i, row in enumerate(whole) if row["method"] in OURS), key=lambda i: measured[i].p50_ms)
    rows = []
    for row, answers, time in zip(whole, right, measured, strict=True):
        low, high = wilson(int(answers.sum()), len(answers))
        rows.append(
            {key: row[key] for key in ("method", "runtime", "validation_percent", "step") if key in row}
            | {
                "accuracy": round(100 * float(answers.mean()), 2),
                "interval": [round(100 * low, 2), round(100 * high, 2)],
                "points_below_ours": below(right[ours], answers),
                "ms": round(time.p50_ms, 4),
                "times_as_long": [round(x, 3) for x in compare(measured[ours].rounds_ms, time.rounds_ms)],
                "bytes": size(Path(row["file"])),
                "minutes": round(row["seconds"] / 60, 2),
            }
        )
    return sorted(
        [*rows, *(row for row in files if "failed" in row)],
        key=lambda row: [of["method"] for of in files].index(row["method"]),
    )


def below(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> list[float]:
    """Points, picture by picture, and their 95 % interval."""
    lost = 100 * (ours.astype(float) - theirs)
    half = 1.96 * float(lost.std()) / len(lost) ** 0.5
    mean = float(lost.mean())
    return [round(mean, 2), round(mean - half, 2), round(mean + half, 2)]


def size(file: Path) -> int:
    """With the .bin that belongs to an .xml of OpenVINO."""
    return sum(part.stat().st_size for part in {file, file.with_suffix(".bin")} if part.exists())


def run() -> None:
    rivals.check_installed()
    networks = [measure(network) for network in NETWORKS]
    verdict = goal([network["judged"] for network in networks])
    figures = {"minutes": MINUTES, "max_drop": MAX_DROP, "goal": verdict}
    record("shrink", "python -m benchmarks shrink", figures | {"networks": networks})
