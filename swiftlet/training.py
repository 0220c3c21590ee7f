"""One network, one recipe: photos in; trained weights and a float32 file out. On one machine, or by torchrun on many.

The run folder is that of fit: one owner, stages, the same command goes on. Only rank 0 has it.
"""

import copy
import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from swiftlet._version import __version__
from swiftlet.budget import Budget
from swiftlet.check import load_classifier, score
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos, Split, load_photos
from swiftlet.data.read_ahead import Pixels, ReadAhead, in_batches, pixels_of
from swiftlet.data.shard_place import is_address
from swiftlet.errors import BadInput
from swiftlet.export.artifact import Artifact
from swiftlet.export.golden import write_golden
from swiftlet.files import write_atomically
from swiftlet.gate import export_float, with_figures
from swiftlet.plan import Progress, sides_for
from swiftlet.recipes import get_recipe, scaled
from swiftlet.recipes.choose import FINAL, PICTURE_MS, choose, looks_grey
from swiftlet.run import Run
from swiftlet.signals import Terminated, interruptible, stoppable, terminable
from swiftlet.train.augment import canvas
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.distributed import Compress, Ranks, joined
from swiftlet.train.draws import shuffled
from swiftlet.train.engine import Engine
from swiftlet.train.fastest import fastest
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.memory import pieces
from swiftlet.train.metrics import Metrics
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import card, create_model, list_models
from swiftlet.zoo.weights.facts import Pretrained
from swiftlet.zoo.weights.own import save_weights
from swiftlet.zoo.weights.pretrained import describe

