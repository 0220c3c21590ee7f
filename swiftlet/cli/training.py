"""One network by one recipe, on this machine or, started by torchrun, on many."""

import os
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from swiftlet.cli import options


def train(
    photos: Annotated[
        str | None, typer.Argument(help="As for fit, or shards, also at an address: s3://bucket/shards.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A network of the zoo, or trained weights to start from: timm/NAME or a file.")
    ] = "mobilenet_v2",
    arguments: options.Arguments = None,
    side: Annotated[int | None, typer.Option(help="Side of the input; default: what suits photos or weights.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe by name; default: what suits photos and time.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A field of the recipe, as in --set batch=256; or, for torchrun, accumulate=4, compress=bf16 (or "
            "powersgd), sync_bn=true. Repeatable.",
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="How often every photo is shown; default: the recipe's.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Instead of epochs: as many steps as these hold.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. The same folder resumes.")] = None,
    seed: options.Seed = 0,
    json_: options.Json = False,
) -> int:
    """Train one network by one recipe; the same command goes on. Under torchrun, on many machines."""
    from swiftlet.progress import bars
    from swiftlet.training import train as run

    changes = options.arguments(settings)
    beside = {name: changes.pop(name) for name in ("accumulate", "compress", "sync_bn") if name in changes}
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, one tells the story
    with bars() if first else nullcontext() as progress:
        result = run(
            photos,
            model=model,
            arguments=options.arguments(arguments),
            side=side,
            recipe=recipe,
            changes=changes,
            epochs=epochs,
            minutes=minutes,
            out=out,
            seed=seed,
            progress=progress,
            **beside,
        )
    if first and json_:
        options.print_json(asdict(result))
    elif first:
        show_trained(asdict(result))
        local = f" {photos}" if photos and "://" not in photos else ""
        print(f"next      {options.command()} check {result.file}{local}")
    return 0


def show_trained(result: dict[str, Any]) -> None:
    low, high = (100 * end for end in result["interval"])
    print(f"file      {result['file']}  {result['network']}, float32, {result['size_bytes'] / 1000:.1f} KB")
    print(f"weights   {result['weights']}, for create_model(..., pretrained=...)")
    print(
        f"accuracy  {100 * result['accuracy']:.2f} % (95 % {low:.1f} to {high:.1f}) on {result['n']} "
        "validation photos; the test photos stay sealed"
    )
    if result["started_from"]:
        print("from      {source}, licence {licence}".format(**result["started_from"]))
    pieces = f", batches in {result['accumulate']} pieces" if result["accumulate"] > 1 else ""
    print(f"engine    {result['engine']}{pieces}")
    print(
        f"recipe    {result['recipe']}, {result['epochs']:g} epochs, {result['steps']} steps, "
        f"{result['processes']} {'process' if result['processes'] == 1 else 'processes'}, {result['seconds']:.0f} s"
    )
