"""The command line: parse, call one library function, print.

Exit codes: 0 it fits or passes; 1 it does not; 2 the call, the photos or a file are at fault; 130 interrupted.
"""

import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from swiftlet._version import __version__
from swiftlet.budget import LIMITS, Budget
from swiftlet.errors import BadFile, BadInput, Infeasible, SwiftletError

app = typer.Typer(
    name="swiftlet",
    help="Photos and a budget in; the most accurate small network that fits, as a checked file, out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Photos = Annotated[
    Path | None, typer.Argument(help="A folder per class, or an .npz file. Without: the built-in handwritten digits.")
]
MaxMs = Annotated[float | None, typer.Option(help="Limit: median milliseconds for one picture.")]
MaxKb = Annotated[float | None, typer.Option(help="Limit: kilobytes (1000 bytes) of the file.")]
MaxMmacs = Annotated[float | None, typer.Option(help="Limit: millions of multiply-adds for one picture.")]
MaxDrop = Annotated[float, typer.Option(help="Accuracy points that int8 may cost.")]
Minutes = Annotated[float, typer.Option(help="Time for everything, training included.")]
Threads = Annotated[int, typer.Option(help="Threads that the file runs on.")]
Seed = Annotated[int, typer.Option(help="Decides splits, initial weights and augmentation.")]
Pretrained = Annotated[
    str | None,
    typer.Option(
        help="Trained weights to start from: 'auto' (recommended ones, from the hub), timm/NAME, or a local file or "
        "folder. Without: recommended ones that the hub's cache has already."
    ),
]
Arguments = Annotated[
    list[str] | None, typer.Option("-a", "--arg", help="Argument of the network, as in -a width=0.35; repeatable.")
]