EVALUATIONS = 50  # of a run, at most; otherwise one an epoch
LONG, LONG_MINUTES = 2000, 5.0  # steps or minutes from which it pays to find out how a step is computed fastest
PROBE = 6  # steps that are timed to see how many a number of minutes holds
AHEAD = 2  # batches that are read before they are needed, where memory does not hold the pictures
SPENT = 0.9  # share of these minutes that goes to steps; the rest to photos, evaluations and the file
NO_LICENCE = "not stated"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training delivered. `accuracy` is a share of 1, with its 95 % interval, of `file` on the `n` validation
    photos; the test photos stay sealed. A batch was cut into `accumulate` pieces per process, and BatchNorm took its
    statistics from each. `weights` is the same network for PyTorch (create_model's `pretrained`).
    `started_from`: source, licence and sha256 of the weights that it started from; nothing if they were random."""

    file: str
    weights: str
    network: str
    recipe: str
    epochs: float
    steps: int
    processes: int
    accumulate: int
    engine: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    size_bytes: int
    seconds: float
    started_from: dict[str, str]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Trained":
        return cls(**data | {"interval": tuple(data["interval"])})


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained: everything but the photos and the processes."""

    network: str
    arguments: dict[str, Any]
    contract: InputContract
    recipe: Recipe
    minutes: float | None
    accumulate: int | None
    seed: int
    pretrained: str | None

    def build(self, num_classes: int, *, trained: bool) -> nn.Module:
        """The network, with the weights that training starts from or, if these do not matter, random ones."""
        source = self.pretrained if trained else None
        arguments = self.arguments
        if self.pretrained is not None and not trained:
            arguments = describe(self.pretrained).arguments | arguments
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return create_model(self.network, pretrained=source, num_classes=num_classes, **arguments)


def train(
    photos: Path | str | None = None,
    *,
    model: str,
    arguments: dict[str, Any] | None = None,
    side: int | None = None,
    recipe: str | None = None,
    changes: dict[str, Any] | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    out: Path | str | None = None,
    seed: int = 0,
    accumulate: int | None = None,
    compress: Compress | None = None,
    sync_bn: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train one network by one recipe, and write OUT/model.safetensors and OUT/model.onnx.

    `photos` as in fit, or shards at an address (load_photos). Pictures that fill more than half of the memory are read
    again each time, while the network is trained; the result is the same to the bit. `model`: a network of the zoo, or
    trained weights to start from (create_model's `pretrained`).
    `side` is by default that of these weights, or one that suits the photos; `recipe`, one that suits photos and time.
    `changes` are fields of the recipe and their values; a batch moves the learning rate along unless that is given too.
    How long: `epochs`, or `minutes`, from which the steps are computed once, by a few that are timed; by default the
    recipe's own epochs. A killed run is continued by the same call, and ends in the same bits. Ctrl-C and SIGTERM save
    and stop (KeyboardInterrupt, Terminated).

    Under torchrun all processes call this with the same arguments and the same photos. The batch is then the global
    one; `compress` and `sync_bn` are those of Ranks, `accumulate` that of Training, by default what memory asks
    for. The engine is the fastest on rank 0 if the run is long enough to find out. Raises BadPhotos, BadInput,
    BadFile, RunBusy, CannotSave, WorkerLost.
    """
    source = photos if photos is None or is_address(photos) else Path(photos)
    name = source.resolve().stem if isinstance(source, Path) else (source or "digits").rstrip("/").rpartition("/")[2]
    folder = Path(out) if out is not None else Path("runs") / f"{name}-{model}"
    report = progress or (lambda *_: None)
    with (
        joined(compress=compress, sync_bn=sync_bn) as ranks,
        terminable(),
        ranks.watched(lambda: "outside of the steps"),
        Run(folder) if ranks.first else nullcontext() as run,
        ExitStack() as readers,
    ):
        data = load_photos(source, seed=seed, progress=progress)
        job = _job(data, model, arguments or {}, side, recipe, changes or {}, epochs, minutes, accumulate, seed)
        facts = _facts(job, data)
        ranks.check_same(facts)
        if run:
            run.claim(facts)
        finished = ranks.told(run and run.stored("result"))
        return Trained.from_json(finished) if finished else _Work(job, data, ranks, folder, run, report, readers).do()


def _job(
    data: Photos,
    model: str,
    arguments: dict[str, Any],
    side: int | None,
    recipe: str | None,
    changes: dict[str, Any],
    epochs: float | None,
    minutes: float | None,
    accumulate: int | None,
    seed: int,
) -> Job:
    if accumulate is not None and (type(accumulate) is not int or accumulate < 1):
        raise BadInput(f"train: accumulate={accumulate!r} must be a whole number, at least 1")
    if epochs is not None and minutes is not None:
        raise BadInput("train: give --epochs or --minutes, not both")
    for name, length in (("epochs", epochs), ("minutes", minutes)):
        if length is not None and not length > 0:
            raise BadInput(f"train: {name}={length!r} must be above 0")
    known = None if model in list_models() or not ("/" in model or Path(model).exists()) else describe(model)
    if known is None:
        card(model)  # refuses what is neither
        contract = InputContract(side=side or sides_for(data.audit.median_short_side)[-1])
    else:
        contract = replace(known.contract, side=side or known.contract.side, crop_pct=1.0)
    chosen = get_recipe(recipe) if recipe else _suitable(data, epochs, minutes, known is not None)
    chosen = _changed(chosen, changes)
    if epochs is not None or minutes is not None:
        chosen = replace(chosen, epochs=epochs)
    elif chosen.epochs is None:
        raise BadInput(f"train: recipe {chosen.name!r} does not say how long; give --epochs or --minutes")
    return Job(
        network=known.network if known else model,
        arguments=arguments,
        contract=contract,
        recipe=chosen,
        minutes=minutes,
        accumulate=accumulate,
        seed=seed,
        pretrained=model if known else None,
    )


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    known = recipe.to_json()
    for name, value in changes.items():
        if name not in known or name == "name":
            raise BadInput(f"train: a recipe has no {name!r}; it has {', '.join(n for n in known if n != 'name')}")
        if isinstance(value, str) != isinstance(known[name], str):
            raise BadInput(f"train: {name}={value!r} cannot be; recipe {recipe.name!r} has {known[name]!r}")
    if "batch" in changes:
        recipe = scaled(recipe, changes["batch"])
    return replace(recipe, **changes)


def _suitable(data: Photos, epochs: float | None, minutes: float | None, pretrained: bool) -> Recipe:
    if minutes is None:  # by the guess that `choose` makes itself
        minutes = (epochs or 0.0) * len(data.train) * PICTURE_MS / 60_000 / FINAL
    return choose(
        grey=looks_grey(data),
        pictures=len(data.train),
        side=data.audit.median_short_side,
        minutes=minutes,
        pretrained=pretrained,
    )[0]


def _facts(job: Job, data: Photos) -> dict[str, Any]:
    """What a later process, and every rank, must have the same; the number of ranks may change."""
    facts = {"photos": data.audit.digest, "swiftlet": __version__, "recipe": job.recipe.to_json()}
    facts |= {"model": job.network, "arguments": job.arguments, "contract": job.contract.to_json()}
    return facts | {"minutes": job.minutes, "seed": job.seed, "pretrained": job.pretrained}


@dataclass(frozen=True, kw_only=True)
class Way:
    """How it is computed: found out once, kept in the run."""

    steps: int
    engine: Engine
    accumulate: int

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Way":
        return cls(**data | {"engine": Engine(**data["engine"])})


@dataclass
class _Work:
    """A run that is not finished."""

    job: Job
    data: Photos
    ranks: Ranks
    folder: Path
    run: Run | None  # rank 0 has it
    progress: Progress
    readers: ExitStack  # closes what reads pictures

    def do(self) -> Trained:
        job, data = self.job, self.data
        classes = len(data.classes)
        model = job.build(classes, trained=True)
        started_from = _read(model)
        pixels = self._pixels(data.train, canvas(job.contract, data.audit.median_short_side), quick=True)
        validation = self._pixels(data.val, job.contract)
        pictures = Pictures(cast(Pixels, pixels), data.train.labels)  # the loop asks for its shape and for rows
        self.ranks.check_same({"weights": started_from})
        way = Way.from_json(self._stage("way", lambda: asdict(self._way(model, pictures))))
        training = self._training(model, pictures, way)
        self._train(training, way.engine.place(job.build(classes, trained=False)), validation)
        state = training.delivered()  # by all ranks, for sync-BN
        plain = job.build(classes, trained=False)
        plain.load_state_dict(state)
        result = self.run and self.run.once(
            "result", lambda: asdict(self._deliver(plain, training, started_from, validation))
        )
        self.ranks.wait()
        return Trained.from_json(self.ranks.told(result))

    def _stage(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A stage that takes all ranks to compute, and that rank 0 keeps."""
        stored: dict[str, Any] | None = self.ranks.told(self.run and self.run.stored(name))
        if stored is None:
            computed = compute()
            stored = self.ranks.told(self.run and self.run.once(name, lambda: computed))
        return stored

    def _training(self, model: nn.Module, pictures: Pictures, way: Way) -> Training:
        job = self.job
        return Training(
            model,
            pictures,
            job.contract,
            job.recipe,
            steps=way.steps,
            seed=job.seed,
            ranks=self.ranks,
            accumulate=way.accumulate,
            engine=way.engine,
        )

    def _way(self, model: nn.Module, pictures: Pictures) -> Way:
        """The steps that there are in the recipe's epochs, or in the minutes by the time that one takes here."""
        job, n = self.job, len(pictures.labels)
        batch = min(job.recipe.batch, n)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        way = Way(steps=PROBE, engine=Engine(device=device, bfloat16=device == "cuda"), accumulate=job.accumulate or 1)
        if job.minutes is None:
            way = replace(way, steps=max(1, round((job.recipe.epochs or 0) * (n // batch))))
        part = replace(job.recipe, batch=max(2, batch // self.ranks.world))
        if way.steps >= LONG or (job.minutes or 0.0) >= LONG_MINUTES:
            self.progress("timing ways to compute a step", 0, 0)
            found = self.run and fastest(model, part, job.contract.side, device=device, steps=way.steps)
            self.ranks.wait()
            way = replace(way, engine=self.ranks.told(found))
        if job.accumulate is None:
            needed = pieces(model, part, job.contract.side, way.engine)
            way = replace(way, accumulate=self.ranks.largest(needed))
        if job.minutes is None:
            return way
        self.progress("timing training steps", 0, 0)
        marks: list[float] = []
        probe = self._training(copy.deepcopy(model), pictures, way)
        probe.run(progress=lambda *_: marks.append(time.perf_counter()))
        return replace(way, steps=max(1, int(SPENT * job.minutes * 60 / float(np.median(np.diff(marks))))))

    def _train(self, training: Training, evaluated: nn.Module, validation: Pixels | ReadAhead) -> None:
        """To the end, or to a signal: then all is saved, and every rank raises what the one that heard it does."""
        labels, recipe = self.data.val.labels, training.recipe
        part = self.ranks.part(len(labels))
        every = training.per_epoch * max(1, round(training.steps / training.per_epoch / EVALUATIONS))
        size = min(recipe.batch, len(self.data.train))
        metrics = Metrics(self.folder / "metrics.jsonl") if self.run else None
        checkpoints = Checkpoints(self.folder / "checkpoints") if self.run else None
        right, began, first = None, time.monotonic(), None

        def show(step: int, steps: int, loss: float) -> None:
            nonlocal right, first
            self._expect(training)
            if step % every == 0 or step == steps:
                found = self.ranks.share((training.averaged(), {}))  # BatchNorm's statistics are rank 0's
                assert found is not None
                evaluated.load_state_dict(found[0])
                ours = 0
                for piece, images in in_batches(validation, part):
                    share = accuracy(evaluated, images, labels[piece], training.contract)
                    ours += round(share * len(images))
                right = self.ranks.mean(ours) * self.ranks.world / len(labels)
                if metrics is not None:
                    metrics.write({"step": step, "validation_accuracy": right})
            if first is None:
                first = step - 1
            speed = (step - first) * size / (time.monotonic() - began)
            so_far = "" if right is None else f", {100 * right:.1f} % right"
            epoch = f"epoch {step / training.per_epoch:.1f} of {steps / training.per_epoch:.1f}"
            self.progress(
                f"training {self.job.network}, {epoch}, loss {loss:.2f}{so_far}, {speed:,.0f} pictures/s", step, steps
            )
            if self.run is not None:
                self.run.tick()

        with stoppable() as terminated, interruptible() as interrupted:
            stop = lambda: terminated() or interrupted()  # noqa: E731
            if not training.run(checkpoints=checkpoints, metrics=metrics, should_stop=stop, progress=show):
                raise Terminated if self.ranks.mean(terminated()) > 0 else KeyboardInterrupt

    def _pixels(self, split: Split, contract: InputContract, *, quick: bool = False) -> Pixels | ReadAhead:
        pixels = pixels_of(split, contract, quick=quick, progress=self.progress)
        if isinstance(pixels, ReadAhead):
            self.readers.callback(pixels.close)
        return pixels

    def _expect(self, training: Training) -> None:
        """Have the pictures of the next steps read while this one is computed, where memory does not hold them."""
        pixels = cast(Pixels | ReadAhead, training.pictures.pixels)
        if isinstance(pixels, ReadAhead):
            size = min(training.recipe.batch, len(pixels))
            rows = []
            for step in range(training.step, min(training.step + AHEAD, training.steps)):
                epoch, place = divmod(step, training.per_epoch)  # as Training orders them
                order = shuffled(np.arange(place * size, (place + 1) * size), len(pixels), training.seed, epoch)
                rows.append(order[self.ranks.part(size)])
            pixels.expect(np.concatenate([np.empty(0, np.int64), *rows]))

    def _deliver(
        self, model: nn.Module, training: Training, started_from: dict[str, str], validation: Pixels | ReadAhead
    ) -> Trained:
        """Both files, the ONNX one with its figures inside and its golden pictures beside it."""
        assert self.run is not None
        job, folder = self.job, self.folder
        self.progress("writing and checking the files", 0, 0)
        licence = started_from.get("licence", NO_LICENCE)
        save_weights(model, folder / "model.safetensors", contract=job.contract, licence=licence)
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        draft = Artifact(
            network=job.network,
            arguments=model.architecture.arguments,  # type: ignore[union-attr, arg-type]
            precision="float32",
            labels=self.data.classes,
            contract=job.contract,
            golden={},
            parents={"photos": self.data.audit.digest, "weights": digest},
            records=(),
            weights=started_from,
        )
        _, exported = export_float(model, draft, Budget(runtime="onnxruntime"))
        scored = score(exported.classifier, self.data.val, cast(Pixels, validation))  # it asks for slices
        file = with_figures(exported.file, scored, "validation")
        write_golden(folder / "golden", load_classifier(file).scores, job.contract, [])
        write_atomically(folder / "model.onnx", file)
        return Trained(
            file=str(folder / "model.onnx"),
            weights=str(folder / "model.safetensors"),
            network=job.network,
            recipe=training.recipe.name,
            epochs=round(training.steps / training.per_epoch, 2),
            steps=training.steps,
            processes=self.ranks.world,
            accumulate=training.accumulate,
            engine=str(training.engine),
            n=len(self.data.val),
            accuracy=scored.accuracy,
            interval=scored.interval,
            size_bytes=len(file),
            seconds=round(self.run.seconds, 1),
            started_from=started_from,
        )


def _read(model: nn.Module) -> dict[str, str]:
    """The trained weights that a network was built from."""
    read = getattr(model, "pretrained", None)
    if not isinstance(read, Pretrained):
        return {}
    return {"source": read.source, "licence": read.licence, "sha256": read.digest}
