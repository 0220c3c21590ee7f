"""One training within a run: it survives kills, hears signals and ends with the run's time."""

from swiftlet.fitting.workplace import Workplace
from swiftlet.signals import stoppable
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.loop import Training
from swiftlet.train.metrics import Metrics


def work(place: Workplace, training: Training, name: str, what: str, *, kept_back: float = 0.0) -> bool:
    """To the end, or until Ctrl-C or the end of the time: True if the end was reached. SIGTERM saves and raises
    Terminated. Checkpoints lie in train/NAME.part, whence a killed training goes on; whoever calls removes them.
    `kept_back`: seconds before the end of the time."""

    def show(step: int, total: int, loss: float) -> None:
        place.progress(f"{what}, loss {loss:.2f}", step, total)
        place.run.tick()

    checkpoints, metrics = Checkpoints(place.path(f"{name}.part")), Metrics(place.path(f"{name}.jsonl"))
    with stoppable() as terminated:
        return training.run(
            checkpoints=checkpoints,
            metrics=metrics,
            should_stop=lambda: terminated() or place.out_of_time(kept_back),
            progress=show,
        )