def main() -> None:
    """Entry point. Errors that swiftlet raises on purpose become one line and an exit code, everything else a trace."""
    try:
        code = app(standalone_mode=False)
    except Infeasible as error:
        code = _fail(error, 1)
    except SwiftletError as error:
        code = _fail(error, 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}{error.strerror or error}; mend that and run the same command again", 2)
    except typer.TyperException as error:
        code = _fail(error, 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted; the same command goes on from here", 130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: object, code: int) -> int:
    if "--json" in sys.argv:
        print(json.dumps({"error": str(error)}))
    print(f"swiftlet: {error}", file=sys.stderr)
    return code


def _version(asked: bool) -> None:
    if asked:
        print(f"swiftlet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
def fit(
    photos: Photos = None,
    max_ms: MaxMs = None,
    max_kb: MaxKb = None,
    max_mmacs: MaxMmacs = None,
    max_drop: MaxDrop = 1.0,
    minutes: Minutes = 10.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/NAME. The same folder resumes.")
    ] = None,
    seed: Seed = 0,
    plan: Annotated[Path | None, typer.Option(help="A plan.json, to repeat another run exactly.")] = None,
    pretrained: Pretrained = None,
    json_: Json = False,
) -> int:
    """Train, shrink, export and verify the most accurate small network that fits the budget."""
    from swiftlet.fitting import fit as run
    from swiftlet.progress import bars

    budget = _budget(max_ms, max_kb, max_mmacs, max_drop=max_drop)
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
        _print_json(asdict(result))
    else:
        _show(asdict(result))
    return 130 if result.interrupted else int(not result.budget_met)


def _show(result: dict[str, Any]) -> None:
    """The last screen: six lines, the next command last."""
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
    print(f"latency   p50 {result['p50_ms']:.3g} ms, p90 {result['p90_ms']:.3g} ms on {result['machine']}")
    print(f"budget    {budget}")
    print(f"report    {result['report']}")
    if result["interrupted"]:
        print("next      the same command goes on from here")
    else:
        print(f"next      {_command()} check {result['file']}")


@app.command()
def plan(
    photos: Photos = None,
    max_ms: MaxMs = None,
    max_kb: MaxKb = None,
    max_mmacs: MaxMmacs = None,
    minutes: Minutes = 10.0,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Write the plan as JSON, for fit --plan.")] = None,
    pretrained: Pretrained = None,
    json_: Json = False,
) -> int:
    """Without any training: what is feasible under the budget, measured, and what fit would train."""
    from swiftlet.data.photos import load_photos
    from swiftlet.files import write_json
    from swiftlet.fitting import recipe_of
    from swiftlet.plan import candidates_for, make_plan
    from swiftlet.progress import bars

    budget = _budget(max_ms, max_kb, max_mmacs)
    with bars() as progress:
        data = load_photos(photos, seed=seed, progress=progress)
        made = make_plan(
            candidates_for(data.audit.median_short_side, pretrained),
            budget,
            num_classes=len(data.classes),
            photos=len(data.train),
            recipe=recipe_of(data),
            minutes=minutes,
            seed=seed,
            progress=progress,
        )
    if out:
        write_json(out, made.to_json())
    if json_:
        _print_json(made.to_json())
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
    flags = _flags(max_ms, max_kb, max_mmacs) + (f"--pretrained {pretrained} " if pretrained else "")
    print(f"next      {_command()} fit {f'{photos} ' if photos else ''}{flags}--minutes {minutes:g}")
    return 0


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern, as in 'mobilenet*'.")] = "*",
    fits: Annotated[str | None, typer.Option(help="Only what runs in this time here, measured: 2ms.")] = None,
    under: Annotated[str | None, typer.Option(help="Only files up to this size, float32: 500KB, 2MB.")] = None,
    side: Annotated[int | None, typer.Option(help="Side of the input in pixels; default: the published one.")] = None,
    sort: Annotated[
        str | None, typer.Option(help="params, macs, memory_access_bytes, peak_activation_bytes, latency_ms or top1.")
    ] = None,
    json_: Json = False,
) -> int:
    """The zoo, every published variant: counted, and with --fits or --sort latency_ms timed on this machine."""
    from swiftlet.catalogue import catalogue, described
    from swiftlet.progress import bars

    budget = Budget(
        latency_ms=None if fits is None else _quantity(fits, {"ms": 1.0, "s": 1000.0}, "--fits"),
        runtime="onnxruntime",
        size_bytes=None if under is None else int(_quantity(under, {"KB": 1e3, "MB": 1e6}, "--under")),
    )
    with bars() as progress:
        rows = catalogue(pattern, budget, side=side, sort=sort, progress=progress)
    if json_:
        _print_json({"models": [row.to_json() for row in rows]})
        return int(not rows)
    table = Table(box=None, header_style="bold")
    table.add_column("network", overflow="fold")
    for title in ("side", "params M", "M MACs", "MB moved", "KB float32", "top-1 %", "int8", "ms"):
        table.add_column(title, justify="right")
    for row in rows:
        cost = row.cost
        table.add_row(
            f"{row.network} {described(row.arguments)}".strip(),
            str(row.side),
            f"{(cost.params or 0) / 1e6:.2f}",
            f"{(cost.macs or 0) / 1e6:.1f}",
            f"{(cost.memory_access_bytes or 0) / 1e6:.1f}",
            f"{(cost.size_bytes or 0) / 1e3:.0f}",
            "" if row.top1 is None else f"{row.top1:.1f}",
            "safe" if row.int8_safe else "",
            "" if cost.latency_ms is None else f"{cost.latency_ms:.3f}",
        )
    Console().print(table)
    print(f"\n{len(rows)} found. next      {_command()} count mobilenet_v2 -a width=0.35")
    return int(not rows)


@app.command()
def count(
    model: Annotated[str, typer.Argument(help="A network of the zoo, or an ONNX file.")],
    arguments: Arguments = None,
    side: Annotated[int | None, typer.Option(help="Side of the input; default: the paper's.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Print the table of layers.")] = False,
    json_: Json = False,
) -> int:
    """Parameters, multiply-adds, FLOPs, memory access and peak memory, per layer and in total."""
    from swiftlet.cost.count import count_model, count_onnx
    from swiftlet.zoo import card, create_model, list_models

    if model in list_models() or not Path(model).exists():
        known = card(model)
        given = _arguments(arguments)
        channels = given.get("in_channels", known.input[0])
        height, width = (side, side) if side else known.input[1:]
        counted = count_model(create_model(model, **given), (channels, height, width))
    elif arguments or side:
        raise BadInput(
            f"count: {model} is a file, which has its arguments and its side inside; leave out -a and --side"
        )
    else:
        counted = count_onnx(Path(model))
    cost = counted.cost
    if json_:
        rows = [asdict(layer) for layer in counted.layers]
        totals = {name: getattr(cost, name) for name in LIMITS if name != "latency_ms"}
        extra = {"elementwise": counted.elementwise, "uncovered": list(counted.uncovered), "rule": counted.rule}
        _print_json({"model": model, **totals, **extra, "layers": rows})
        return 0
    if layers:
        table = Table("layer", "op", "output", "params", "MACs", "bytes moved", box=None, header_style="bold")
        for column in table.columns[2:]:
            column.justify = "right"
        for layer in counted.layers:
            shape = "x".join(map(str, layer.output))
            table.add_row(
                layer.name, layer.op, shape, *(f"{n:,}" for n in (layer.params, layer.macs, layer.memory_access_bytes))
            )
        Console().print(table)
        print()
    print(f"params           {cost.params:>15,}")
    print(f"MACs             {cost.macs:>15,}")
    print(f"FLOPs            {cost.flops:>15,}")
    print(f"element-wise     {counted.elementwise:>15,}")
    print(f"memory access    {cost.memory_access_bytes:>15,} bytes")
    print(f"peak activations {cost.peak_activation_bytes:>15,} bytes")
    print(f"size             {cost.size_bytes:>15,} bytes")
    print(f"not covered      {', '.join(counted.uncovered) or 'nothing: every operation has a rule'}")
    print(f"rule: {counted.rule}")
    return 0


