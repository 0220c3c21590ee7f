"""fit: from a photo folder and a budget to the delivered file."""

from dataclasses import asdict, replace
from pathlib import Path

from swiftlet._version import __version__
from swiftlet.budget import Budget
from swiftlet.data.photos import load_photos
from swiftlet.errors import BadInput
from swiftlet.fitting.delivery import deliver
from swiftlet.fitting.layout import lay_out
from swiftlet.fitting.result import Result
from swiftlet.fitting.rounds import train
from swiftlet.fitting.workplace import Workplace
from swiftlet.plan import Plan
from swiftlet.progress import Progress
from swiftlet.run import Run
from swiftlet.signals import interruptible, terminable


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
        place = Workplace(run, data, budget, seed, minutes, progress or (lambda *_: None))
        lay_out(place, plan, pretrained)  # Ctrl-C ends this at once: there is nothing to deliver yet
        with interruptible() as place.interrupted:
            if not place.ledger.exists():  # once the test split was opened, nothing may be chosen any more
                train(place)
            if place.interrupted():
                return deliver(place, test=False)
        return Result.from_json(run.once("result", lambda: asdict(deliver(place, test=True))))
