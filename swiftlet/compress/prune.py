"""Structured pruning: whole channels go, and what is left is a smaller network of plain layers."""

import copy
import operator
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn

from swiftlet.compress.channels import Channels, Narrow
from swiftlet.compress.families import Family, families, fit
from swiftlet.compress.importance import Importance, importances
from swiftlet.compress.record import Record
from swiftlet.compress.trace import trace
from swiftlet.cost.count import count_model
from swiftlet.errors import BadInput, Infeasible, NothingToDo

Scope = Literal["uniform", "global"]
Measure = Callable[[nn.Module], float]
PROBES = 10  # of the bisection in prune_to, which finds keep to 1/1024


def prune_channels(
    model: nn.Module,
    example_shape: Sequence[int],
    *,
    keep: float,
    importance: Importance = "l2",
    scope: Scope = "uniform",
    round_to: int = 1,
    seed: int = 0,
    scores: Mapping[str, Tensor] | None = None,
) -> tuple[fx.GraphModule, Record]:
    """Return a copy without the least important output channels of its convolutions and hidden Linear layers.

    The copy gives what the original would if the removed channels were zero for every layer that reads them.
    `example_shape` is one image's (C, H, W), in front of a Flatten the only one that the network takes. Channels that
    are added or multiplied, or pass a depthwise convolution, go together; grouped convolutions keep equal groups;
    chunks, shuffles and slices cut where they must. The image and the network's results keep their channels. What may
    mix channels in a way that is not known (response and layer normalisation, softmax, matrix products) keeps them too;
    the record names the layers that kept all channels, and why.

    `keep` in (0, 1] is the share that stays: of each layer ("uniform"), or of all channels that can go, whichever they
    are ("global"). For `importance` and `scores` see `importances`. Widths are rounded to multiples of `round_to`, at
    least one; a narrower layer stays. Layers that a chunk, a shuffle or a group ties to each other keep one share, the
    nearest to `keep` for which the remaining channels still go where they went.

    The record's "kept" lists, for the layer that first makes them, the channels that stayed: enough to do the same to
    a fresh network (`rebuild`). BatchNorm's statistics do not fit the narrower network: recalibrate them.
    Raises BadInput for a bad argument or a network that cannot take the image, NothingToDo if no channel goes.
    """
    if not (isinstance(keep, int | float) and 0 < keep <= 1):
        raise BadInput(f"prune_channels: keep={keep!r} must be above 0 and at most 1")
    if not (type(round_to) is int and round_to >= 1):
        raise BadInput(f"prune_channels: round_to={round_to!r} must be a whole number, 1 or more")
    for name, value, known in (("importance", importance, Importance), ("scope", scope, Scope)):
        if value not in get_args(known):
            raise BadInput(f"prune_channels: {name}={value!r} must be {' or '.join(map(repr, get_args(known)))}")
    return _Pruner(model, example_shape, importance, seed, scores).prune(keep, scope, round_to)


def prune_to(
    model: nn.Module,
    example_shape: Sequence[int],
    *,
    macs: int | None = None,
    params: int | None = None,
    limit: float | None = None,
    measure: Measure | None = None,
    importance: Importance = "l2",
    scope: Scope = "uniform",
    round_to: int = 1,
    seed: int = 0,
    scores: Mapping[str, Tensor] | None = None,
) -> tuple[fx.GraphModule, Record]:
    """As prune_channels, with the largest `keep` that meets one limit: `macs` or `params` of one image, as count_model
    counts them, or `limit` in the unit of what `measure` says of a network (its milliseconds, the bytes of its file).

    Raises BadInput unless exactly one limit is given, NothingToDo if the network is within it already, Infeasible if no
    narrower one is, naming the smallest.
    """
    cost_of, most = _goal(example_shape, macs, params, limit, measure)
    pruner, whole = _Pruner(model, example_shape, importance, seed, scores), cost_of(model)
    if whole <= most:
        raise NothingToDo(f"prune_to: the network has {whole:,}, which is within the limit of {most:,} already")
    best: tuple[fx.GraphModule, Record] | None = None
    low, high, least = 0.0, 1.0, whole
    for _ in range(PROBES):
        keep = (low + high) / 2
        try:
            tried = pruner.prune(keep, scope, round_to)
        except NothingToDo:  # so little is to go that rounding takes it back
            high = keep
            continue
        cost = cost_of(tried[0])
        least = min(least, cost)
        if cost <= most:
            best, low = tried, keep
        else:
            high = keep
    if best is None:
        raise Infeasible(f"prune_to: no narrower network is within {most:,}; the smallest has {least:,}")
    return best