@app.command("time")
def time_(
    files: Annotated[list[Path], typer.Argument(help="ONNX files.")],
    runtime: Annotated[
        list[str] | None, typer.Option(help="onnxruntime, torch; repeatable. Default: onnxruntime.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Threads; repeatable. Default: 1.")] = None,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of the race.")] = 5.0,
    json_: Json = False,
) -> int:
    """Race files against each other, interleaved, with a verdict that may be "cannot tell"."""
    from swiftlet.progress import bars
    from swiftlet.runtime.machine import machine
    from swiftlet.timing import time_files

    with bars() as progress:
        contestants, measured, verdict = time_files(
            files, runtime or ["onnxruntime"], threads or [1], batch=batch, seconds=seconds, progress=progress
        )
    rows = [
        {"file": str(c.file), **{k: v for k, v in m.to_json().items() if k not in ("machine", "rounds_ms")}}
        for c, m in zip(contestants, measured, strict=True)
    ]
    if json_:
        _print_json({"results": rows, "verdict": verdict, "machine": str(machine())})
        return 0
    table = Table("file", "runtime", "threads", "p50 ms", "95 %", "p90 ms", "n", "", box=None, header_style="bold")
    for contestant, m in zip(contestants, measured, strict=True):
        low, high = m.interval_ms
        cells = (
            f"{m.p50_ms:.4g}",
            f"{low:.4g} to {high:.4g}",
            f"{m.p90_ms:.4g}",
            str(m.n),
            "" if m.stable else "too noisy to rank",
        )
        table.add_row(str(contestant.file), m.runtime, str(m.threads), *cells)
    Console().print(table)
    print(f"\n{verdict}\n{machine()}")
    return 0


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="An ONNX classifier, ours or not.")],
    photos: Annotated[
        Path | None, typer.Argument(help="A folder per class or an .npz; without: parity and time only.")
    ] = None,
    max_ms: MaxMs = None,
    max_kb: MaxKb = None,
    runtime: Annotated[str, typer.Option(help="onnxruntime or torch.")] = "onnxruntime",
    threads: Threads = 1,
    labels: Annotated[Path | None, typer.Option(help="Names of a foreign file's outputs, one a line.")] = None,
    normalize: Annotated[
        str | None,
        typer.Option(help="What a foreign file sees: 'MEAN STD', each 1 or 3 numbers in 0..255, comma-separated."),
    ] = None,
    json_: Json = False,
) -> int:
    """Measure a file: accuracy on photos, bytes, milliseconds, and that it gives the answers it was exported with."""
    from swiftlet.check import check as run

    budget = _budget(max_ms, max_kb, None, threads=threads, runtime=runtime)
    names = None if labels is None else tuple(labels.read_text(encoding="utf-8").splitlines())
    contract = None if normalize is None else _normalisation(normalize)
    done = run(file, photos, budget=budget, runtime=runtime, threads=threads, contract=contract, labels=names)
    passed = not done.over and done.parity_ok is not False
    if json_:
        flat = {k: v for k, v in asdict(done).items() if k not in ("measurement", "cost")}
        flat |= {
            "size_bytes": done.cost.size_bytes,
            "p50_ms": done.measurement.p50_ms,
            "p90_ms": done.measurement.p90_ms,
        }
        _print_json(flat | {"cost": asdict(done.cost), "machine": done.measurement.machine})
        return int(not passed)
    print(f"file      {file}  {done.cost.size_bytes:,} bytes, {(done.cost.macs or 0) / 1e6:.2f} M MACs")
    if done.accuracy is not None and done.interval is not None:
        low, high = (100 * end for end in done.interval)
        aside = f"; {done.set_aside} files set aside" if done.set_aside else ""
        print(f"accuracy  {100 * done.accuracy:.2f} % (95 % {low:.1f} to {high:.1f}) on {done.n} photos{aside}")
    place = f"{runtime}, {threads} thread{'s' if threads > 1 else ''}; {done.measurement.machine}"
    print(f"latency   {done.measurement} on {place}")
    if done.parity_max_abs is None:
        print("parity    not measured: the file holds no golden record")
    else:
        word = "agrees" if done.parity_ok else "DIFFERS"
        print(f"parity    {word} with its golden record: largest difference of a score {done.parity_max_abs:.2g}")
    for note in done.notes:
        print(f"note      {note}")
    for name, why in done.over.items():
        print(f"over      {name} {why}")
    return int(not passed)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")] = Path("runs/digits"),
    json_: Json = False,
) -> int:
    """The result of a run, or how far it has come."""
    from swiftlet.run import read_run

    result, stages, seconds = read_run(run)
    if json_:
        _print_json(result or {"finished": False, "stages": stages, "seconds": seconds})
    elif result:
        _show(result)
    else:
        print(f"{run}: not finished after {seconds:.0f} s; {len(stages)} stages done: {', '.join(stages)}")
        print("next      the command that started it goes on from here")
    return int(not (result and result["budget_met"]))


