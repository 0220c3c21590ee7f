"""swiftlet study: what the papers claim about cost and accuracy, measured on this machine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table as RichTable

from swiftlet.cli import options

if TYPE_CHECKING:
    from swiftlet.study.finding import Finding
    from swiftlet.study.overview import Survey

LONGEST = 60  # rows of a table on the screen
CASE_SECONDS = 0.3
OUT = Path("runs/studies")
Runtimes = Annotated[
    list[str] | None, typer.Option("--runtime", help="Repeatable. Default: onnxruntime and torch; a GPU's if there.")
]


def study(
    name: Annotated[str | None, typer.Argument(help="Which, or all; without: a list.")] = None,
    runtime: Runtimes = None,
    threads: Annotated[int, typer.Option(help="Threads of each runtime.")] = 1,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 1,
    seconds: Annotated[
        float | None, typer.Option(help="Time for each case on each runtime. Default 0.3; of all 0.1.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Studies of pictures: a folder per class or .npz.")] = None,
    minutes: Annotated[float | None, typer.Option(help="For all, or for one that trains. Default 20.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for NAME.html, .png and .json.")] = OUT,
    quick: Annotated[bool, typer.Option("--quick", help="A coarse grid: to see that it works.")] = False,
    seed: Annotated[int, typer.Option(help="Decides random weights and the order of the races.")] = 0,
    json_: options.Json = False,
) -> int:
    """Why FLOPs are not latency, on this machine: a table, a figure and a verdict."""
    from swiftlet.progress import bars
    from swiftlet.study.bench import Bench, default_runtimes
    from swiftlet.study.overview import Survey
    from swiftlet.study.run import run_study
    from swiftlet.study.survey import SECONDS, SURVEY_MINUTES, run_survey

    if name is None:
        return _list(json_)
    if name == "tables":
        return _tables(runtime or ["onnxruntime"], threads, quick, json_)
    every, command = name == "all", " ".join(["swiftlet", *sys.argv[1:]])
    usual = SECONDS if every else CASE_SECONDS
    given = SURVEY_MINUTES if minutes is None else minutes
    with bars(minutes=given if every else None) as progress:
        bench = Bench(
            runtimes=tuple(runtime or default_runtimes()),
            threads=threads,
            batch=batch,
            seconds=usual if seconds is None else seconds,
            seed=seed,
            quick=quick,
            progress=progress,
        )
        found: Finding | Survey
        if every:
            found, paths = run_survey(bench, out, command, data, minutes=given)
        else:
            found, paths = run_study(name, bench, out, command, data, minutes=minutes)
    if json_:
        options.print_json(found.to_json() | {"files": {kind: str(path) for kind, path in paths.items()}})
    elif isinstance(found, Survey):
        _show_survey(found)
    else:
        _show_finding(found, paths["html"])
    if not json_:
        print(f"next      open {paths['html']}")
    return 0


def _list(json_: bool) -> int:
    from swiftlet.study import STUDIES

    if json_:
        options.print_json({"studies": STUDIES})
        return 0
    for each, question in STUDIES.items():
        print(f"{each:<20}{question}")
    print(f"{'all':<20}which of their rules hold on this machine? What fits into --minutes, on one page")
    print(f"{'tables':<20}times of kernels, from which latency is predicted; takes --threads, --quick, --json")
    print(f"next      {options.command()} study {next(iter(STUDIES))}")
    return 0


def _show_finding(finding: "Finding", page: Path) -> None:
    from rich.measure import Measurement

    from swiftlet.study.page import cell, is_numeric

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
            print(f"and {len(table.rows) - LONGEST} more rows, in {page}")
        print(f"{table.source}\n")
    for note in finding.notes:
        print(f"note      {note}")
    quick = " (quick: says nothing)" if finding.setting["quick"] else ""
    print(f"claim     {finding.claim}")
    print(f"verdict   {finding.verdict}{quick}: {finding.sentence}")
    print(f"machine   {finding.machine}")


def _show_survey(survey: "Survey") -> None:
    """A line for each rule, in the order of the page."""
    from swiftlet.study.finding import KINDS

    for kind in KINDS:
        for finding, effect in survey.rules(kind):
            print(f"{kind:<10}{finding.study}, {finding.verdict}: {effect.rule[:-1]}: {effect}")
    for finding in survey.others():
        print(f"other     {finding.study}, {finding.verdict}: {finding.sentence}")
    for name, reason in survey.left_out.items():
        print(f"left out  {name}: {reason}")
    quick = " (quick: says nothing)" if survey.quick else ""
    print(f"judged    {len(survey.findings)} studies in {survey.spent:.1f} minutes{quick}")
    print(f"machine   {survey.machine}")


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
