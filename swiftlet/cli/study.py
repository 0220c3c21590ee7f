"""swiftlet study: what the papers claim about cost, timed on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as RichTable

from swiftlet.cli import options

Runtimes = Annotated[
    list[str] | None, typer.Option("--runtime", help="Repeatable. Default: onnxruntime and torch; a GPU's if there.")
]


def study(
    name: Annotated[str | None, typer.Argument(help="Which; without: a list of all.")] = None,
    runtime: Runtimes = None,
    threads: options.Threads = 1,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 1,
    seconds: Annotated[float, typer.Option(help="Time for each case on each runtime.")] = 0.3,
    out: Annotated[Path, typer.Option(help="Folder for NAME.html, .png and .json.")] = Path("runs/studies"),
    quick: Annotated[bool, typer.Option("--quick", help="A coarse grid: to see that it works.")] = False,
    seed: options.Seed = 0,
    json_: options.Json = False,
) -> int:
    """Why FLOPs are not latency, on this machine: a table, a figure and a verdict."""
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
            print(f"{each:<14}{question}")
        print(f"next      {options.command()} study {next(iter(STUDIES))}")
        return 0
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
        finding, paths = run_study(name, bench, out, " ".join(["swiftlet", *sys.argv[1:]]))
    if json_:
        options.print_json(finding.to_json() | {"files": {kind: str(path) for kind, path in paths.items()}})
        return 0
    for table in (*finding.measured, *finding.published):
        shown = RichTable(title=table.title, box=None, header_style="bold", title_justify="left")
        for place, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if is_numeric(table, place) else "left", no_wrap=True)
        for row in table.rows:
            shown.add_row(*map(cell, row))
        Console().print(shown)
        print(f"{table.source}\n")
    for note in finding.notes:
        print(f"note      {note}")
    print(f"claim     {finding.claim}")
    print(f"verdict   {finding.verdict}: {finding.sentence}")
    print(f"machine   {finding.machine}")
    print(f"next      open {paths['html']}")
    return 0
