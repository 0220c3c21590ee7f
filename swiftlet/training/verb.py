"""train: the call, by one process or by each of many."""

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from swiftlet.data.photos import load_photos
from swiftlet.data.shard_place import is_address
from swiftlet.progress import Progress
from swiftlet.run import Run
from swiftlet.signals import terminable
from swiftlet.train.distributed import Compress, joined
from swiftlet.training.job import facts_of_run, job_of
from swiftlet.training.result import Trained
from swiftlet.training.work import Work


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
        job = job_of(data, model, arguments or {}, side, recipe, changes or {}, epochs, minutes, accumulate, seed)
        facts = facts_of_run(job, data)
        ranks.check_same(facts)
        if run:
            run.claim(facts)
        finished = ranks.told(run and run.stored("result"))
        return Trained.from_json(finished) if finished else Work(job, data, ranks, folder, run, report, readers).do()
