"""shrink: from a trained network and its photos to a delivered file, with the ladder that led there."""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from swiftlet._version import __version__
from swiftlet.budget import Budget, Cost
from swiftlet.check import Scored, load_classifier, measured_cost, score
from swiftlet.cost.screen import read_onnx
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import load_photos
from swiftlet.errors import BadInput
from swiftlet.export.artifact import read_artifact
from swiftlet.export.golden import write_golden
from swiftlet.export.onnx import graph_digest
from swiftlet.files import write_atomically, write_json
from swiftlet.gate import with_figures
from swiftlet.pack.files import SUFFIX
from swiftlet.pack.onnx import pack_onnx
from swiftlet.progress import Progress
from swiftlet.report.build import build_report
from swiftlet.report.gather import gather_ladder
from swiftlet.run import Run
from swiftlet.runtime.machine import machine
from swiftlet.runtime.race import Contestant, race
from swiftlet.shrinking.ladder import Ladder
from swiftlet.shrinking.offers import points_lost
from swiftlet.shrinking.source import FLOAT, open_source
from swiftlet.shrinking.stage import Stage
from swiftlet.shrinking.teach import recipe_taken
from swiftlet.shrinking.workplace import Workplace
from swiftlet.signals import terminable

RACE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step down and what it bought, of the file in `precision`. accuracy: a share of 1 on the validation photos;
    drop: points below the network that came in; packed_bytes: of the file in a container (swiftlet.pack); p50_ms: of
    one race of all rungs; undone: why the step does not stand, "" if it does; delivered: whether this is the file."""

    step: str
    precision: str
    accuracy: float
    drop: float
    macs: int
    size_bytes: int
    packed_bytes: int
    p50_ms: float
    seconds: float
    undone: str
    delivered: bool


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """What shrinking delivered: `file`; `packed`, the same for the download; and the ladder. Accuracies are shares of 1
    on the `n` photos of the sealed test split, of the file (with its 95 % interval) and of the float32 file of the
    network that came in, as are the `parent_` figures. `over`: what is over the budget, nothing if the file is within
    it."""

    file: str
    packed: str
    report: str
    network: str
    precision: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    parent_accuracy: float
    size_bytes: int
    parent_bytes: int
    packed_bytes: int
    p50_ms: float
    p90_ms: float
    parent_ms: float
    cost: Cost
    over: dict[str, str]
    ladder: tuple[Rung, ...]
    notes: tuple[str, ...]
    machine: str
    seconds: float

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Shrunk":
        rungs = tuple(Rung(**rung) for rung in data["ladder"])
        lists = {"interval": tuple(data["interval"]), "notes": tuple(data["notes"])}
        return cls(**data | lists | {"cost": Cost(**data["cost"]), "ladder": rungs})


def shrink(
    source: Path | str,
    photos: Path | str | None = None,
    budget: Budget | None = None,
    *,
    minutes: float = 10.0,
    out: Path | str | None = None,
    seed: int | None = None,
    contract: InputContract | None = None,
    progress: Progress | None = None,
) -> Shrunk:
    """Shrink a trained network until it is within the budget, or for as long as it holds its accuracy.

    `source`: the folder of a run of fit or train, weights that save_weights wrote, or a float32 ONNX classifier, ours
    or not. `photos`, as in fit, are those that it was trained on; `seed` deals them, by default as its run did.
    `contract`: the pixels that a file sees which does not say so itself, by default ImageNet's. Accuracy is held if it
    is at most budget.max_drop points below that of the network as it came, on the validation photos. Without another
    limit the network is narrowed until that is no longer so. Everything is written to `out` (default runs/NAME-shrunk);
    a killed call is continued by the same one. If no file is within the budget, the smallest that holds its accuracy is
    delivered, and `over` says what it breaks. Raises BadPhotos, BadInput, BadFile, RunBusy, and Infeasible if int8 and
    narrowing cannot come near the budget at all.
    """
    if not minutes > 0:
        raise BadInput(f"shrink: minutes={minutes!r} must be above 0")
    budget = replace(budget or Budget(), runtime=(budget and budget.runtime) or "onnxruntime")
    opened = open_source(source, contract=contract)
    folder = Path(out) if out is not None else Path("runs") / f"{Path(source).resolve().stem}-shrunk"
    dealt_by = seed if seed is not None else (opened.seed or 0)
    with terminable(), Run(folder) as run:
        data = load_photos(photos, seed=dealt_by, progress=progress)
        opened.refuse_other_photos(data)
        facts = {"source": opened.digest, "photos": data.audit.digest, "budget": asdict(budget), "seed": dealt_by}
        run.claim(facts | {"minutes": minutes, "swiftlet": __version__})
        found = run.stored("result")
        if found is None:
            side = opened.contract.side
            place = Workplace(run, opened, data, budget, minutes, dealt_by, progress or (lambda *_: None), side)
            found = run.once("result", lambda: asdict(deliver(place)))
        return Shrunk.from_json(found)


def deliver(place: Workplace) -> Shrunk:
    """Go down the ladder, open the test split for the best file, and write it with all that belongs to it."""
    stages = list(Ladder(place).descend())
    standing = [stage for stage in stages if stage.stands]  # the network that came in does, as float32
    kept = [stage for stage in standing if stage.offer["chosen"]]
    best = kept[-1] if kept else min(standing, key=lambda stage: stage.option["cost"]["size_bytes"])
    shown = [(stages[0], "float32"), (stages[0]._replace(step="int8"), "int8")]
    shown += [(stage, stage.precision) for stage in stages[1:]]
    times = place.raced([f"{stage.name}.{precision}.onnx" for stage, precision in shown])
    delivered = best.name, best.precision
    rungs = [
        _rung(place, stage, precision, time.p50_ms, delivered=(stage.name, precision) == delivered)
        for (stage, precision), time in zip(shown, times, strict=True)
    ]
    return _write(place, best, rungs)


def _rung(place: Workplace, stage: Stage, precision: str, p50_ms: float, *, delivered: bool) -> Rung:
    option = stage.offer["options"][precision]
    cost = option["cost"]
    how = {"quantize_best": ", best calibration", "finished": ", QAT"}
    return Rung(
        step=stage.step + "".join(how.get(name, "") for name in option["how"]),
        precision=precision,
        accuracy=option["accuracy"],
        drop=points_lost(place, option["accuracy"]),
        macs=cost["macs"],
        size_bytes=cost["size_bytes"],
        packed_bytes=cost["packed_bytes"],
        p50_ms=p50_ms,
        seconds=round(stage.offer["seconds"], 1),
        undone=stage.undone or "; ".join(option["faults"]),
        delivered=delivered,
    )


def _write(place: Workplace, best: Stage, rungs: list[Rung]) -> Shrunk:
    run, budget = place.run, place.budget
    runtime, threads, folder = budget.runtime or "onnxruntime", budget.threads, place.run.folder
    precision = best.precision
    place.progress("measuring the file that is delivered", 0, 0)
    files = {
        "parent": place.path("parent.float32.onnx").read_bytes(),
        "float32": place.path(f"{best.float32}.float32.onnx").read_bytes(),
        precision: place.path(f"{best.name}.{precision}.onnx").read_bytes(),
    }
    split = place.photos.test.open(graph_digest(files[precision]), folder / "test-opened.json")
    loaded = {which: load_classifier(file, runtime=runtime, threads=threads) for which, file in files.items()}
    contract = loaded[precision].contract
    pixels = split.pixels(contract)
    scored: dict[str, Scored] = {
        which: score(each, split, pixels if each.contract == contract else None) for which, each in loaded.items()
    }
    delivered = with_figures(files[precision], scored[precision], "test")
    classifier = load_classifier(delivered, runtime=runtime, threads=threads)
    programs = {"parent": loaded["parent"].program, "": classifier.program}
    contestants = [Contestant(which, program, runtime, threads) for which, program in programs.items()]
    parent_measured, measured = race(contestants, seconds=RACE_SECONDS, batch=budget.batch)
    packed, cost = pack_onnx(delivered), measured_cost(delivered, measured, packed=True)
    result = Shrunk(
        file=str(folder / "model.onnx"),
        packed=str(folder / f"model{SUFFIX}"),
        report=str(folder / "report.html"),
        network=place.source.network,
        precision=precision,
        n=len(split),
        accuracy=scored[precision].accuracy,
        interval=scored[precision].interval,
        parent_accuracy=scored["parent"].accuracy,
        size_bytes=len(delivered),
        parent_bytes=len(files["parent"]),
        packed_bytes=len(packed),
        p50_ms=measured.p50_ms,
        p90_ms=measured.p90_ms,
        parent_ms=parent_measured.p50_ms,
        cost=cost,
        over=budget.over(cost),
        ladder=tuple(rungs),
        notes=place.source.notes,
        machine=str(machine()),
        seconds=round(run.seconds, 1),
    )
    write_atomically(folder / "model.onnx", delivered)
    write_atomically(folder / f"model{SUFFIX}", packed)
    write_atomically(folder / FLOAT, with_figures(files["float32"], scored["float32"], "test"))
    write_golden(folder / "golden", classifier.scores, contract, [])
    artifact = read_artifact(read_onnx(delivered))
    assert artifact is not None  # we have just written it
    digest = hashlib.sha256(delivered).hexdigest()
    facts = {"file": "model.onnx", "sha256": digest, "measurement": measured.to_json()}
    write_json(folder / "model.json", replace(artifact, cost=cost).to_json() | facts)
    evidence = gather_ladder(
        asdict(result),
        budget,
        place.photos,
        split,
        contract,
        pixels,
        scored[precision],
        scored["parent"],
        digest,
        recipe_taken(place, best.name, best.float32),
        place.seed,
        place.source.digest,
    )
    write_atomically(folder / "report.html", build_report(evidence).encode())
    return result
