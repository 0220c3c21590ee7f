"""The main job: fit, its plan, and what has become of a run."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from swiftlet.cli import options, study
from swiftlet.cli.shrinking import show_shrunk
from swiftlet.cli.training import show_trained
from swiftlet.errors import BadFile


def fit(
    photos: options.Photos = None,
    max_ms: options.MaxMs = None,
    max_kb: options.MaxKb = None,
    max_mmacs: options.MaxMmacs = None,
    max_drop: options.MaxDrop = 1.0,
    minutes: options.Minutes = 10.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/NAME. The same folder resumes.")
    ] = None,
    seed: options.Seed = 0,
    plan: Annotated[Path | None, typer.Option(help="A plan.json, to repeat another run exactly.")] = None,
    pretrained: options.Pretrained = None,
    json_: options.Json = False,
) -> int:
    """Train, shrink, export and verify the most accurate small network that fits the budget."""
    from swiftlet.fitting import fit as run
    from swiftlet.progress import bars

    budget = options.budget(max_ms, max_kb, max_mmacs, max_drop=max_drop)
    with bars(minutes=minutes) as progress:
        result = run(
            photos,
            budget,
            minutes=minutes,
            out=out,
            seed=seed,
            plan=_read_plan(plan) if plan else None,
            pretrained=pretrained,
            progress=progress,
        )
    if json_:
        options.print_json(asdict(result))
    else:
        show_result(asdict(result))
    return 130 if result.interrupted else int(not result.budget_met)


def show_result(result: dict[str, Any]) -> None:
    """The last screen: seven lines, the next command last."""
    low, high = (100 * end for end in result["interval"])
    drop = 100 * (result["accuracy_float"] - result["accuracy"])
    budget = (
        "within the budget" if result["budget_met"] else "OVER: " + "; ".join(map(" ".join, result["over"].items()))
    )
    what = {"test": "sealed test photos", "validation": "validation photos (interrupted: the test stays sealed)"}
    print(
        f"file      {result['file']}  {result['network']}, {result['precision']}, {result['size_bytes'] / 1000:.1f} KB"
    )
    print(
        f"accuracy  {100 * result['accuracy']:.2f} % (95 % {low:.1f} to {high:.1f}) on {result['n']} "
        f"{what[result['split']]}; {drop:+.2f} points below its float parent"
    )
    if result.get("weights"):  # a run of an older version says nothing of them
        print("weights   started from {source}, licence {licence}".format(**result["weights"]))
    if result.get("recipe"):
        print(f"recipe    {result['recipe']}")
    print(f"latency   p50 {result['p50_ms']:.3g} ms, p90 {result['p90_ms']:.3g} ms on {result['machine']}")
    print(f"budget    {budget}")
    print(f"report    {result['report']}")
    if result["interrupted"]:
        print("next      the same command goes on from here")
    else:
        print(f"next      {options.command()} check {result['file']}")


def plan(
    photos: options.Photos = None,
    max_ms: options.MaxMs = None,
    max_kb: options.MaxKb = None,
    max_mmacs: options.MaxMmacs = None,
    minutes: options.Minutes = 10.0,
    seed: options.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Write the plan as JSON, for fit --plan.")] = None,
    pretrained: options.Pretrained = None,
    json_: options.Json = False,
) -> int:
    """Without any training: what is feasible under the budget, measured, and what fit would train."""
    from swiftlet.candidates import candidates_for
    from swiftlet.data.photos import load_photos
    from swiftlet.files import write_json
    from swiftlet.fitting import recipe_of
    from swiftlet.plan import make_plan
    from swiftlet.progress import bars

    budget = options.budget(max_ms, max_kb, max_mmacs)
    with bars() as progress:
        data = load_photos(photos, seed=seed, progress=progress)
        recipe, why = recipe_of(data, minutes=minutes)
        made = make_plan(
            candidates_for(data.audit.median_short_side, pretrained),
            budget,
            num_classes=len(data.classes),
            photos=len(data.train),
            recipe=recipe,
            minutes=minutes,
            seed=seed,
            progress=progress,
        )
    if out:
        write_json(out, made.to_json())
    if json_:
        options.print_json(made.to_json() | {"recipe": {"name": recipe.name, "why": why}})
        return 0
    table = Table("candidate", "M MACs", "float32 KB", "ms", "int8 KB", "ms", "verdict", box=None, header_style="bold")
    for column in table.columns[1:6]:
        column.justify = "right"
    for planned in made.planned:
        cells = []
        for precision in ("float32", "int8"):
            cost = planned.costs.get(precision)
            cells.append(f"{cost.size_bytes / 1000:.0f}" if cost and cost.size_bytes else "")
            cells.append(f"{cost.latency_ms:.3f}" if cost and cost.latency_ms is not None else "")
        why = "; ".join(f"{p}: {', '.join(broken)}" for p, broken in planned.over.items() if broken)
        verdict = f"fits as {' or '.join(planned.feasible)}" if planned.feasible else f"over ({why})"
        table.add_row(planned.candidate.name, f"{planned.macs / 1e6:.1f}", *cells, verdict)
    Console().print(table)
    print(
        f"\n{len(made.planned)} candidates counted and timed in {made.seconds:.1f} s; fit would train, in this order:"
    )
    for name in made.shortlist:
        steps = [rung[name] for rung in made.rungs]
        ms = made.find(name).train_ms or 0.0
        seconds = sum(steps) * made.batch * ms / 1000
        print(
            f"  {name}: {ms:.2f} ms a picture, up to {sum(steps)} steps in {len(steps)} rounds, {seconds / 60:.1f} min"
        )
    for started in sorted({made.find(name).candidate.pretrained is not None for name in made.shortlist}):
        recipe, why = recipe_of(data, minutes=minutes, pretrained=started)
        print(f"recipe    {recipe.name}: {why}")
    page = study.OUT / "all.html"
    rules = page if page.exists() else f"{options.command()} study all"
    print(f"rules     {rules}: which design rules hold on this machine, and how much they matter")
    flags = options.flags(max_ms, max_kb, max_mmacs) + (f"--pretrained {pretrained} " if pretrained else "")
    print(f"next      {options.command()} fit {f'{photos} ' if photos else ''}{flags}--minutes {minutes:g}")
    return 0


def show(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")] = Path("runs/digits"),
    json_: options.Json = False,
) -> int:
    """The result of a run, or how far it has come."""
    from swiftlet.run import read_run

    result, stages, seconds = read_run(run)
    if json_:
        options.print_json(result or {"finished": False, "stages": stages, "seconds": seconds})
    elif result and "ladder" in result:
        show_shrunk(result)
    elif result and "budget_met" not in result:
        show_trained(result)
    elif result:
        show_result(result)
    else:
        print(f"{run}: not finished after {seconds:.0f} s; {len(stages)} stages done: {', '.join(stages)}")
        print("next      the command that started it goes on from here")
    return int(not result or bool(result.get("over")) or not result.get("budget_met", True))


def _read_plan(path: Path) -> Any:
    from swiftlet.plan import Plan

    try:
        return Plan.from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: is not a plan ({error}); make one with swiftlet plan --out {path}") from error
