"""Networks and files: listed, counted, timed, checked; and the machine that does it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from swiftlet.budget import LIMITS, Budget
from swiftlet.cli import options
from swiftlet.errors import BadInput


def list_(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern, as in 'mobilenet*'.")] = "*",
    fits: Annotated[str | None, typer.Option(help="Only what runs in this time here, measured: 2ms.")] = None,
    under: Annotated[str | None, typer.Option(help="Only files up to this size, float32: 500KB, 2MB.")] = None,
    side: Annotated[int | None, typer.Option(help="Side of the input in pixels; default: the published one.")] = None,
    sort: Annotated[
        str | None, typer.Option(help="params, macs, memory_access_bytes, peak_activation_bytes, latency_ms or top1.")
    ] = None,
    json_: options.Json = False,
) -> int:
    """The zoo, every published variant: counted, and with --fits or --sort latency_ms timed on this machine."""
    from swiftlet.catalogue import catalogue, described
    from swiftlet.progress import bars

    budget = Budget(
        latency_ms=None if fits is None else options.quantity(fits, {"ms": 1.0, "s": 1000.0}, "--fits"),
        runtime="onnxruntime",
        size_bytes=None if under is None else int(options.quantity(under, {"KB": 1e3, "MB": 1e6}, "--under")),
    )
    with bars() as progress:
        rows = catalogue(pattern, budget, side=side, sort=sort, progress=progress)
    if json_:
        options.print_json({"models": [row.to_json() for row in rows]})
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
    print(f"\n{len(rows)} found. next      {options.command()} count mobilenet_v2 -a width=0.35")
    return int(not rows)


def count(
    model: Annotated[str, typer.Argument(help="A network of the zoo, or an ONNX file.")],
    arguments: options.Arguments = None,
    side: Annotated[int | None, typer.Option(help="Side of the input; default: the paper's.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Print the table of layers.")] = False,
    json_: options.Json = False,
) -> int:
    """Parameters, multiply-adds, FLOPs, memory access and peak memory, per layer and in total."""
    from swiftlet.cost.count import count_model, count_onnx
    from swiftlet.zoo import card, create_model, list_models

    if model in list_models() or not Path(model).exists():
        known = card(model)
        given = options.arguments(arguments)
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
        options.print_json({"model": model, **totals, **extra, "layers": rows})
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


def time_(
    files: Annotated[list[Path], typer.Argument(help="ONNX files.")],
    runtime: Annotated[
        list[str] | None, typer.Option(help="onnxruntime, torch; repeatable. Default: onnxruntime.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Threads; repeatable. Default: 1.")] = None,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of the race.")] = 5.0,
    json_: options.Json = False,
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
        options.print_json({"results": rows, "verdict": verdict, "machine": str(machine())})
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


def check(
    file: Annotated[Path, typer.Argument(help="An ONNX classifier, ours or not.")],
    photos: Annotated[
        Path | None, typer.Argument(help="A folder per class or an .npz; without: parity and time only.")
    ] = None,
    max_ms: options.MaxMs = None,
    max_kb: options.MaxKb = None,
    runtime: Annotated[str, typer.Option(help="onnxruntime or torch.")] = "onnxruntime",
    threads: options.Threads = 1,
    labels: Annotated[Path | None, typer.Option(help="Names of a foreign file's outputs, one a line.")] = None,
    normalize: Annotated[
        str | None,
        typer.Option(help="What a foreign file sees: 'MEAN STD', each 1 or 3 numbers in 0..255, comma-separated."),
    ] = None,
    json_: options.Json = False,
) -> int:
    """Measure a file: accuracy on photos, bytes, milliseconds, and that it gives the answers it was exported with."""
    from swiftlet.check import check as run

    budget = options.budget(max_ms, max_kb, None, threads=threads, runtime=runtime)
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
        options.print_json(flat | {"cost": asdict(done.cost), "machine": done.measurement.machine})
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


def doctor(json_: options.Json = False) -> int:
    """What works on this machine; put its output into a bug report."""
    from swiftlet.doctor import examine

    report = examine()
    if json_:
        options.print_json(report)
    else:
        for name, value in report.items():
            print(f"{name:<22}{value if not isinstance(value, bool) else 'yes' if value else 'NO'}")
    return int(not report["ok"])


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
