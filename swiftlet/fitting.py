"""The whole way: photos and a budget in; a checked file, its evidence and a report out.

A run is a folder of stages. Each stage is computed once and stored whole, so the same command takes up where a
killed run left off and ends with the same file. Time is the only thing that could make two runs differ, and it
decides in one place, the plan, which is a stage too; `plan` repeats a run with the plan of another.
"""

import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import nn

from swiftlet._version import __version__
from swiftlet.budget import Budget, Cost
from swiftlet.check import load_classifier, measured_cost, score
from swiftlet.cost.screen import read_onnx
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos, load_photos
from swiftlet.errors import BadFile, BadInput, Infeasible
from swiftlet.export.artifact import Artifact, read_artifact
from swiftlet.export.golden import write_golden
from swiftlet.export.onnx import graph_digest
from swiftlet.files import write_atomically, write_json
from swiftlet.gate import CALIBRATION, ParityError, gate, with_figures
from swiftlet.plan import Candidate, Plan, Progress, candidates_for, make_plan
from swiftlet.recipes import scaled
from swiftlet.recipes.choose import choose, looks_grey
from swiftlet.report.build import build_report
from swiftlet.report.gather import gather
from swiftlet.run import Run
from swiftlet.runtime.machine import machine
from swiftlet.runtime.race import Contestant, race
from swiftlet.signals import interruptible, stoppable, terminable
from swiftlet.train.augment import canvas
from swiftlet.train.checkpoint import Checkpoints, load_checkpoint, save_checkpoint
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.metrics import Metrics
from swiftlet.train.recipe import Recipe
from swiftlet.zoo.weights.facts import Pretrained
from swiftlet.zoo.weights.own import save_weights

FINISH_SECONDS = 8.0  # kept back from the training time for the test split, the last race and the report
RACE_SECONDS = 2.0
GOLDEN_PHOTOS = 4


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run delivered. Accuracies are shares of 1, taken from `file` on `split` ("test", or "validation" if the
    run was interrupted, in which case the test split is still sealed and the same command goes on). `weights` has
    source, licence and sha256 of the trained weights that the network started from; none if they were random."""

    file: str
    report: str
    network: str
    precision: str
    split: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    accuracy_float: float
    size_bytes: int
    p50_ms: float
    p90_ms: float
    machine: str
    cost: Cost
    budget_met: bool
    over: dict[str, str]
    interrupted: bool
    seconds: float
    tried: tuple[dict[str, Any], ...]
    weights: dict[str, str] = field(default_factory=dict)
    recipe: str = ""  # and why it was chosen

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Result":
        return cls(
            **data | {"interval": tuple(data["interval"]), "cost": Cost(**data["cost"]), "tried": tuple(data["tried"])}
        )


def fit(
    photos: Path | str | None = None,
    budget: Budget | None = None,
    *,
    minutes: float = 10.0,
    out: Path | str | None = None,
    seed: int = 0,
    plan: Plan | None = None,
    pretrained: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Train, shrink, export, verify and report the most accurate small network that fits the budget.

    `photos` is a folder per class, an .npz file, or None for the built-in digits. Everything is written to `out`
    (default runs/NAME). A killed run is continued by the same call; Ctrl-C delivers the best so far; SIGTERM
    saves, delivers nothing and raises Terminated. `pretrained`
    says which trained weights to start from, see candidates_for; by default those in the hub's cache, if there are
    any. Raises BadPhotos, BadInput, BadFile for weights that cannot be had, RunBusy, and Infeasible if nothing meets
    the budget, before training where that is certain.
    """
    if not minutes > 0:
        raise BadInput(f"fit: minutes={minutes!r} must be above 0")
    budget = replace(budget or Budget(), runtime=(budget and budget.runtime) or "onnxruntime")
    source = None if photos is None else Path(photos)
    folder = Path(out) if out is not None else Path("runs") / (source.resolve().stem if source else "digits")
    with terminable(), Run(folder) as run:
        data = load_photos(source, seed=seed, progress=progress)
        facts = {"photos": data.audit.digest, "budget": asdict(budget), "seed": seed, "swiftlet": __version__}
        run.claim(facts | {"pretrained": pretrained})
        finished = run.stored("result")
        if finished is not None:
            return Result.from_json(finished)
        job = _Job(run, data, budget, seed, minutes, plan, pretrained, progress or (lambda *_: None))
        job.lay_out()  # Ctrl-C ends this at once: there is nothing to deliver yet
        with interruptible() as job.interrupted:
            if not job.ledger.exists():  # once the test split was opened, nothing may be chosen any more
                job.train()
            if job.interrupted():
                return job.deliver(test=False)
        return Result.from_json(run.once("result", lambda: asdict(job.deliver(test=True))))