def rebuild(model: nn.Module, record: Record) -> fx.GraphModule:
    """Remove from a fresh network the channels that prune_channels has removed according to its record.

    Raises BadInput if the record does not fit the network.
    """
    shape, kept = record.arguments.get("example_shape"), record.arguments.get("kept")
    if not (isinstance(shape, list | tuple) and isinstance(kept, dict)):
        raise BadInput("prune_channels: the record needs 'example_shape', [C, H, W], and 'kept', {path: rows}")
    channels = Channels(trace(model), shape)
    gone = _read_kept(channels, kept)
    narrow = Narrow(channels, channels.signatures.keys() - gone)
    scores = {number: float(number not in gone) for number in channels.signatures}
    taken = _take(channels, narrow, scores)
    if narrow.misfits() or not gone.isdisjoint(taken.values()) or not gone.isdisjoint(channels.fixed):
        raise BadInput("prune_channels: the record's channels do not fit this network; it is of another one")
    return _cut_out(channels, narrow, taken)[0]


class _Pruner:
    """What does not change from one `keep` to the next."""

    def __init__(
        self,
        model: nn.Module,
        example_shape: Sequence[int],
        importance: Importance,
        seed: int,
        scores: Mapping[str, Tensor] | None,
    ) -> None:
        self.arguments = {"example_shape": list(example_shape), "importance": importance, "seed": seed}
        self.channels = Channels(trace(model), example_shape)
        self.scores = importances(self.channels, importance, seed, scores)
        self.families = families(self.channels)
        self.reasons = {family: _why_whole(family, self.channels, self.scores) for family in self.families}

    def prune(self, keep: float, scope: Scope, round_to: int) -> tuple[fx.GraphModule, Record]:
        channels, reasons = self.channels, dict(self.reasons)
        shares = _shares([family for family in self.families if not reasons[family]], keep, scope, self.scores)
        narrow = fit(channels, [(family, shares.get(family)) for family in self.families], round_to)
        taken = _take(channels, narrow, self.scores)
        gone = channels.signatures.keys() - set(taken.values())
        reasons |= {
            family: f"its width at keep={keep} rounds to all, or no narrower one suits what follows"
            for family in shares
        }
        skipped = _kept_whole(channels, gone, {n: reasons[family] for family in self.families for n in family.channels})
        if not gone:
            why = "; ".join(dict.fromkeys(reason for _, reason in skipped)) or "there is no Conv2d and no Linear in it"
            raise NothingToDo(f"prune_channels: no channel goes at keep={keep}; layers keep theirs because: {why}")
        new, changed = _cut_out(channels, narrow, taken)
        chosen = {"keep": keep, "scope": scope, "round_to": round_to, "kept": _kept(channels, gone)}
        return new, Record(
            name="prune_channels", arguments={**self.arguments, **chosen}, changed=changed, skipped=skipped
        )


def _goal(
    shape: Sequence[int], macs: int | None, params: int | None, limit: float | None, measure: Measure | None
) -> tuple[Measure, float]:
    """What to measure, and how much of it is allowed."""
    given = [value for value in (macs, params, limit) if value is not None]
    if len(given) != 1 or (limit is None) != (measure is None):
        raise BadInput("prune_to: give one of macs, params, and limit with measure")
    if measure is not None:
        return measure, given[0]

    def counted(network: nn.Module) -> float:
        cost = count_model(network, tuple(shape)).cost
        return (cost.macs if params is None else cost.params) or 0

    return counted, given[0]


# --- choosing -------------------------------------------------------------------------------------------------------


def _why_whole(family: Family, channels: Channels, scores: dict[int, float]) -> str:
    """Why none of these channels can go, if so."""
    for number in family.channels:
        if number in channels.fixed:
            return channels.fixed[number]
        if number not in scores:
            return "no layer says how important its channels are"
    return ""


def _shares(found: list[Family], keep: float, scope: str, scores: dict[int, float]) -> dict[Family, float]:
    """What share of each family stays."""
    if scope == "uniform":
        return dict.fromkeys(found, keep)
    ranked = sorted((number for family in found for number in family.channels), key=lambda n: -scores[n])
    stay = set(ranked[: round(keep * len(ranked))])
    return {family: sum(number in stay for number in family.channels) / len(family.channels) for family in found}


def _take(channels: Channels, narrow: Narrow, scores: dict[int, float]) -> dict[int, int]:
    """For each place the channel that takes it: of those that went where it goes, the most important."""
    there = defaultdict[Any, list[int]](list)
    for number, keys in sorted(channels.signatures.items()):
        there[keys].append(number)
    places = defaultdict[Any, list[int]](list)
    for place, keys in sorted(narrow.signatures.items()):
        places[keys].append(place)
    taken: dict[int, int] = {}
    for keys, free in places.items():
        best = sorted(there[keys], key=lambda number: -scores.get(number, 0.0))[: len(free)]
        taken |= dict(zip(free, sorted(best), strict=False))
    return taken


def _kept_whole(channels: Channels, gone: set[int], reason_of: dict[int, str]) -> tuple[tuple[str, str], ...]:
    """The layers that make as many channels as before, and why."""
    whole = {path: rows for path, rows in channels.rows().items() if gone.isdisjoint(rows)}
    makers = {node.target for node in channels.makes}
    return tuple((path, reason_of[rows[0]]) for path, rows in whole.items() if path in makers)


