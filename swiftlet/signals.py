"""Being asked to stop: Ctrl-C and SIGTERM, which schedulers send before they take a machine away."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class Terminated(SystemExit):
    """SIGTERM ended this process in good order: exit code 143, and finally blocks have run."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, the first SIGTERM raises Terminated at once, and a second one ends the process on the spot.

    For work whose results are stored whole or not at all, so that stopping anywhere loses nothing.
    """

    def end(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    with _handling(signal.SIGTERM, end):
        yield


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Inside, the first SIGTERM only sets what the yielded function returns; Terminated is raised at the end of the
    block, after the work in it has been stopped between two steps and saved. A second one ends the process on the spot.
    """
    asked = threading.Event()

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    with _handling(signal.SIGTERM, ask):
        yield asked.is_set
        if asked.is_set():
            raise Terminated


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C only sets what the yielded function returns; the second one raises KeyboardInterrupt."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with _handling(signal.SIGINT, ask):
        yield asked.is_set


@contextmanager
def _handling(number: signal.Signals, handler: Callable[..., object]) -> Iterator[None]:
    """Python hears signals, and may change what they do, in the main thread alone; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
