"""BatchNorm layers that do more than BatchNorm."""

import copy

import torch
from torch import fx, nn

from swiftlet.errors import BadInput


def split_batchnorms(traced: fx.GraphModule) -> None:
    """In place: a subclass of BatchNorm2d becomes a plain one, and what it holds besides follows as layers of its own.

    timm's BatchNormAct2d, for one, carries its activation; whoever takes it for a BatchNorm2d loses that. That nothing
    else is in it is tried out, not assumed. Raises BadInput if there is.
    """
    special = {path: m for path, m in traced.named_modules() if isinstance(m, nn.BatchNorm2d) and not _is_plain(m)}
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or node.target not in special:
            continue
        path, layer = node.target, special[node.target]
        plain, after = _plain(layer), [m for m in layer.children() if not isinstance(m, nn.Identity)]
        if not _is_chain(layer):
            raise BadInput(f"{path!r} is a {type(layer).__name__}, which is not a BatchNorm2d and its children in turn")
        traced.set_submodule(path, plain)
        last = node
        for i, module in enumerate(after):
            traced.add_submodule(f"{path}_{i}", module)
            with traced.graph.inserting_after(last):
                following = traced.graph.call_module(f"{path}_{i}")
            last.replace_all_uses_with(following)
            following.args = (last,)
            last = following
    traced.recompile()


def _is_plain(layer: nn.BatchNorm2d) -> bool:
    return type(layer).forward is nn.BatchNorm2d.forward


def _is_chain(layer: nn.BatchNorm2d) -> bool:
    """Whether a copy gives what a BatchNorm2d followed by its children gives."""
    copied = copy.deepcopy(layer).eval()
    if next(copied.buffers()).is_meta:
        copied.to_empty(device="cpu").reset_parameters()
    like = next(copied.buffers())
    probe = torch.linspace(-3, 3, 4 * layer.num_features, dtype=like.dtype, device=like.device)
    probe = probe.view(1, -1, 2, 2)
    with torch.no_grad():
        chain = nn.Sequential(_plain(copied), *copied.children())
        return torch.equal(chain(probe.clone()), copied(probe))


def _plain(layer: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """A BatchNorm2d with the same tensors."""
    plain = nn.BatchNorm2d(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta"
    )
    for name, parameter in layer.named_parameters(recurse=False):
        plain.register_parameter(name, parameter)
    for name, buffer in layer.named_buffers(recurse=False):
        plain.register_buffer(name, buffer)
    return plain.train(layer.training)
