"""Folding BatchNorm into the convolution before it."""

import copy
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from swiftlet.compress.record import Record
from swiftlet.compress.trace import trace
from swiftlet.errors import BadInput, NothingToDo


def is_training(model: nn.Module) -> bool:
    """True if the network, or a layer of it that acts differently in training, is in training mode."""
    return model.training or any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.Dropout))


def folded(model: nn.Module) -> tuple[fx.GraphModule, tuple[Record, ...]]:
    """What fold_batchnorm gives, or a traced copy and no record for a network without BatchNorm, such as VGG-16."""
    try:
        new, record = fold_batchnorm(model)
    except NothingToDo:
        return trace(copy.deepcopy(model)), ()
    return new, (record,)


def fold_batchnorm(model: nn.Module) -> tuple[fx.GraphModule, Record]:
    """Return a copy with every BatchNorm2d folded into the Conv2d that feeds it. Exact up to float rounding.

    The copy is traced with torch.fx, so the order of calls is known, not guessed from the order of attributes; a
    BatchNorm whose convolution also feeds something else is skipped. Raises BadInput in training mode (batch
    statistics are still moving), NothingToDo if there is no pair.
    """
    if is_training(model):
        raise BadInput("fold_batchnorm: call model.eval() first, batch statistics are still moving")
    new = trace(copy.deepcopy(model))
    modules: dict[str, Any] = dict(new.named_modules())
    changed, skipped = [], []
    node: Any  # torch types the args of an fx.Node so broadly that every use would need a cast
    for node in list(new.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        source, bn = node.args[0], modules[node.target]
        if bn.running_mean is None:
            skipped.append((node.target, "keeps no running statistics"))
            continue
        conv = modules[source.target] if source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d):
            skipped.append((node.target, f"fed by {type(conv).__name__ if conv else source.name}, not by a Conv2d"))
            continue
        if len(source.users) > 1 or sum(n.target == source.target for n in new.graph.nodes) > 1:
            skipped.append((node.target, f"{source.target} also feeds something else"))
            continue
        new.set_submodule(source.target, fuse_conv_bn_eval(conv, bn).requires_grad_())  # the new bias too
        node.replace_all_uses_with(source)
        new.graph.erase_node(node)
        changed.append(node.target)
    if not changed:
        raise NothingToDo(f"fold_batchnorm: no Conv2d -> BatchNorm2d pair found; skipped {skipped}")
    new.delete_all_unused_submodules()
    new.recompile()
    return new, Record(name="fold_batchnorm", changed=tuple(changed), skipped=tuple(skipped))