def _kept(channels: Channels, gone: set[int]) -> dict[str, str]:
    """For the layers that are the first to make a channel that is gone, the rows that stayed, as in "0-6,9"."""
    kept: dict[str, str] = {}
    for path, rows in channels.made_by().items():
        if not gone.isdisjoint(rows):
            kept[path] = _ranges(sorted(row for number, row in rows.items() if number not in gone))
    return kept


def _ranges(rows: list[int]) -> str:
    known = set(rows)
    starts = [row for row in rows if row - 1 not in known]
    ends = [row for row in rows if row + 1 not in known]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _read_kept(channels: Channels, kept: dict[str, Any]) -> set[int]:
    """The channels that are gone."""
    made = channels.made_by()
    gone: set[int] = set()
    for path, text in kept.items():
        if path not in made:
            raise BadInput(f"prune_channels: the record names {path!r}, which makes no channels in this network")
        top = max(made[path].values())
        stay: set[int] = set()
        for part in str(text).split(","):
            if not (found := re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)):
                raise BadInput(f"prune_channels: the record's {path!r} has {part!r}, which is no range of rows")
            first, last = int(found[1]), int(found[2] or found[1])
            if not first <= last <= top:
                raise BadInput(f"prune_channels: the record's {path!r} has rows {part!r} of 0 to {top}")
            stay.update(range(first, last + 1))
        gone |= {number for number, row in made[path].items() if row not in stay}
    return gone


# --- cutting --------------------------------------------------------------------------------------------------------


def _cut_out(channels: Channels, narrow: Narrow, taken: dict[int, int]) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """A copy whose layers have the rows and columns of the channels that stayed; the paths of those that changed."""
    new = copy.deepcopy(channels.traced)
    changed: dict[str, None] = {}
    for node, before in channels.reads.items():
        layer: Any = new.get_submodule(node.target)
        after = [taken[place] for place in narrow.reads[node]]
        columns = _positions(
            [*zip(before, channels.strands[node], strict=True)], [*zip(after, narrow.strands[node], strict=True)]
        )
        made = channels.makes.get(node, [])
        rows = _positions(made, [taken[place] for place in narrow.makes.get(node, [])])
        if node.target in changed or (len(columns) == len(before) and len(rows) == len(made)):
            continue
        changed[node.target] = None
        if isinstance(layer, nn.Linear):
            layer.in_features, layer.out_features = len(columns), len(rows)
            _keep_rows(layer, rows)
            layer.weight = _parameter(layer.weight, layer.weight[:, columns])
        elif isinstance(layer, nn.Conv2d) and made:
            layer.in_channels, layer.out_channels = len(columns), len(rows)
            _keep_rows(layer, rows)
            layer.weight = _parameter(
                layer.weight, _columns_of_groups(layer.weight, columns, len(before), layer.groups)
            )
        elif isinstance(layer, nn.Conv2d):  # depthwise
            times = layer.out_channels // layer.in_channels
            layer.groups = layer.in_channels = len(columns)
            layer.out_channels = times * len(columns)
            _keep_rows(layer, [times * column + i for column in columns for i in range(times)])
        else:
            size = "num_features" if hasattr(layer, "num_features") else "num_parameters"
            setattr(layer, size, len(columns))
            _keep_rows(layer, columns)
    nodes = {node.name: node for node in new.graph.nodes}
    for node, lengths in narrow.cuts.items():
        _resize_cut(nodes[node.name], channels.pieces[node], lengths)
    new.recompile()
    return new, tuple(changed)


def _positions(before: Iterable[Any], after: Iterable[Any]) -> list[int]:
    """Where the channels of `after` are in `before`; one that occurs often (flattened pixels do) is taken in order."""
    places = defaultdict[Any, deque[int]](deque)
    for position, channel in enumerate(before):
        places[channel].append(position)
    return [places[channel].popleft() for channel in after]


def _keep_rows(layer: nn.Module, rows: list[int]) -> None:
    for name, parameter in list(layer.named_parameters(recurse=False)):
        setattr(layer, name, _parameter(parameter, parameter[rows]))
    for name, buffer in list(layer.named_buffers(recurse=False)):
        if buffer.ndim:  # not the counter of batches
            setattr(layer, name, buffer[rows].clone())


def _parameter(old: Tensor, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), old.requires_grad)


def _columns_of_groups(weight: Tensor, columns: list[int], before: int, groups: int) -> Tensor:
    """Of each group's rows (they are the kept ones already) the columns that the group still reads."""
    width = before // groups
    local = torch.tensor(columns).view(groups, -1) % width
    rows = weight.view(groups, -1, *weight.shape[1:])
    return torch.cat([part[:, index] for part, index in zip(rows, local, strict=True)])


def _resize_cut(node: Any, before: list[list[int]], lengths: list[int]) -> None:
    """A slice or a split with these numbers of channels."""
    if lengths == [len(piece) for piece in before]:
        return
    x = node.args[0]
    if node.target is operator.getitem:
        start, length = lengths
        node.args = (x, (node.args[1][0], slice(start, start + length), *node.args[1][2:]))
    else:
        node.args, node.kwargs = (x, lengths, 1), {}
