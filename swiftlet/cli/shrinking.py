"""Shrinking a trained network, and the ladder that it went down."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from swiftlet.cli import options


def shrink(
    source: Annotated[
        Path,
        typer.Argument(
            help="A run of fit or train, a .safetensors file, or a float32 ONNX file, foreign or packed too."
        ),
    ],
    photos: options.Photos = None,
    max_ms: options.MaxMs = None,
    max_kb: options.MaxKb = None,
    max_packed_kb: options.MaxPackedKb = None,
    max_mmacs: options.MaxMmacs = None,
    max_drop: Annotated[float, typer.Option(help="Accuracy points that it may cost.")] = 1.0,
    minutes: options.Minutes = 10.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/NAME-shrunk. The same folder resumes.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Deals the photos, as in the run that trained; default: its own.")
    ] = None,
    normalize: options.Normalize = None,
    json_: options.Json = False,
) -> int:
    """Quantize, prune and teach a trained network until it fits, or for as long as it holds its accuracy; also to do
    with smaller pictures, if that saves time."""
    from swiftlet.progress import bars
    from swiftlet.shrinking.verb import shrink as run

    budget = options.budget(max_ms, max_kb, max_mmacs, max_packed_kb=max_packed_kb, max_drop=max_drop)
    contract = None if normalize is None else options.normalisation(normalize)
    with bars(minutes=minutes) as progress:
        result = run(source, photos, budget, minutes=minutes, out=out, seed=seed, contract=contract, progress=progress)
    if json_:
        options.print_json(asdict(result))
    else:
        show_shrunk(asdict(result))
        print(f"next      {options.command()} check {result.file}{f' {photos}' if photos else ''}")
    return int(bool(result.over))


def show_shrunk(result: dict[str, Any]) -> None:
    """The ladder, and the last screen."""
    table = Table(box=None, header_style="bold")
    for i, title in enumerate(("step", "accuracy", "drop", "M MACs", "KB", "packed KB", "ms", "")):
        table.add_column(title, justify="left" if i in (0, 7) else "right", overflow="fold")
    for rung in result["ladder"]:
        table.add_row(
            *(rung["step"], f"{100 * rung['accuracy']:.2f} %", f"{rung['drop']:.2f}", f"{rung['macs'] / 1e6:.2f}"),
            *(f"{rung['size_bytes'] / 1000:.1f}", f"{rung['packed_bytes'] / 1000:.1f}", f"{rung['p50_ms']:.3f}"),
            f"undone: {rung['undone']}" if rung["undone"] else "delivered" if rung["delivered"] else "",
        )
    options.print_table(table)
    low, high = (100 * end for end in result["interval"])
    cost = 100 * (result["parent_accuracy"] - result["accuracy"])
    times, smaller = result["parent_ms"] / result["p50_ms"], result["parent_bytes"] / result["size_bytes"]
    over, kb = "; ".join(map(" ".join, result["over"].items())), result["size_bytes"] / 1000
    print(f"\nfile      {result['file']}  {result['network']}, {result['precision']}, {kb:.1f} KB")
    print(f"packed    {result['packed']}  {result['packed_bytes'] / 1000:.1f} KB for the download")
    print(
        f"accuracy  {100 * result['accuracy']:.2f} % (95 % {low:.1f} to {high:.1f}) on {result['n']} "
        f"sealed test photos, {cost:+.2f} points below what came in"
    )
    print(f"gain      {smaller:.1f} x smaller, {times:.2f} x as fast: p50 {result['p50_ms']:.3f} ms")
    print(f"report    {result['report']}")
    print(f"budget    {'OVER: ' + over if over else 'met'}")
    for note in result["notes"]:
        print(f"note      {note}")
    print(f"machine   {result['machine']}; {result['seconds']:.0f} s in all")
