"""Networks and files: listed, counted, timed, checked; and the machine that does it."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from swiftlet.budget import Budget
from swiftlet.cli import options
from swiftlet.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

    from swiftlet.runtime.predict import Prediction

LONGEST_NAME = 23  # characters: a network's name is not broken, its arguments may be


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

    _check_side("list", side)
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
    table.add_column("network", overflow="fold", min_width=LONGEST_NAME)
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
    options.print_table(table)
    print(f"\n{len(rows)} found. next      {options.command()} count mobilenet_v2 -a width=0.35")
    return int(not rows)


def count(
    model: Annotated[str, typer.Argument(help="A network of the zoo, or an ONNX file, packed or not.")],
    arguments: options.Arguments = None,
    side: Annotated[
        int | None, typer.Option(help="Side of the input; default: the paper's, or 224 where a file leaves it free.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Print the table of layers.")] = False,
    predict: Annotated[
        bool, typer.Option("--predict", help="Milliseconds here, unrun, from the tables of `swiftlet study tables`.")
    ] = False,
    json_: options.Json = False,
) -> int:
    """Parameters, multiply-adds, memory, receptive field, bytes and gradients, per layer and in total."""
    from swiftlet.cost.count import count_model, count_onnx
    from swiftlet.cost.packed import packed_bytes
    from swiftlet.cost.screen import screen_onnx
    from swiftlet.cost.shapes import real_inputs
    from swiftlet.zoo import card, create_model, list_models

    _check_side("count", side)
    free = False
    packed = stored = None  # packed: a matter of the values, which random weights say nothing of
    if model in list_models() or not (Path(model).exists() or model.endswith((".onnx", ".swl")) or "/" in model):
        known = card(model)
        given = options.arguments(arguments)
        channels = given.get("in_channels", known.input[0])
        height, width = (side, side) if side else known.input[1:]
        network = create_model(model, **given)
        shapes: list[tuple[int, ...]] = [(channels, height, width)]
        counted = count_model(network, (channels, height, width))
        predicted = _predicted(network, (channels, height, width)) if predict else None
    elif arguments:
        raise BadInput(f"count: {model} is a file, which has its arguments inside; leave out -a")
    else:
        screened = screen_onnx(Path(model), side=side or 224)
        inputs = real_inputs(screened.model.graph)
        shapes = [screened.known[value.name].shape[1:] for value in inputs]
        free = any(not dim.HasField("dim_value") for value in inputs for dim in value.type.tensor_type.shape.dim[1:])
        if side and not free:
            raise BadInput(f"count: {model} is a file, and its input has a fixed size; leave out --side")
        counted, packed = count_onnx(screened.data, side=side or 224), packed_bytes(Path(model))
        predicted, stored = _predicted(Path(model)) if predict else None, Path(model).stat().st_size
    if json_:
        told: dict[str, Any] = {} if predicted is None else {"predicted": predicted.to_json()}
        told |= {} if stored is None else {"packed_bytes": packed, "file_bytes": stored}
        options.print_json({"model": model, "inputs": shapes} | counted.to_json() | told)
        return 0
    if layers:
        titles = ("layer", "op", "output", "params", "MACs", "bytes moved", "ops/byte", "sees")
        table = Table(*titles, box=None, header_style="bold")
        for column in table.columns[2:]:
            column.justify = "right"
        for layer in counted.layers:
            shape = "x".join(map(str, layer.output[1:]))
            numbers = (f"{n:,}" for n in (layer.params, layer.macs, layer.memory_access_bytes))
            table.add_row(layer.name, layer.op, shape, *numbers, f"{layer.intensity:.2f}", str(layer.field))
        options.print_table(table)
        print()
    cost = counted.cost
    size = ", ".join(" x ".join(map(str, shape)) for shape in shapes)
    print(f"input            {size:>15}{', a size that the file leaves open (--side)' if free else ''}")
    print(f"params           {cost.params:>15,}")
    print(f"MACs             {cost.macs:>15,}")
    print(f"FLOPs            {cost.flops:>15,}")
    print(f"element-wise     {counted.elementwise:>15,}")
    print(f"memory access    {cost.memory_access_bytes:>15,} bytes, of which {counted.written_bytes:,} written")
    print(f"intensity        {counted.intensity:>15.2f} operations per byte moved")
    print(f"peak activations {cost.peak_activation_bytes:>15,} bytes")
    inside = "" if stored in (None, cost.size_bytes) else f", {stored:,} in its container"
    print(f"size             {cost.size_bytes:>15,} bytes{inside}")
    print(f"weights          {counted.float32_bytes:>15,} bytes float32")
    print(f"                 {counted.float16_bytes:>15,} bytes float16")
    print(f"                 {counted.int8_bytes:>15,} bytes int8")
    if packed is not None:
        print(f"                 {packed:>15,} bytes int8 and packed: at least, by the entropy of its values")
    print(f"gradients        {counted.gradient_bytes:>15,} bytes per training step")
    print(
        f"depth            {counted.depth:>15,} multiplying layers in sequence, at most {counted.branches} side by side"
    )
    print(f"receptive field  {counted.field or 'all'!s:>15} pixels, before a layer that sees all of them")
    missing = ", ".join(counted.uncovered)
    percent = math.floor(10_000 * counted.coverage) / 100  # 100 is said of nothing less
    print(f"coverage         {percent:>15.2f} % of {len(counted.layers):,} operations have a rule")
    if missing:
        print(f"no rule for      {missing}: their computation counts as 0")
    print(f"rule: {counted.rule}")
    if predicted is not None:
        print(f"{predicted}: {predicted.precision} on {predicted.runtime}, {predicted.threads} thread, batch 1")
    return 0


def _check_side(verb: str, side: int | None) -> None:
    if side is not None and side < 1:
        raise BadInput(f"{verb}: --side {side} must be 1 or more")


def _predicted(model: "Path | nn.Module", shape: tuple[int, int, int] = (0, 0, 0)) -> "Prediction":
    """Of a file, or of a network as it would be delivered in float32."""
    from swiftlet.compress.reparameterize import deployed
    from swiftlet.export.onnx import export_layers
    from swiftlet.runtime.predict import predict

    return predict(model if isinstance(model, Path) else export_layers(deployed(model.eval())[0], shape))


def time_(
    files: Annotated[list[Path], typer.Argument(help="ONNX files, packed (.swl) or not.")],
    runtime: Annotated[
        list[str] | None, typer.Option(help="As `swiftlet doctor` lists them; repeatable. Default: onnxruntime.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Threads; repeatable. Default: 1.")] = None,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of the race.")] = 5.0,
    layers: Annotated[bool, typer.Option("--layers", help="One file layer by layer, by time lost.")] = False,
    photos: Annotated[
        Path | None, typer.Option(help="One file on the photos of a folder: decoding, resizing, network.")
    ] = None,
    json_: options.Json = False,
) -> int:
    """Race files against each other, interleaved, with a verdict that may be "cannot tell"."""
    from swiftlet.cli import timings
    from swiftlet.progress import bars
    from swiftlet.timing import time_files, time_layers, time_photos

    runtimes, counts = runtime or ["onnxruntime"], threads or [1]
    if (layers or photos) and max(len(files), len(runtimes), len(counts), layers + bool(photos)) > 1:
        raise BadInput("time: --layers and --photos take one file, runtime and number of threads, and not each other")
    if photos and batch != 1:
        raise BadInput("time: --photos runs one photo at a time; leave out --batch")
    found: Any
    with bars() as progress:
        if layers:
            found = time_layers(files[0], runtimes[0], counts[0], batch=batch, progress=progress)
        elif photos:
            found = time_photos(files[0], photos, runtimes[0], counts[0], seconds=seconds, progress=progress)
        else:
            found = time_files(files, runtimes, counts, batch=batch, seconds=seconds, progress=progress)
    if json_:
        options.print_json(found.to_json())
    else:
        timings.show(found)
    return 0


def check(
    file: Annotated[Path, typer.Argument(help="An ONNX classifier, ours or not, packed (.swl) or not.")],
    photos: Annotated[
        Path | None, typer.Argument(help="A folder per class or an .npz; without: parity and time only.")
    ] = None,
    max_ms: options.MaxMs = None,
    max_kb: options.MaxKb = None,
    runtime: Annotated[str, typer.Option(help="What runs the file; doctor lists them.")] = "onnxruntime",
    threads: options.Threads = 1,
    labels: Annotated[Path | None, typer.Option(help="Names of a foreign file's outputs, one a line.")] = None,
    normalize: options.Normalize = None,
    json_: options.Json = False,
) -> int:
    """Measure a file: accuracy on photos, bytes, milliseconds, and that it gives the answers it was exported with."""
    from swiftlet.check import check as run

    budget = options.budget(max_ms, max_kb, None, threads=threads, runtime=runtime)
    names = None if labels is None else tuple(labels.read_text(encoding="utf-8").splitlines())
    contract = None if normalize is None else options.normalisation(normalize)
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
    size = done.cost.size_bytes or 0
    packed = "" if done.file_bytes == size else f"{done.file_bytes:,} bytes, unpacked "
    print(f"file      {file}  {packed}{size:,} bytes, {(done.cost.macs or 0) / 1e6:.2f} M MACs")
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
        width = max(map(len, report)) + 2
        for name, value in report.items():
            print(f"{name:<{width}}{value if not isinstance(value, bool) else 'yes' if value else 'NO'}")
    return int(not report["ok"])