def recipe_of(photos: Photos, *, minutes: float, pretrained: bool = False) -> tuple[Recipe, str]:
    """The recipe that suits the photos and the minutes of a run, and in one sentence why (recipes/choose.py)."""
    return choose(**_facts_of(photos, minutes), pretrained=pretrained)


def _facts_of(photos: Photos, minutes: float) -> dict[str, Any]:
    """What a recipe is chosen by."""
    side = photos.audit.median_short_side
    return {"grey": looks_grey(photos), "pictures": len(photos.train), "side": side, "minutes": minutes}


@dataclass
class _Job:
    """One run: its inputs, and the stages that turn them into a file."""

    run: Run
    photos: Photos
    budget: Budget
    seed: int
    minutes: float
    given: Plan | None
    pretrained: str | None
    progress: Progress
    interrupted: Callable[[], bool] = lambda: False
    plan: Plan = field(init=False)
    weights: dict[str, dict[str, str]] = field(init=False)  # what was read of each source of trained weights
    stoppable: bool = False  # time alone stops nothing before there is a file to deliver
    decoded: dict[tuple[str, InputContract], npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def ledger(self) -> Path:
        return self.run.folder / "test-opened.json"

    @cached_property
    def recipe(self) -> Recipe:
        """For random weights; the plan's steps are of its batch."""
        return self._choice(pretrained=False)[0]

    def _choice(self, *, pretrained: bool) -> tuple[Recipe, str]:
        """The recipe and why. Chosen by what the run began with, because the same run may go on with other minutes."""
        facts = self.run.once("recipe", lambda: _facts_of(self.photos, self.minutes))
        return choose(**facts, pretrained=pretrained)

    def lay_out(self) -> None:
        """The plan: made once, or given. The weights that it wants are fetched and their digests held fast."""

        recipe, why = self._choice(pretrained=False)
        self.progress(f"recipe {recipe.name}: {why}", 0, 0)

        def compute() -> dict[str, Any]:
            made = self.given or make_plan(
                candidates_for(self.photos.audit.median_short_side, self.pretrained),
                self.budget,
                num_classes=len(self.photos.classes),
                photos=len(self.photos.train),
                recipe=self.recipe,
                minutes=self.minutes,
                seed=self.seed,
                progress=self.progress,
            )
            return made.to_json()

        self.plan = Plan.from_json(self.run.once("plan", compute))
        if self.given is not None and self.given != self.plan:
            raise BadInput(f"{self.run.folder}: holds a run with another plan; choose another --out")
        wanted = (self.plan.find(name).candidate for name in {self.plan.sketch, *self.plan.shortlist})
        sources = {c.pretrained.source: c for c in wanted if c.pretrained is not None}
        classes = len(self.photos.classes)
        self.weights = self.run.once(
            "weights", lambda: {source: _read(c.start(classes, self.seed)) for source, c in sources.items()}
        )

    def _recipe(self, candidate: Candidate) -> Recipe:
        if candidate.pretrained is None:
            return self.recipe
        return scaled(self._choice(pretrained=True)[0], self.recipe.batch)

    def train(self) -> None:
        """The sketch, then successive halving over the plan's rungs; what is trained is offered for delivery at once.

        A candidate whose file turns out illegal (int8 too inaccurate or slow) goes no further; if none is left, the
        sketch's network goes on in their place.
        """
        self.stoppable = self._best() is not None
        sketch, names = self.plan.sketch, list(self.plan.shortlist)
        if self._round(f"{sketch}.sketch", sketch, self.plan.sketch_steps, None, f"a first file, {sketch}") is None:
            return
        for i, steps in enumerate(self.plan.rungs, start=1):
            reached: dict[str, float] = {}
            for j, name in enumerate(names, start=1):
                what = f"training {name}, {j} of {len(names)} in round {i} of {len(self.plan.rungs)}"
                before = f"{name}.round{i - 1}" if i > 1 else None
                right = self._round(f"{name}.round{i}", name, steps[name], before, what)
                if right is None:
                    return
                if self._legal(name):
                    reached[name] = right
            best = sorted(reached, key=lambda name: -reached[name])
            names = best[: max(1, len(names) // 2)] or [sketch]
            self.stoppable = True

    def _round(self, stage: str, name: str, steps: int, before: str | None, what: str) -> float | None:
        """Train and offer one candidate; its validation accuracy, or None if that was the last thing to do."""
        stage, trained = self._train_one(stage, name, steps, before, what)
        if not self.interrupted() or self._best() is None:
            self._offer(stage, name, trained["accuracy"])
        return None if self._out_of_time() else float(trained["accuracy"])

    def _legal(self, name: str) -> bool:
        """Whether a file of this candidate has been admitted; one that was not even offered may still be."""
        offers = [offer for offer in self._offers().values() if offer["candidate"] == name]
        return not offers or any(offer["chosen"] for offer in offers)

    def _out_of_time(self) -> bool:
        return self.interrupted() or (self.stoppable and self.run.seconds > self.minutes * 60 - FINISH_SECONDS)

    def _train_one(
        self, stage: str, name: str, steps: int, before: str | None, what: str
    ) -> tuple[str, dict[str, Any]]:
        """One candidate, from the weights of the stage before if there is one: the stage, its accuracy and steps.

        What Ctrl-C cut short is no stage of the run but STAGE.partial, so that the next process goes on with it.
        """
        candidate, folder = self.plan.find(name).candidate, self._folder("train")
        part = folder / f"{stage}.part"
        stored = self.run.stored(stage)
        if stored is not None:
            if part.exists():  # killed right after it was stored
                shutil.rmtree(part)
            return stage, stored
        if before is not None and (folder / f"{before}.safetensors").exists():
            model = candidate.build(len(self.photos.classes), self.seed)
            model.load_state_dict(load_checkpoint(folder / f"{before}.safetensors")[0])
        else:
            model = self._start(candidate)
        contract = candidate.contract
        pixels = self._pixels("train", canvas(contract, self.photos.audit.median_short_side))
        pictures = Pictures(pixels, self.photos.train.labels)
        seed = zlib.crc32(f"{self.seed} {stage}".encode())
        training = Training(model, pictures, contract, self._recipe(candidate), steps=steps, seed=seed)

        def show(step: int, total: int, loss: float) -> None:
            self.progress(f"{what}, loss {loss:.2f}", step, total)
            self.run.tick()

        checkpoints, metrics = Checkpoints(part), Metrics(folder / f"{stage}.jsonl")
        with stoppable() as terminated:
            whole = training.run(
                checkpoints=checkpoints,
                metrics=metrics,
                should_stop=lambda: terminated() or self._out_of_time(),
                progress=show,
            )
        if training.step == 0 and self._best() is None:
            raise KeyboardInterrupt  # asked to stop before there was anything to deliver
        delivered = training.delivered()
        model.load_state_dict(delivered)
        right = accuracy(model, self._pixels("val", contract), self.photos.val.labels, contract)
        result = {"accuracy": right, "steps": training.step, "planned_steps": steps}
        if not whole and self.interrupted():
            stage = f"{stage}.partial"
            save_checkpoint(folder / f"{stage}.safetensors", delivered, result)
            return stage, result
        save_checkpoint(folder / f"{stage}.safetensors", delivered, result)
        stored = self.run.once(stage, lambda: result)
        shutil.rmtree(part)
        return stage, stored

    def _start(self, candidate: Candidate) -> nn.Module:
        """What its training starts from. Trained weights must still be those that the run began with."""
        model = candidate.start(len(self.photos.classes), self.seed)
        if candidate.pretrained is not None:
            source = candidate.pretrained.source
            if _read(model) != self.weights[source]:
                raise BadFile(f"{source}: holds other weights than when this run began; choose another --out")
        return model

    def _weights_of(self, candidate: Candidate) -> dict[str, str]:
        return {} if candidate.pretrained is None else self.weights[candidate.pretrained.source]

    def _offer(self, stage: str, name: str, reached: float) -> None:
        """Shrink and check a trained network, and deliver it if it is the best legal file so far.

        One that is behind the best file is not worth the time, unless nobody knows yet whether it is legal at all.
        """
        best = self._best()
        known = any(offer["candidate"] == name for offer in self._offers().values())
        if best is not None and known and reached < best[1]["accuracy"]:
            return
        before = best and best[0]
        self.run.once(f"{stage}.offer", lambda: self._shrink(stage, name))
        best = self._best()
        if best is not None and best[0] != before:
            self._publish(best[0])
            self.stoppable = True

    def _shrink(self, stage: str, name: str) -> dict[str, Any]:
        self.progress(f"shrinking and checking {name}", 0, 0)
        candidate = self.plan.find(name).candidate
        draft = Artifact(
            network=candidate.network,
            arguments=candidate.arguments | {"num_classes": len(self.photos.classes)},
            precision="float32",
            labels=self.photos.classes,
            contract=candidate.contract,
            golden={},
            parents={"photos": self.photos.audit.digest},
            records=(),
            weights=self._weights_of(candidate),
        )
        some = np.random.default_rng(self.seed).permutation(len(self.photos.train))[:CALIBRATION]
        passed = gate(
            self._trained(stage, candidate),
            draft,
            self.budget,
            calibration=self.photos.train.subset(some).pixels(draft.contract),
            val=self.photos.val,
            val_pixels=self._pixels("val", draft.contract),
        )
        for precision, option in passed.options.items():
            write_atomically(self._file(stage, precision), option.file)
        return {
            "candidate": name,
            "chosen": passed.chosen,
            "accuracy": passed.options[passed.chosen].scored.accuracy if passed.chosen else 0.0,
            "options": {
                precision: {
                    "accuracy": option.scored.accuracy,
                    "cost": asdict(option.cost),
                    "parity_max_abs": option.parity,
                    "refused": option.refused,
                }
                for precision, option in passed.options.items()
            },
        }

    def _trained(self, stage: str, candidate: Candidate) -> nn.Module:
        model = candidate.build(len(self.photos.classes), self.seed)
        model.load_state_dict(load_checkpoint(self._folder("train") / f"{stage}.safetensors")[0])
        return model

    def _offers(self) -> dict[str, dict[str, Any]]:
        """The stored offers by the stage that made them, in the order of their names."""
        found = sorted((self.run.folder / "stages").glob("*.offer.json"))
        names = [path.name.removesuffix(".json") for path in found]
        return {name.removesuffix(".offer"): self.run.stored(name) or {} for name in names}

    def _best(self) -> tuple[str, dict[str, Any]] | None:
        """The legal offer with the highest validation accuracy."""
        legal = [(stage, offer) for stage, offer in self._offers().items() if offer["chosen"]]
        return max(legal, key=lambda pair: pair[1]["accuracy"], default=None)

    def _publish(self, stage: str) -> None:
        """Put the best file so far where the user looks for it, with its validation accuracy inside."""
        offer = self._offers()[stage]
        contract = self.plan.find(offer["candidate"]).candidate.contract
        file = self._file(stage, offer["chosen"]).read_bytes()
        scored = score(load_classifier(file), self.photos.val, self._pixels("val", contract))
        write_atomically(self.run.folder / "model.onnx", with_figures(file, scored, "validation"))

    def deliver(self, *, test: bool) -> Result:
        """Measure the best file, on the test split or, if that is to stay sealed, on the validation photos; write
        the file, its manifest, golden pictures and report. Raises Infeasible if no trained file is legal."""
        best = self._best()
        if best is None:
            raise Infeasible(self._why_nothing())
        stage, offer = best
        self.progress("measuring the file that is delivered", 0, 0)
        candidate = self.plan.find(offer["candidate"]).candidate
        precision, contract = offer["chosen"], candidate.contract
        files = {name: self._file(stage, name).read_bytes() for name in offer["options"]}
        split = self.photos.test.open(graph_digest(files[precision]), self.ledger) if test else self.photos.val
        pixels = split.pixels(contract)
        threads, runtime = self.budget.threads, self.budget.runtime or "onnxruntime"
        loaded = {name: load_classifier(file, runtime=runtime, threads=threads) for name, file in files.items()}
        scored = {name: score(classifier, split, pixels) for name, classifier in loaded.items()}
        delivered = with_figures(files[precision], scored[precision], "test" if test else "validation")
        classifier = load_classifier(delivered, runtime=runtime, threads=threads)
        if not np.array_equal(score(classifier, split, pixels).scores, scored[precision].scores):
            raise ParityError("writing the figures into the file changed its scores")
        contestant = Contestant(offer["candidate"], classifier.program, runtime, threads)
        measurement = race([contestant], seconds=RACE_SECONDS, batch=self.budget.batch)[0]
        cost = measured_cost(delivered, measurement)

        folder = self.run.folder
        result = Result(
            file=str(folder / "model.onnx"),
            report=str(folder / "report.html"),
            network=offer["candidate"],
            precision=precision,
            split="test" if test else "validation",
            n=len(split),
            accuracy=scored[precision].accuracy,
            interval=scored[precision].interval,
            accuracy_float=scored["float32"].accuracy,
            size_bytes=len(delivered),
            p50_ms=measurement.p50_ms,
            p90_ms=measurement.p90_ms,
            machine=str(machine()),
            cost=cost,
            budget_met=not self.budget.over(cost),
            over=self.budget.over(cost),
            interrupted=not test,
            seconds=round(self.run.seconds, 1),
            tried=tuple(self._tried(stage)),
            weights=self._weights_of(candidate),
            recipe="{.name}: {}".format(*self._choice(pretrained=candidate.pretrained is not None)),
        )
        write_atomically(folder / "model.onnx", delivered)
        model = self._trained(stage, candidate)
        licence = result.weights.get("licence", "not stated")
        save_weights(model, folder / "model.safetensors", contract=contract, licence=licence)
        write_golden(folder / "golden", classifier.scores, contract, self._golden_photos())
        artifact = read_artifact(read_onnx(delivered))
        assert artifact is not None  # we have just written it
        digest = hashlib.sha256(delivered).hexdigest()
        manifest = replace(artifact, cost=cost).to_json() | {
            "file": "model.onnx",
            "sha256": digest,
            "measurement": measurement.to_json(),
        }
        write_json(folder / "model.json", manifest)
        evidence = gather(
            asdict(result),
            self.plan,
            self.budget,
            self.photos,
            split,
            contract,
            pixels,
            scored,
            digest,
            self._recipe(candidate),
            self.seed,
        )
        write_atomically(folder / "report.html", build_report(evidence).encode())
        return result

    def _golden_photos(self) -> list[tuple[str, Image.Image]]:
        """Some validation photos of a moderate size: a reader in another language needs pictures, not megabytes."""
        photos = [self.photos.val.image(i).copy() for i in range(min(GOLDEN_PHOTOS, len(self.photos.val)))]
        for photo in photos:
            photo.thumbnail((512, 512))
        return [(f"photo-{i}", photo) for i, photo in enumerate(photos)]

    def _tried(self, delivered: str) -> Iterator[dict[str, Any]]:
        """Every candidate of the plan by precision: what it costs, what it reached, what became of it."""
        offers = self._offers()
        for planned in self.plan.planned:
            name = planned.candidate.name
            labels = ("sketch", *(f"round{i + 1}" for i in range(len(self.plan.rungs))))
            rounds = [stage for label in labels if self.run.stored(stage := f"{name}.{label}")]
            offered = [s for s in offers if offers[s]["candidate"] == name]
            for precision, cost in planned.costs.items():
                row: dict[str, Any] = {"name": name, "precision": precision, "accuracy": None, "delivered": False}
                row |= {"latency_ms": cost.latency_ms, "size_bytes": cost.size_bytes, "macs": cost.macs}
                broken = planned.over[precision]
                row["status"] = "; ".join(f"{limit} {why}" for limit, why in broken.items()) or "feasible, not trained"
                if offered:
                    last = delivered if delivered in offered else offered[-1]
                    option = offers[last]["options"][precision]
                    row |= {"accuracy": option["accuracy"], "latency_ms": option["cost"]["latency_ms"]}
                    row |= {"size_bytes": option["cost"]["size_bytes"]}
                    row["delivered"] = last == delivered and offers[last]["chosen"] == precision
                    row["status"] = "delivered" if row["delivered"] else option["refused"] or "trained, not the best"
                elif rounds and precision == "float32":
                    trained = self.run.stored(rounds[-1]) or {}
                    row |= {"accuracy": trained["accuracy"], "status": "trained, behind the best file"}
                yield row

    def _why_nothing(self) -> str:
        reasons = [
            f"{stage} as {precision}: {option['refused']}"
            for stage, offer in self._offers().items()
            for precision, option in offer["options"].items()
        ]
        return f"no trained file met the budget: {' | '.join(reasons) or 'nothing was trained in the time given'}"

    def _pixels(self, split: str, contract: InputContract) -> npt.NDArray[np.uint8]:
        """Decoded once a side and kept: successive halving comes back to the same sides."""
        plain = InputContract(side=contract.side, resize=contract.resize, crop_pct=contract.crop_pct)
        if (split, plain) not in self.decoded:
            photos = self.photos.train if split == "train" else self.photos.val
            self.decoded[split, plain] = photos.pixels(plain, quick=split == "train", progress=self.progress)
        return self.decoded[split, plain]

    def _folder(self, name: str) -> Path:
        (self.run.folder / name).mkdir(exist_ok=True)
        return self.run.folder / name

    def _file(self, stage: str, precision: str) -> Path:
        return self._folder("train") / f"{stage}.{precision}.onnx"


def _read(model: nn.Module) -> dict[str, str]:
    """The trained weights that a network was built from."""
    read = model.pretrained
    assert isinstance(read, Pretrained)
    return {"source": read.source, "licence": read.licence, "sha256": read.digest}
