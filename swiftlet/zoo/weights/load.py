"""Weights of public implementations into our networks, name by name; see layout.py for how names are related."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn

from swiftlet.errors import BadFile, BadInput
from swiftlet.zoo.card import Architecture
from swiftlet.zoo.weights import caffe, slim, timm, torchvision
from swiftlet.zoo.weights.bounded import read_bytes
from swiftlet.zoo.weights.layout import Layout, Pairs

LAYOUTS: dict[str, dict[str, Layout]] = {
    "timm": timm.LAYOUTS,
    "torchvision": torchvision.LAYOUTS,
    "tf-slim": slim.LAYOUTS,
    "caffe": caffe.LAYOUTS,
}
PREPARE = {"tf-slim": slim.to_pytorch, "caffe": caffe.to_pytorch}  # other names and axes into PyTorch's

OPTIONAL = re.compile(r"(^|\.)num_batches_tracked$")  # a counter that older files lack and evaluation never reads
EXTRA = re.compile(r"^((aux\d?|aux_logits|AuxLogits|aux_classifier)\.|loss[12]/)")  # auxiliary heads: ours have none


def load_weights(
    model: nn.Module,
    source: Mapping[str, Tensor] | Path | str,
    layout: Literal["timm", "torchvision", "tf-slim", "caffe"],
) -> nn.Module:
    """Copy the weights of a public implementation into a network of the zoo, in place, and return it.

    `source` is a state dict, or the path of a .safetensors file; `layout` says whose names it has. If only the number
    of classes differs, the classifier keeps its random weights. TensorFlow's extra background class is dropped.
    Raises BadInput for a network or layout that is not known, BadFile for a source that does not fit; the model is
    then unchanged.
    """
    architecture = getattr(model, "architecture", None)
    if not isinstance(architecture, Architecture):
        raise BadInput("load_weights: takes a network that create_model built, which knows its own name")
    if layout not in LAYOUTS:
        raise BadInput(f"load_weights: layout={layout!r} must be {' or '.join(map(repr, LAYOUTS))}")
    known = LAYOUTS[layout]
    if architecture.name not in known:
        raise BadInput(
            f"load_weights: no layout {layout!r} for {architecture.name}; there is one for {', '.join(sorted(known))}"
        )
    where = str(source) if isinstance(source, Path | str) else f"the {layout} state dict"
    if isinstance(source, Path | str):
        tensors = parse_weights(read_bytes(Path(source)), Path(source))
    else:
        tensors = dict(source)
    if layout in PREPARE:
        tensors = PREPARE[layout](tensors, _classes(model))
    assign(model, tensors, known[architecture.name](model), where)
    return model


def parse_weights(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of a file. Raises BadFile if that is not a whole safetensors file."""
    try:
        return parse_safetensors(content)
    except SafetensorError as error:
        raise BadFile(f"{path}: is not a whole safetensors file ({error})") from error


def _classes(model: nn.Module) -> int:
    """Length of the last tensor: the bias of the classifier, or the rows of its weight."""
    return len(list(model.state_dict().values())[-1])


def assign(model: nn.Module, source: Mapping[str, Tensor], pairs: Pairs, where: str) -> None:
    """Copy `source` into `model`, in place. Nothing is changed unless everything fits.

    If only the number of classes differs, the classifier keeps its random weights. Raises BadFile naming the first
    tensor that is missing, left over, or of another shape.
    """
    ours = model.state_dict()
    names = _names(ours, dict(pairs))
    left = {name for name in source if not OPTIONAL.search(name) and not EXTRA.search(name)}
    found: dict[str, Tensor] = {}
    for name, theirs in names.items():
        if theirs not in source:
            if OPTIONAL.search(name):
                continue
            raise BadFile(f"{where}: has no tensor {theirs!r}, which {name!r} needs; is it another network or width?")
        left.discard(theirs)
        tensor = source[theirs]
        if _same_matrix(tensor, ours[name]) or tensor.squeeze().shape == ours[name].squeeze().shape:
            tensor = tensor.reshape(ours[name].shape)
        if tensor.shape != ours[name].shape:
            if name.startswith("classifier") and tensor.shape[1:] == ours[name].shape[1:]:
                continue
            raise BadFile(
                f"{where}: {theirs!r} has shape {tuple(tensor.shape)}, {name!r} needs {tuple(ours[name].shape)}; "
                "is it another width?"
            )
        found[name] = tensor.to(ours[name].dtype)
    if left:
        raise BadFile(f"{where}: {sorted(left)[0]!r} has no place in the network; is it another variant?")
    with torch.no_grad():
        for name, tensor in found.items():
            ours[name].copy_(tensor)


def _same_matrix(a: Tensor, b: Tensor) -> bool:
    """Whether a convolution that covers its whole input and a linear layer hold the same numbers in the same order."""
    return 2 in (a.ndim, b.ndim) and a.shape[:1] == b.shape[:1] and a.numel() == b.numel()


def _names(ours: Iterable[str], prefixes: dict[str, str]) -> dict[str, str]:
    """Our tensor name -> theirs, by the longest of our module paths that it lies under."""
    names = {}
    for name in ours:
        path = name
        while path not in prefixes:
            path, dot, _ = path.rpartition(".")
            if not dot:
                raise BadInput(f"the layout does not say where {name!r} comes from")
        names[name] = prefixes[path] + name[len(path) :]
    return names
