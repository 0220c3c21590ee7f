"""Unstructured pruning: single weights become zero, by their magnitude, and stay zero while the network is trained on.

No runtime here is faster for it. What shrinks is the file, once its weights are stored sparse and entropy-coded.
Magnitude pruning: Han et al. 2015, arXiv:1506.02626. Gradual: Zhu and Gupta 2017, arXiv:1710.01878.
"""

import copy
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import (
    ParametrizationList,
    is_parametrized,
    register_parametrization,
    remove_parametrizations,
)

from swiftlet.compress.record import Record
from swiftlet.errors import BadInput, NothingToDo

Scope = Literal["global", "layer", "lamp"]
Skipped = tuple[tuple[str, str], ...]


class Mask(nn.Module):
    """A parametrization: the weight with its pruned places at zero, where no gradient reaches it. Any shape, kept."""

    pruned: Tensor  # bool

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("pruned", torch.zeros_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return weight.masked_fill(self.pruned, 0)  # times 0 would leave some of them at -0


def copied(model: nn.Module) -> nn.Module:
    """A deep copy whose parametrizations can be changed. PyTorch's shares its classes with the original, and a tensor
    with a parametrization is a property of the class: taken out of the one, it would be gone from the other."""
    new = copy.deepcopy(model)
    for module in new.modules():
        if is_parametrized(module):
            kind = type(module)
            module.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))
    return new


def weighted(model: nn.Module) -> tuple[dict[str, nn.Module], Skipped]:
    """The layers with a `weight` of two or more dimensions by path; and what is left out: a weight that several layers
    have together, and parameters as large that go by another name, as an LSTM's do.

    A weight with a parametrization counts with what that gives.
    """
    found: dict[str, nn.Module] = {}
    owners: dict[int, list[str]] = {}
    skipped: list[tuple[str, str]] = []
    for path, module in model.named_modules():
        if isinstance(module, ParametrizationList):
            continue
        others = [own for own, p in module.named_parameters(recurse=False) if own != "weight" and p.ndim >= 2]
        skipped += [(path, f"its {own} is not named weight") for own in others]
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 2:
            found[path] = module
            owner = weight if not is_parametrized(module, "weight") else module
            owners.setdefault(id(owner), []).append(path)
    for first, *rest in owners.values():
        for path in (first, *rest) if rest else ():
            skipped.append((path, f"its weight is also that of {rest[0] if path == first else first}"))
            del found[path]
    return found, tuple(skipped)


def masked(model: nn.Module) -> nn.Module:
    """A copy in which every weight of two or more dimensions has a mask, so far without effect.

    Weights that have one keep theirs. It trains as any network; `finished` takes the masks out. Raises NothingToDo
    without such a weight, BadInput if one has another parametrization.
    """
    new = copied(model)
    layers, skipped = weighted(new)
    if not layers:
        raise NothingToDo(f"masked: no weight of two or more dimensions; skipped {skipped}")
    for path, layer in layers.items():
        if not is_parametrized(layer, "weight"):
            register_parametrization(layer, "weight", Mask(layer.weight))  # type: ignore[arg-type]
        elif not isinstance(_mask(layer), Mask):
            raise BadInput(f"masked: the weight of {path!r} has a parametrization already; finish that first")
    return new


