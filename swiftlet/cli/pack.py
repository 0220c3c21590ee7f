"""The container for the download: packed, unpacked, and tried with damaged copies."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from swiftlet.cli import options
from swiftlet.errors import BadInput

Packed = Annotated[Path, typer.Argument(help="A .swl container.")]


def pack(
    file: Annotated[Path, typer.Argument(help="An .onnx file, or tensors as .safetensors.")],
    out: Annotated[Path | None, typer.Option(help="Default: FILE with the suffix .swl.")] = None,
    json_: options.Json = False,
) -> int:
    """Entropy-code a file's weights, losslessly: a container with digests, for the download."""
    from swiftlet.files import write_atomically
    from swiftlet.pack.breakdown import breakdown
    from swiftlet.pack.files import SUFFIX, pack_file

    out = _target(file, out, SUFFIX)
    packed = pack_file(file)
    spent, before = breakdown(packed), file.stat().st_size
    write_atomically(out, packed)
    if json_:
        options.print_json({"file": out, "bytes": before, "packed_bytes": len(packed), "spent": asdict(spent)})
        return 0
    print(f"file      {out}  {len(packed):,} bytes, {before / len(packed):.2f} times smaller than {before:,}")
    print(f"spent     coded {spent.words:,} (entropy {spent.entropy:,.0f}), tables {spent.tables:,}, "
          f"not coded {spent.plain:,}, graph {spent.graph:,}, header {spent.header:,}")  # fmt: skip
    verb = "check" if file.suffix == ".onnx" else "unpack"
    print(f"next      {options.command()} {verb} {out}")
    return 0


def unpack(
    file: Packed,
    out: Annotated[Path | None, typer.Option(help="Default: FILE with the suffix of what is in it.")] = None,
    json_: options.Json = False,
) -> int:
    """Restore what was packed: the ONNX file to the bit, or the tensors."""
    from swiftlet.files import write_atomically
    from swiftlet.pack.files import unpack_file

    content, suffix = unpack_file(file)
    out = _target(file, out, suffix)
    if out.exists() and out.read_bytes() != content:
        raise BadInput(f"{out} is there and differs from what was packed; give another --out")
    write_atomically(out, content)
    if json_:
        options.print_json({"file": out, "bytes": len(content), "packed_bytes": file.stat().st_size})
        return 0
    print(f"file      {out}  {len(content):,} bytes, every digest right")
    if suffix == ".onnx":
        print(f"next      {options.command()} check {out}")
    return 0


def fuzz(
    file: Packed,
    n: Annotated[int, typer.Option("--n", help="Damaged copies.")] = 10_000,
    seed: options.Seed = 0,
    json_: options.Json = False,
) -> int:
    """Read damaged copies of a container: each must be refused with a code, or mean what it says, in bounded memory."""
    from swiftlet.pack.format import MAX_BYTES
    from swiftlet.pack.fuzz import fuzz as run
    from swiftlet.pack.reader import read_file
    from swiftlet.progress import bars

    data = read_file(file, MAX_BYTES)
    with bars() as progress:
        found = run(data, n=n, seed=seed, progress=progress)
    if json_:
        options.print_json(asdict(found))
        return int(bool(found.faults))
    print(f"mutants   {found.mutants:,} of {file}: {found.accepted:,} read, {sum(found.refused.values()):,} refused")
    for code, times in sorted(found.refused.items(), key=lambda pair: -pair[1]):
        print(f"          {times:>9,}  {code}")
    print(f"slowest   {1000 * found.slowest_seconds:.0f} ms")
    print(f"memory    at most {100 * found.peak_share:.0f} % of twice what is declared and 16 MiB")
    for fault in found.faults:
        print(f"FAULT     {fault}")
    return int(bool(found.faults))


def _target(file: Path, out: Path | None, suffix: str) -> Path:
    target = out or file.with_suffix(suffix)
    if target.exists() and file.exists() and target.samefile(file):
        raise BadInput(f"{target} is the input; give another --out")
    return target
