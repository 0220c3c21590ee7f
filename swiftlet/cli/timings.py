"""What `swiftlet time` prints."""

from functools import singledispatch

from rich.table import Table

from swiftlet.cli import options
from swiftlet.runtime.machine import machine
from swiftlet.timing import LayerTimes, PhotoTimes, Timed
from swiftlet.timing.files import place_name

MOST_LAYERS = 25  # the others waste less; --json has them all


@singledispatch
def show(found: object) -> None:
    raise TypeError(f"nothing is printed for {type(found).__name__}")


@show.register
def _(found: Timed) -> None:
    table = _table("file", "runtime", "threads", "precision", "p50 ms", "95 %", "p90 ms", "n", "roofline", "")
    for row in found.rows:
        m = row.measurement
        low, high = m.interval_ms
        limit = "not measured" if row.bound is None else f"{100 * (row.roofline or 0):.0f} % ({row.bound.binds})"
        table.add_row(
            *(str(row.entry.file), m.runtime, str(m.threads), row.entry.precision),
            *(f"{m.p50_ms:.4g}", f"{low:.4g} to {high:.4g}", f"{m.p90_ms:.4g}", str(m.n), limit),
            "" if m.stable else "wide interval",
        )
    options.print_table(table)
    print(f"\n{found.verdict}")
    for dropped in found.dropped:
        print(f"dropped   {dropped.entry}: {dropped.reason}")
    for note in found.notes:
        print(f"note      {note}")
    for place, known in found.ceilings.items():
        rates = f"{known.float32:.0f} float32, {known.bfloat16:.0f} bfloat16, {known.int8:.0f} int8 GFLOP/s"
        print(f"ceilings  {rates}, memory {known.memory_gbs:.1f} GB/s, {place_name(place)}")
    print(f"load      {_known(found.before.load)} before, {_known(found.after.load)} after, 1-minute average")
    print(f"machine   {machine()}")


@show.register
def _(found: LayerTimes) -> None:
    table = _table("layer", "op", "M MACs", "ms", "share", "GFLOP/s", "ceiling", "lost ms")
    for row in found.rows[:MOST_LAYERS]:
        table.add_row(
            *(row.name, row.op, f"{row.macs / 1e6:.2f}", f"{row.ms:.3f}", f"{100 * row.share:.1f} %"),
            *(f"{row.gflops:.1f}", f"{100 * row.bound_ms / row.ms:.0f} % ({row.binds})", f"{row.waste_ms:.3f}"),
        )
    options.print_table(table)
    if len(found.rows) > MOST_LAYERS:
        print(f"and {len(found.rows) - MOST_LAYERS} layers that lose less; --json has them")
    own = sum(operation.ms for operation in found.own)
    print(f"\ntotal     {found.total_ms:.3f} ms with the profiler, which slows small operations down")
    print(
        f"own       {own:.3f} ms in {len(found.own)} operations of {found.entry.runtime} itself: reordering, quantizing"
    )
    print(f"joined    {found.joined_macs / 1e6:.1f} of {found.macs / 1e6:.1f} M MACs have a time")
    print(f"fused     {found.fused} layers without MACs have no operation of their own")
    if found.unjoined:
        print(f"unjoined  {', '.join(found.unjoined)}")
    for note in found.notes:
        print(f"note      {note}")
    print(f"machine   {machine()}")


@show.register
def _(found: PhotoTimes) -> None:
    table = _table("", "p50 ms", "p90 ms", "share")
    for name, stage in (*found.stages.items(), ("total", found.total)):
        table.add_row(name, f"{stage.p50_ms:.3f}", f"{stage.p90_ms:.3f}", f"{100 * stage.share:.1f} %")
    options.print_table(table)
    aside = f"; {found.set_aside} files set aside" if found.set_aside else ""
    print(f"\n{found.photos} photos of {found.pixels / 1e6:.2f} megapixels (median){aside}")
    print(f"{found.entry}, {found.entry.precision}")
    for note in found.notes:
        print(f"note      {note}")
    print(f"machine   {machine()}")


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold")
    for i, title in enumerate(titles):
        table.add_column(title, justify="left" if i < 2 else "right", overflow="fold")
    return table


def _known(load: float | None) -> str:
    return "unknown" if load is None else f"{load:.2f}"