def sparsify(
    model: nn.Module, sparsity: float | Mapping[str, float], *, scope: Scope = "global", keep: Collection[str] = ()
) -> tuple[nn.Module, Record]:
    """Return a copy in which the smallest weights are zero, and stay so in training; `finished` makes it a plain one.

    sparsity: the share of zeros, 0 to 1. Weights are ranked over all layers together ("global"), within each ("layer"),
    or over all by their LAMP score, the square over the sum of all squares in the layer that are not smaller ("lamp",
    Lee et al. 2021, arXiv:2010.07611). A mapping gives the sparsity of each layer by its path, with scope "layer"; the
    others stay as they are, and so do the layers in `keep`. What was pruned before stays pruned, so a network can go
    through here again and again, with training in between. Weights of fewer than two dimensions are left alone.

    Any error of the outputs is possible: prune a little, and train on. Raises BadInput; NothingToDo if as much is
    pruned already.
    """
    if scope not in get_args(Scope):
        raise BadInput(f"sparsify: scope={scope!r}, needs one of {', '.join(get_args(Scope))}")
    if isinstance(sparsity, Mapping) and scope != "layer":
        raise BadInput(f"sparsify: a sparsity for each layer goes with scope='layer', not {scope!r}")
    new = masked(model)
    layers, skipped = weighted(new)
    named = {*sparsity, *keep} if isinstance(sparsity, Mapping) else {*keep}
    for path in sorted(named - layers.keys()):
        raise BadInput(f"sparsify: no layer {path!r} with a weight of its own; there are {', '.join(layers)}")
    before = {path: _zeros(layer) for path, layer in layers.items()}
    chosen = {path: layer for path, layer in layers.items() if path not in keep}
    skipped += tuple((path, "kept as it is, as asked") for path in layers if path in keep)
    if isinstance(sparsity, Mapping):
        skipped += tuple((path, "no sparsity is given for it") for path in chosen if path not in sparsity)
        for path, layer in chosen.items():
            if path in sparsity:
                _prune([layer], sparsity[path], scope)
    elif scope == "layer":
        for layer in chosen.values():
            _prune([layer], sparsity, scope)
    else:
        _prune(list(chosen.values()), sparsity, scope)
    changed = tuple(path for path, layer in layers.items() if _zeros(layer) > before[path])
    if not changed:
        raise NothingToDo(f"sparsify: no weight more to prune at sparsity {sparsity}; skipped {skipped}")
    plain = dict(sparsity) if isinstance(sparsity, Mapping) else sparsity
    arguments: dict[str, object] = {"sparsity": plain, "scope": scope, "keep": sorted(keep)}
    return new, Record(name="sparsify", arguments=arguments, changed=changed, skipped=skipped)


def sparsify_n_m(model: nn.Module, n: int, m: int, *, keep: Collection[str] = ()) -> tuple[nn.Module, Record]:
    """Return a masked copy with at most n weights of every m left: those of m input channels next to each other.

    What sparse tensor cores compute with (2:4), and a file with cheap indices: log2(m choose n) bits for m weights.
    On all other devices it is no faster. Layers whose input channels (in a group) are not a multiple of m are skipped.
    Raises BadInput unless 0 < n < m, NothingToDo if no layer fits.
    """
    if not 0 < n < m:
        raise BadInput(f"sparsify_n_m: keeps n={n} of m={m} weights, needs 0 < n < m")
    new = masked(model)
    layers, skipped = weighted(new)
    for path in sorted({*keep} - layers.keys()):
        raise BadInput(f"sparsify_n_m: no layer {path!r} with a weight of its own; there are {', '.join(layers)}")
    changed = []
    for path, layer in layers.items():
        weight: Any = layer.weight
        if path in keep:
            skipped += ((path, "kept as it is, as asked"),)
        elif weight.shape[1] % m:
            skipped += ((path, f"{weight.shape[1]} input channels are no multiple of {m}"),)
        else:
            before = _zeros(layer)
            scores = _ranked(layer, weight.detach().abs())
            scores = scores.view(len(weight), -1, m, *weight.shape[2:])
            pruned = torch.ones_like(scores, dtype=torch.bool).scatter_(2, scores.topk(n, dim=2).indices, False)
            _mask(layer).pruned |= pruned.view_as(weight)
            changed += [path] if _zeros(layer) > before else []
    if not changed:
        raise NothingToDo(f"sparsify_n_m: no weight to prune to {n}:{m}; skipped {skipped}")
    arguments: dict[str, object] = {"n": n, "m": m, "keep": sorted(keep)}
    return new, Record(name="sparsify_n_m", arguments=arguments, changed=tuple(changed), skipped=skipped)


