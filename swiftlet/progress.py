"""Progress bars for work that takes more than a moment: what is happening, how far it is, how long it will take."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]  # what is happening, done, total


@contextmanager
def bars(*, minutes: float | None = None) -> Iterator[Progress]:
    """Yields a function (what, done, total) that draws on standard error; total 0 means that nobody knows.

    Work whose text differs only after the first comma shares one bar. With `minutes`, a second bar shows the time.
    Where standard error is no terminal, each new piece of work is one line.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, highlight=False)
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn(compact=True))
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as drawn:
        task = drawn.add_task("starting", total=None)
        overall = None if minutes is None else drawn.add_task(f"of {minutes:g} minutes", total=minutes * 60)
        now = ""

        def report(what: str, done: int, total: int) -> None:
            nonlocal now
            kind = what.split(",")[0]
            if kind != now:
                now = kind
                drawn.reset(task, total=total or None)
                if not console.is_terminal:
                    console.print(f"{time.monotonic() - started:6.1f} s  {kind}")
            drawn.update(task, description=what, completed=done, total=total or None)
            if overall is not None:
                drawn.update(overall, completed=time.monotonic() - started)

        yield report
