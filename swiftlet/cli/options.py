"""What the verbs share: options, their units, and how results are printed."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from swiftlet.budget import Budget
from swiftlet.errors import BadInput

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Photos = Annotated[
    Path | None,
    typer.Argument(help="A folder per class, an .npz file, or shards. Without: the built-in handwritten digits."),
]
MaxMs = Annotated[float | None, typer.Option(help="Limit: median milliseconds for one picture.")]
MaxKb = Annotated[float | None, typer.Option(help="Limit: kilobytes (1000 bytes) of the file.")]
MaxPackedKb = Annotated[float | None, typer.Option(help="Limit: kilobytes of the file as packed for the download.")]
MaxMmacs = Annotated[float | None, typer.Option(help="Limit: millions of multiply-adds for one picture.")]
MaxDrop = Annotated[float, typer.Option(help="Accuracy points that int8 may cost.")]
Minutes = Annotated[float, typer.Option(help="Time for everything, training included.")]
Threads = Annotated[int, typer.Option(help="Threads that the file runs on.")]
Seed = Annotated[int, typer.Option(help="Decides splits, initial weights and augmentation.")]
Normalize = Annotated[
    str | None,
    typer.Option(help="What a foreign file sees: 'MEAN STD', each 1 or 3 numbers in 0..255, comma-separated."),
]
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


PIPE_WIDTH = 160


def command() -> str:
    """How to call swiftlet in the next line: by its name if the shell finds this very one, else by its path."""
    called = Path(sys.argv[0])
    if shutil.which("swiftlet") == str(called.absolute()) or called.name != "swiftlet":
        return "swiftlet"
    return os.path.relpath(called)


def print_json(value: Any) -> None:
    print(json.dumps(value, default=str, allow_nan=False))


def print_table(table: Table) -> None:
    """Wider than the terminal rather than with numbers cut off; in a pipe there is no width to keep to.

    The first column may be folded, to no less than its min_width."""
    for column in table.columns[1:]:
        column.no_wrap, column.min_width = True, len(str(column.header))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    wanted = Measurement.get(console, console.options.update(max_width=1000), table)
    console.width = max(console.width, wanted.minimum)
    console.print(table)


def budget(
    max_ms: float | None,
    max_kb: float | None,
    max_mmacs: float | None,
    *,
    max_packed_kb: float | None = None,
    max_drop: float = 1.0,
    threads: int = 1,
    runtime: str = "onnxruntime",
) -> Budget:
    return Budget(
        latency_ms=max_ms,
        size_bytes=None if max_kb is None else round(max_kb * 1000),
        packed_bytes=None if max_packed_kb is None else round(max_packed_kb * 1000),
        macs=None if max_mmacs is None else round(max_mmacs * 1e6),
        max_drop=max_drop,
        threads=threads,
        runtime=runtime,
    )


def flags(max_ms: float | None, max_kb: float | None, max_mmacs: float | None) -> str:
    given = (("--max-ms", max_ms), ("--max-kb", max_kb), ("--max-mmacs", max_mmacs))
    return "".join(f"{flag} {value:g} " for flag, value in given if value is not None)


def arguments(given: list[str] | None) -> dict[str, Any]:
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


def quantity(text: str, units: dict[str, float], flag: str) -> float:
    """ "2ms" -> 2.0, "500KB" -> 500000.0."""
    for unit, scale in units.items():
        number = text.strip().lower().removesuffix(unit.lower())
        if number != text.strip().lower():
            try:
                return float(number) * scale
            except ValueError:
                break
    raise BadInput(f"{flag} {text}: write a number with its unit, {' or '.join(units)}")


def normalisation(text: str) -> Any:
    from swiftlet.data.contract import InputContract

    try:
        triples: Any = [[float(n) for n in part.split(",")] for part in text.split()]
        mean, std = (tuple(t * 3 if len(t) == 1 else t) for t in triples)
        return InputContract(side=224, mean=mean, std=std)
    except ValueError as error:
        raise BadInput(
            f"--normalize {text!r}: write mean and std, as in '127.5 127.5' or '124,116,104 58,57,57'"
        ) from error
