"""Low-rank factorization: dense layers become chains of smaller ones.

factors.py has the chains, decompose.py their weights, ranks.py the choice of ranks, reconstruct.py the fit to images;
docs/factorize.md derives it all.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd

from swiftlet.budget import Cost
from swiftlet.compress.decompose import decompose
from swiftlet.compress.factors import METHODS, Layer, Places, Rank, build, check_rank, obstacle, parts
from swiftlet.compress.fold import is_training
from swiftlet.compress.ranks import Limited, Option, by_budget, by_energy, check_method, options
from swiftlet.compress.reconstruct import projected_bias, refit, responses, shrunk
from swiftlet.compress.record import Record
from swiftlet.compress.trace import trace
from swiftlet.cost.count import count_model
from swiftlet.errors import BadInput, NothingToDo


def factorize(
    model: nn.Module,
    example_shape: tuple[int, ...],
    *,
    method: str = "svd",
    energy: float | None = None,
    ranks: Mapping[str, Rank] | None = None,
    macs: int | None = None,
    params: int | None = None,
    batches: Iterable[Tensor] | None = None,
) -> tuple[fx.GraphModule, Record]:
    """Return a copy in which dense layers are chains of cheaper ones, by "svd", "spatial", "cp" or "tucker".

    `example_shape` is one image, (C, H, W). Exactly one of these says how far to go:

    - `energy`: each layer keeps at least this share, above 0 and up to 1, of its sum of squared weights, at the lowest
      cost that does;
    - `macs` or `params`: what the whole network may cost for one image, as count_model counts it. The layers share it
      such that the product of their energies is large (the objective of Zhang et al. 2015, arXiv:1505.06798);
    - `ranks`: {module path: rank}, for tucker (r_in, r_out); taken as they are, even if nothing is saved.

    Without `batches` the weights are approximated. With `batches` of (B, C, H, W) images, prepared as in training, the
    outputs of the layers are: for svd in closed form (there, section 3.1), and energy is that of the outputs; for the
    others the last layer of each chain is fitted. A chain then has a bias even if its layer had none.

    Skipped, with the reason, are layers with groups, layers with a kernel that the method does not split, and those of
    which no rank saves both multiply-adds and parameters. A chain of full rank gives what its layer did, up to
    rounding. Record.arguments hold what `rebuild` needs.
    Raises BadInput in training mode and for arguments that cannot be, Infeasible if even rank 1 everywhere exceeds the
    budget, NothingToDo if every layer stays.
    """
    if is_training(model):
        raise BadInput("factorize: call model.eval() first, batch statistics are still moving")
    check_method(method)
    _check_goal(energy=energy, ranks=ranks, macs=macs, params=params)
    new = trace(copy.deepcopy(model))
    layers, skipped = _candidates(new, method)
    chosen: dict[str, Rank] = {}
    if ranks is not None:
        chosen = {path: _given(path, rank, method, layers, skipped) for path, rank in ranks.items()}
        skipped |= {path: "no rank was given for it" for path in layers if path not in chosen}
        layers = {path: layers[path] for path in chosen}
    for path, layer in layers.items():
        if layer.weight.is_meta or not layer.weight.isfinite().all():
            raise BadInput(f"factorize: the weight of {path!r} is not made of finite numbers")
    cost, places = _count(new, layers, example_shape)
    seen: dict[str, tuple[Tensor, Tensor]] = {}  # mean and covariance of outputs
    if batches is not None and method == "svd" and layers:
        moments = responses(new, layers, example_shape, batches)
        seen = {path: shrunk(moments[path], layer.weight) for path, layer in layers.items()}
    found = {path: decompose(layer.weight, method, seen[path][1] if seen else None) for path, layer in layers.items()}
    if ranks is None:
        curves = {path: options(layer, method, found[path], places[path]) for path, layer in layers.items()}
        if energy is not None:
            picked = {path: by_energy(each, energy) for path, each in curves.items()}
        elif macs is not None:
            picked = _share(curves, cost, "macs", macs, 0)
        else:
            assert params is not None
            biases = sum(len(layer.weight) for layer in layers.values() if layer.bias is None and batches is not None)
            picked = _share(curves, cost, "params", params, biases)
        chosen = {path: rank for path, rank in picked.items() if not isinstance(rank, str)}
        skipped |= {path: reason for path, reason in picked.items() if isinstance(reason, str)}
    if not chosen:
        raise NothingToDo(f"factorize: no layer to take apart by {method!r}; skipped {tuple(skipped.items())}")

    chains: dict[str, list[nn.Module]] = {}
    for path, rank in chosen.items():
        layer = layers[path]
        weights, bias = found[path].weights(rank), layer.bias
        if seen:
            bias = projected_bias(seen[path][0], layer, weights[-1])
        elif batches is not None and bias is None:
            bias = torch.zeros(len(layer.weight))
        chains[path] = build(layer, parts(layer, method, rank), weights, bias)
    if batches is not None and not seen:
        refit(new, chains, example_shape, batches)
    for path, chain in chains.items():
        _substitute(new, path, chain)
    new.recompile()
    stored = {path: rank if isinstance(rank, int) else list(rank) for path, rank in chosen.items()}
    arguments: dict[str, object] = {"method": method, "ranks": stored, "bias": batches is not None}
    return new, Record(name="factorize", arguments=arguments, changed=tuple(chosen), skipped=tuple(skipped.items()))


def rebuild(model: nn.Module, record: Record) -> fx.GraphModule:
    """A copy of a fresh network with the structure that `factorize` gave to another of its kind.

    The weights of the chains are zero and wait to be loaded. Raises BadInput if the record is not one of factorize or
    does not fit this network.
    """
    ranks, method = record.arguments.get("ranks"), record.arguments.get("method")
    if record.name != "factorize" or not isinstance(ranks, dict) or method not in METHODS:
        raise BadInput(f"rebuild: a record {record.name!r} with arguments {record.arguments} is not one of factorize")
    new = trace(copy.deepcopy(model))
    layers, skipped = _candidates(new, str(method))
    for path, stored in ranks.items():
        rank = _given(path, stored, str(method), layers, skipped)
        layer = layers[path]
        chain = parts(layer, str(method), rank)
        bias = torch.zeros(len(layer.weight)) if record.arguments.get("bias") or layer.bias is not None else None
        _substitute(new, path, build(layer, chain, [torch.zeros(part.weight) for part in chain], bias))
    new.recompile()
    return new


def _check_goal(**goals: Any) -> None:
    given = [name for name, value in goals.items() if value is not None]
    if len(given) != 1:
        raise BadInput(f"factorize: give exactly one of {', '.join(goals)}; got {', '.join(given) or 'none'}")
    name, value = given[0], goals[given[0]]
    if name == "ranks":
        fine, wanted = isinstance(value, Mapping) and len(value) > 0, "{module path: rank}"
    elif name == "energy":
        fine, wanted = isinstance(value, int | float) and 0 < value <= 1, "a share above 0 and up to 1"
    else:
        fine, wanted = type(value) is int and value > 0, "a whole number above 0"
    if not fine:
        raise BadInput(f"factorize: {name}={value!r}; give {wanted}")


def _candidates(traced: fx.GraphModule, method: str) -> tuple[dict[str, Layer], dict[str, str]]:
    """The layers that the method can take apart, and why it cannot the others."""
    calls = [node for node in traced.graph.nodes if node.op == "call_module"]
    plain = {node.target for node in calls if len(node.args) == 1 and not node.kwargs}
    odd = {node.target for node in calls} - plain
    odd |= {str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"}
    owners = Counter(id(p) for module in traced.modules() for p in module.parameters(recurse=False))
    layers: dict[str, Layer] = {}
    skipped: dict[str, str] = {}
    for path, layer in traced.named_modules():
        if not isinstance(layer, _ConvNd | nn.Linear):
            continue
        reason = obstacle(layer, method)
        if reason is None and (path in odd or path not in plain):
            reason = "something other than a plain call of the layer uses it"
        if reason is None and owners[id(layer.weight)] > 1:
            reason = "it shares its weight with another layer"
        if reason is not None or not isinstance(layer, Layer):
            skipped[path] = reason or ""
        else:
            layers[path] = layer
    return layers, skipped


def _given(path: str, rank: Any, method: str, layers: Mapping[str, Layer], skipped: Mapping[str, str]) -> Rank:
    if path not in layers:
        reason = skipped.get(path, f"there is no such layer; there are {', '.join(layers) or 'none'}")
        raise BadInput(f"factorize: {path!r} cannot be taken apart by {method!r}: {reason}")
    return check_rank(layers[path], method, rank, path)


def _count(
    traced: fx.GraphModule, layers: Mapping[str, Layer], shape: tuple[int, ...]
) -> tuple[Cost, dict[str, Places]]:
    """What the network costs, and where the layers work: counting calls every layer, with shapes and no values."""
    places = dict.fromkeys(layers, Places())

    def watch(path: str) -> Any:
        def hook(layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            places[path] = places[path].seen(layer, inputs[0], output)

        return hook

    handles = [layer.register_forward_hook(watch(path)) for path, layer in layers.items()]
    try:
        cost = count_model(traced, shape).cost
    finally:
        for handle in handles:
            handle.remove()
    return cost, places


def _share(
    curves: Mapping[str, Sequence[Option]], cost: Cost, limited: Limited, limit: int, new: int
) -> dict[str, Rank | str]:
    """Ranks with which the network, plus what is new in it, keeps to the budget, or why a layer stays."""
    spent = getattr(cost, limited)
    if spent <= limit:
        raise NothingToDo(f"factorize: the network has {spent:,} {limited}, within the budget of {limit:,} already")
    fixed = new + spent - sum(getattr(each[-1], limited) for each in curves.values())
    chosen = by_budget(curves, limit, limited, fixed)
    return {path: o.rank if o.rank is not None else "the budget is met with it as it is" for path, o in chosen.items()}


def _substitute(traced: fx.GraphModule, path: str, chain: Sequence[nn.Module]) -> None:
    """In place: the chain is called wherever the layer was; its parts are PATH.0, PATH.1 and so on."""
    traced.set_submodule(path, nn.Sequential(*chain).train(chain[0].training))
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and node.target == path:
            with traced.graph.inserting_before(node):
                x = node.args[0]
                for i in range(len(chain)):
                    x = traced.graph.call_module(f"{path}.{i}", (x,))
            node.replace_all_uses_with(x)
            traced.graph.erase_node(node)
