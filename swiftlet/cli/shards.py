"""Photos into tar shards, for sets that one disk or one memory does not hold."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from swiftlet.cli import options

SHOWN = 5  # files that were set aside


def shards(
    photos: Annotated[
        str, typer.Argument(help="A folder per class, an .npz file, tar files in WebDataset's form, or shards.")
    ],
    out: Annotated[Path, typer.Argument(help="An empty folder for the shards and their index.")],
    shard_mb: Annotated[float, typer.Option(help="Megabytes of a shard, at most.")] = 100.0,
    side: Annotated[
        int | None, typer.Option(help="Make larger pictures smaller: pixels of the short side. Without: kept as is.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Deals photos into splits, where they have none.")] = 0,
    json_: options.Json = False,
) -> int:
    """Pack photos into tar shards with an index: audited, split, without EXIF, GPS and other metadata."""
    from swiftlet.data.shards import make_shards
    from swiftlet.progress import bars

    with bars() as progress:
        made = make_shards(photos, out, shard_mb=shard_mb, side=side, seed=seed, progress=progress)
    if json_:
        options.print_json(asdict(made) | {"audit": made.audit.to_json()})
    else:
        show_made(asdict(made))
        print(f"next      {options.command()} train {made.folder}")
    return 0


def show_made(made: dict[str, Any]) -> None:
    split = ", ".join(f"{count:,} {name}" for name, count in made["pictures"].items())
    total = sum(made["pictures"].values())
    print(f"shards    {made['folder']}  {made['shards']:,} of {made['bytes'] / 1e6:,.1f} MB together")
    print(f"pictures  {total:,}: {split}")
    print(
        f"stored    {total - made['encoded']:,} with the very pixels of their files, {made['encoded']:,} encoded anew"
    )
    aside = made["set_aside"]
    for item in aside[:SHOWN]:
        print(f"set aside {item['key']}: {item['reason']}")
    if len(aside) > SHOWN:
        print(f"set aside {len(aside) - SHOWN:,} more, see {made['folder']}/manifest.jsonl")
    for note in made["audit"]["notes"]:
        print(f"note      {note}")
