"""swiftlet study: what the papers claim about cost and accuracy, measured on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as RichTable

from swiftlet.cli import options

LONGEST = 60  # rows of a table on the screen
Runtimes = Annotated[
    list[str] | None, typer.Option("--runtime", help="Repeatable. Default: onnxruntime and torch; a GPU's if there.")
]


def study(
    name: Annotated[str | None, typer.Argument(help="Which; without: a list of all.")] = None,
    runtime: Runtimes = None,
    threads: Annotated[int, typer.Option(help="Threads of each runtime.")] = 1,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 1,
    seconds: Annotated[float, typer.Option(help="Time for each case on each runtime.")] = 0.3,
    data: Annotated[Path | None, typer.Option(help="Studies of pictures: a folder per class or .npz.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Studies that train: for all of it. Default 20.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for NAME.html, .png and .json.")] = Path("runs/studies"),
    quick: Annotated[bool, typer.Option("--quick", help="A coarse grid: to see that it works.")] = False,
    seed: Annotated[int, typer.Option(help="Decides random weights and the order of the races.")] = 0,
    json_: options.Json = False,
) -> int:
    """Why FLOPs are not latency, on this machine: a table, a figure and a verdict."""
    from rich.measure import Measurement

    from swiftlet.progress import bars
    from swiftlet.study import STUDIES
    from swiftlet.study.bench import Bench, default_runtimes
    from swiftlet.study.page import cell, is_numeric
    from swiftlet.study.run import run_study

    if name is None:
        if json_:
            options.print_json({"studies": STUDIES})
            return 0
        for each, question in STUDIES.items():
            print(f"{each:<18}{question}")
        print(f"{'tables':<18}times of kernels, from which latency is predicted; takes --threads, --quick, --json")
        print(f"next      {options.command()} study {next(iter(STUDIES))}")
        return 0
    if name == "tables":
        return _tables(runtime or ["onnxruntime"], threads, quick, json_)
    with bars() as progress:
        bench = Bench(
            runtimes=tuple(runtime or default_runtimes()),
            threads=threads,
            batch=batch,
            seconds=seconds,
            seed=seed,
            quick=quick,
            progress=progress,
        )
        finding, paths = run_study(name, bench, out, " ".join(["swiftlet", *sys.argv[1:]]), data, minutes=minutes)
    if json_:
        options.print_json(finding.to_json() | {"files": {kind: str(path) for kind, path in paths.items()}})
        return 0
    console = Console()
    for table in (*finding.measured, *finding.published):
        shown = RichTable(title=table.title, box=None, header_style="bold", title_justify="left")
        for place, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if is_numeric(table, place) else "left", no_wrap=True)
        for row in table.rows[:LONGEST]:
            shown.add_row(*map(cell, row))
        wanted = Measurement.get(console, console.options.update(max_width=1000), shown).maximum
        Console(width=max(console.width, wanted)).print(shown)  # wider than the terminal rather than numbers cut off
        if len(table.rows) > LONGEST:
            print(f"and {len(table.rows) - LONGEST} more rows, in {paths['html']}")
        print(f"{table.source}\n")
    for note in finding.notes:
        print(f"note      {note}")
    print(f"claim     {finding.claim}")
    print(f"verdict   {finding.verdict}{' (quick: says nothing)' if quick else ''}: {finding.sentence}")
    print(f"machine   {finding.machine}")
    print(f"next      open {paths['html']}")
    return 0


def _tables(runtimes: list[str], threads: int, quick: bool, json_: bool) -> int:
    from swiftlet.progress import bars
    from swiftlet.study.tables import MINUTES, QUICK_MINUTES, make_tables

    minutes = QUICK_MINUTES if quick else MINUTES
    made = []
    for runtime in runtimes:
        with bars(minutes=minutes) as progress:
            made.append(make_tables(runtime=runtime, threads=threads, minutes=minutes, progress=progress))
    if json_:
        options.print_json({"tables": [tables.to_json() | {"file": str(path)} for tables, path in made]})
        return 0
    for tables, path in made:
        print(f"place     {tables.place}")
        for precision, correction in tables.corrections.items():
            low, high = correction.ends()
            print(f"{precision:<10}{tables.networks[precision]} networks; new ones: {low:+.0%} to {high:+.0%}")
        if tables.disturbed:
            busy = f"{tables.disturbed} of {sum(tables.networks.values())} networks never met the machine at rest"
            print(f"disturbed {busy}; for narrower intervals repeat it on an idle machine")
        print(f"file      {path}")
    return 0