class Gradual:
    """Prunes a masked network further and further while it is trained (Zhu and Gupta 2017, equation 1).

    Called after every step as `Training.run(progress=...)` does. The sparsity goes from `initial` at the share `begin`
    of all steps to `sparsity` at the share `end`, every `every` steps, fast at first and slower as less is left:
    s_t = s_f + (s_i - s_f) (1 - t)^3 with t from 0 to 1. The steps after `end` are for healing. Weights are ranked as
    in `sparsify`; unlike the authors' code, what is pruned stays pruned. The masks are buffers, so a training that is
    stopped goes on with them. Raises BadInput, and NothingToDo if the network has no masks.
    """

    def __init__(
        self,
        model: nn.Module,
        sparsity: float,
        *,
        initial: float = 0.0,
        begin: float = 0.0,
        end: float = 0.5,
        every: int = 100,
        scope: Scope = "global",
    ) -> None:
        if not 0 <= initial <= sparsity < 1 or not 0 <= begin < end <= 1 or every < 1 or scope not in get_args(Scope):
            raise BadInput(
                f"Gradual: initial={initial}, sparsity={sparsity}, begin={begin}, end={end}, every={every}, "
                f"scope={scope!r}; needs 0 <= initial <= sparsity < 1, 0 <= begin < end <= 1, every >= 1"
            )
        self.layers = _with_masks(model)
        self.sparsity, self.initial, self.begin, self.end = sparsity, initial, begin, end
        self.every, self.scope = every, scope

    def target(self, step: int, steps: int) -> float:
        """The sparsity that the formula gives at a step, 0 before the first pruning."""
        done = (step / steps - self.begin) / (self.end - self.begin)
        if done < 0:
            return 0.0
        return self.sparsity + (self.initial - self.sparsity) * (1 - min(1.0, done)) ** 3

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """After `step` of `steps` steps."""
        first, last = round(self.begin * steps), round(self.end * steps)
        if step == last or (first <= step < last and (step - first) % self.every == 0):
            share = self.sparsity if step == last else self.target(step, steps)
            for group in [[layer] for layer in self.layers] if self.scope == "layer" else [self.layers]:
                _prune(group, share, self.scope)


def finished(model: nn.Module) -> tuple[nn.Module, Record]:
    """Return a plain copy of a masked network: the same layers as before, with zeros in their weights.

    The same outputs to the bit. The record gives the sparsity of each layer, so that `sparsify` prunes a fresh network
    as far. Raises NothingToDo without masks, or if nothing is pruned.
    """
    new = copied(model)
    layers = {path: layer for path, layer in weighted(new)[0].items() if isinstance(_mask(layer), Mask)}
    sparsity = {path: _zeros(layer) / _mask(layer).pruned.numel() for path, layer in layers.items() if _zeros(layer)}
    if not sparsity:
        raise NothingToDo("finished: the network has no pruned weight")
    for layer in layers.values():
        remove_parametrizations(layer, "weight", leave_parametrized=True)
    skipped = (*weighted(new)[1], *((path, "nothing of it is pruned") for path in layers if path not in sparsity))
    arguments: dict[str, object] = {"sparsity": sparsity, "scope": "layer", "keep": []}
    return new, Record(name="sparsify", arguments=arguments, changed=tuple(sparsity), skipped=skipped)


def _mask(layer: nn.Module) -> Any:
    """The first parametrization of the layer's weight, None if it has none."""
    return layer.parametrizations.weight[0] if is_parametrized(layer, "weight") else None  # type: ignore[union-attr, index]


def _with_masks(model: nn.Module) -> list[nn.Module]:
    layers = [module for module in model.modules() if isinstance(_mask(module), Mask)]
    if not layers:
        raise NothingToDo("Gradual: the network has no masks; give it `masked(model)`")
    return layers


def _zeros(layer: nn.Module) -> int:
    return int(_mask(layer).pruned.sum())


def _ranked(layer: nn.Module, scores: Tensor) -> Tensor:
    """Scores with what is pruned already below all others."""
    return scores.masked_fill(_mask(layer).pruned, -1)


@torch.no_grad()
def _prune(layers: list[nn.Module], sparsity: float, scope: Scope) -> None:
    """In place: of the weights of all these layers together, the share `sparsity` with the lowest scores is pruned."""
    if not 0 <= sparsity <= 1:
        raise BadInput(f"sparsify: a sparsity of {sparsity!r}, needs 0 to 1")
    weights: list[Any] = [layer.weight for layer in layers]
    scores = [_lamp(weight) if scope == "lamp" else weight.abs() for weight in weights]
    flat = torch.cat([_ranked(layer, score).flatten() for layer, score in zip(layers, scores, strict=True)])
    pruned = torch.ones_like(flat, dtype=torch.bool)
    pruned[flat.topk(len(flat) - round(sparsity * len(flat)), sorted=False).indices] = False
    parts = torch.split(pruned, [weight.numel() for weight in weights])
    for layer, weight, part in zip(layers, weights, parts, strict=True):
        _mask(layer).pruned |= part.view_as(weight)


def _lamp(weight: Tensor) -> Tensor:
    """Squares, each over the sum of those of its layer that are not smaller. Shape as the weight."""
    squares, order = weight.flatten().double().square().sort()
    not_smaller = squares.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = squares / not_smaller.clamp_min(torch.finfo(squares.dtype).tiny)
    return scores.view_as(weight).to(weight.dtype)