@app.command()
def doctor(json_: Json = False) -> int:
    """What works on this machine; put its output into a bug report."""
    from swiftlet.doctor import examine

    report = examine()
    if json_:
        _print_json(report)
    else:
        for name, value in report.items():
            print(f"{name:<22}{value if not isinstance(value, bool) else 'yes' if value else 'NO'}")
    return int(not report["ok"])


def _command() -> str:
    """How to call swiftlet in the next line: by its name if the shell finds this very one, else by its path."""
    called = Path(sys.argv[0])
    if shutil.which("swiftlet") == str(called.absolute()) or called.name != "swiftlet":
        return "swiftlet"
    return os.path.relpath(called)


def _print_json(value: Any) -> None:
    print(json.dumps(value, default=str, allow_nan=False))


def _budget(
    max_ms: float | None,
    max_kb: float | None,
    max_mmacs: float | None,
    *,
    max_drop: float = 1.0,
    threads: int = 1,
    runtime: str = "onnxruntime",
) -> Budget:
    return Budget(
        latency_ms=max_ms,
        size_bytes=None if max_kb is None else round(max_kb * 1000),
        macs=None if max_mmacs is None else round(max_mmacs * 1e6),
        max_drop=max_drop,
        threads=threads,
        runtime=runtime,
    )


def _flags(max_ms: float | None, max_kb: float | None, max_mmacs: float | None) -> str:
    given = (("--max-ms", max_ms), ("--max-kb", max_kb), ("--max-mmacs", max_mmacs))
    return "".join(f"{flag} {value:g} " for flag, value in given if value is not None)


def _arguments(given: list[str] | None) -> dict[str, Any]:
    """["width=0.35", "num_classes=10"] -> {"width": 0.35, "num_classes": 10}: values are JSON, or else plain text."""
    arguments: dict[str, Any] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals:
            raise BadInput(f"-a {item}: write NAME=VALUE, as in -a width=0.35")
        try:
            arguments[name] = json.loads(text)
        except ValueError:
            arguments[name] = text
    return arguments


def _quantity(text: str, units: dict[str, float], flag: str) -> float:
    """ "2ms" -> 2.0, "500KB" -> 500000.0."""
    for unit, scale in units.items():
        number = text.strip().lower().removesuffix(unit.lower())
        if number != text.strip().lower():
            try:
                return float(number) * scale
            except ValueError:
                break
    raise BadInput(f"{flag} {text}: write a number with its unit, {' or '.join(units)}")


def _normalisation(text: str) -> Any:
    from swiftlet.data.contract import InputContract

    try:
        triples: Any = [[float(n) for n in part.split(",")] for part in text.split()]
        mean, std = (tuple(t * 3 if len(t) == 1 else t) for t in triples)
        return InputContract(side=224, mean=mean, std=std)
    except ValueError as error:
        raise BadInput(
            f"--normalize {text!r}: write mean and std, as in '127.5 127.5' or '124,116,104 58,57,57'"
        ) from error


def _read_plan(path: Path) -> Any:
    from swiftlet.plan import Plan

    try:
        return Plan.from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: is not a plan ({error}); make one with swiftlet plan --out {path}") from error
