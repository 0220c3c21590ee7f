"""The order in which a network calls its layers."""

from torch import fx, nn

from swiftlet.compress.batchnorm import split_batchnorms


class Tracer(fx.Tracer):
    """As torch.fx's own, with one more kind of leaf: a direct subclass of one of PyTorch's layers, which behaves as
    that layer does, only with its own padding or rounding."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_layer(type(m)) or super().is_leaf_module(m, module_qualified_name)


def _is_layer(kind: type) -> bool:
    base = kind.__bases__[0]
    known = base.__module__.startswith("torch.nn.modules")
    return known and base not in (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)


def trace(model: nn.Module) -> fx.GraphModule:
    """The network as a graph of layer and function calls; it shares its layers with the original.

    Raises BadInput for a BatchNorm2d that is more than that, see split_batchnorms.
    """
    traced = fx.GraphModule(model, Tracer().trace(model), type(model).__name__)
    split_batchnorms(traced)
    return traced
