"""Networks with trained weights: from the hub, by torchvision's names, or from a local file or folder."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swiftlet.errors import BadFile, BadInput
from swiftlet.zoo.card import build_model, parameters_of
from swiftlet.zoo.weights import hub, timm_hub, torchvision_files
from swiftlet.zoo.weights.bounded import PICKLES, how_to_convert, read_bytes, read_json, refuse_pickle
from swiftlet.zoo.weights.facts import Pretrained, Weights
from swiftlet.zoo.weights.load import LAYOUTS, assign, parse_weights
from swiftlet.zoo.weights.own import read_header

FILE, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FILES = {".safetensors", *PICKLES}  # how the names of files end, and those of repositories do not
FREE = {"num_classes", "dropout"}  # what one may choose for a network whose weights are given


def describe(source: Path | str) -> Weights:
    """What is known of trained weights before their tensors are read; of those on the hub, config.json says it.

    `source` is "timm/NAME" or another repository made like timm's, "torchvision/NAME.TAG", a .safetensors file, or a
    folder with model.safetensors and config.json. Raises BadFile naming the file that is missing or malformed,
    BadInput for weights of a network that the zoo does not have.
    """
    source = str(source)
    if _on_hub(source):
        new = hub.cached(source, CONFIG) is None
        config = hub.fetch(source, CONFIG)
        return timm_hub.read_config(config, source, _licence(source, ask=new))
    if _of_torchvision(source):
        return torchvision_files.published(source)[1]
    file = _local_file(source)
    known = read_header(file, source) or torchvision_files.of_file(file, source)
    config = file.parent / CONFIG
    if known is None and not config.is_file():
        raise BadFile(
            f"{config}: is missing; beside weights that swiftlet did not save there must be the config.json "
            "that timm writes, which says what they are and what they see"
        )
    return known or timm_hub.read_config(config, source, None)


def load_pretrained(name: str, source: Path | str, arguments: dict[str, Any]) -> nn.Module:
    """The network `name` with the weights of `source` (see describe), in training mode; create_model calls this.

    The weights say how it is built; `arguments` may choose the number of classes (another one than the weights have
    leaves the classifier random) and the dropout, and must not contradict in anything else. Its `pretrained` says
    what was read. Raises BadInput for a contradiction, BadFile for a file that is missing, malformed, not what the
    hub or its config.json says by digest, or not of this network.
    """
    weights = describe(source)
    chosen = _agreed(name, arguments, weights)
    file, expected = _file(weights)
    content = read_bytes(file)
    digest = hashlib.sha256(content).hexdigest()
    if expected is not None and digest != expected:
        raise BadFile(f"{file}: its SHA-256 is {digest}, it should be {expected}; delete it and get it again")
    tensors = parse_weights(content, file)
    if weights.layout == "swiftlet":
        _refuse_another_size(weights, tensors, file)
    model = build_model(name, chosen)
    if weights.layout == "swiftlet":
        pairs = [(part, part) for part, _ in model.named_children()]
    else:
        pairs = list(LAYOUTS[weights.layout][name](model))
    assign(model, tensors, pairs, str(file))
    model.pretrained = Pretrained(  # type: ignore[assignment]
        source=weights.source,
        licence=weights.licence,
        digest=digest,
        contract=weights.contract,
        layout=weights.layout,
    )
    return model


def is_cached(repository: str) -> bool:
    """Whether the hub's cache has all that loading these weights takes; makes no request."""
    return all(hub.cached(repository, name) is not None for name in (CONFIG, FILE))


def _agreed(name: str, arguments: dict[str, Any], weights: Weights) -> dict[str, Any]:
    """The arguments of the network: those of the weights, and what may be chosen."""
    if name != weights.network:
        raise BadInput(f"{weights.source}: holds weights of {weights.network}, not of {name}")
    for argument, parameter in parameters_of(name).items():
        trained = weights.arguments.get(argument, parameter.default)
        if argument in arguments and argument not in FREE and arguments[argument] != trained:
            raise BadInput(
                f"{name}: {argument}={arguments[argument]!r} contradicts {weights.source}, which was trained with "
                f"{trained!r}; leave it out"
            )
    return weights.arguments | {"num_classes": weights.num_classes} | arguments


def _file(weights: Weights) -> tuple[Path, str | None]:
    """The file of the weights, downloaded if need be, and the SHA-256 that it should have, if anybody says so."""
    source = weights.source
    if _on_hub(source):
        file = hub.fetch(source, FILE)
        return file, hub.digest_of(file)
    if _of_torchvision(source):
        file = torchvision_files.published(source)[0]
        if not file.is_file():
            pickle = file.with_suffix(".pth")
            raise BadFile(
                f"{file}: is missing. torchvision publishes {pickle.name}, a pickle, which swiftlet never opens. "
                f"{how_to_convert(pickle)}"
            )
        return file, None
    file = _local_file(source)
    config = file.parent / CONFIG
    expected = read_json(config).get("sha256") if weights.layout == "timm" else None
    if expected is not None and not isinstance(expected, str):
        raise BadFile(f"{config}: 'sha256' must be the digest of {file.name}, got {expected!r}")
    return file, expected


def _local_file(source: str) -> Path:
    path = Path(source).expanduser()
    file = path / FILE if path.is_dir() else path
    refuse_pickle(file)
    if not file.is_file():
        raise BadFile(f"{file}: is missing")
    return file


def _on_hub(source: str) -> bool:
    """True for owner/name, unless there is a file or folder of that name here."""
    named = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) and Path(source).suffix.lower() not in FILES
    return bool(named) and not _of_torchvision(source) and not Path(source).exists()


def _of_torchvision(source: str) -> bool:
    return source.startswith(torchvision_files.PREFIX) and not Path(source).exists()


def _licence(repository: str, *, ask: bool) -> str:
    """What the model card says; `ask` the hub for it, or only the cache."""
    try:
        card = hub.fetch(repository, CARD) if ask else hub.cached(repository, CARD)
    except BadFile:  # a repository need not have one
        card = None
    return (card and timm_hub.card_licence(card)) or f"unknown: see {hub.PAGE}{repository}"


def _refuse_another_size(weights: Weights, tensors: dict[str, Tensor], file: Path) -> None:
    """The header asks for a network: refuse one that is larger than the file before memory is taken for it."""
    try:
        with torch.device("meta"):
            asked = build_model(weights.network, weights.arguments | {"num_classes": weights.num_classes})
    except (ValueError, RuntimeError, OverflowError, TypeError) as error:  # sizes beyond what a tensor can have
        raise BadFile(f"{file}: asks for a network that cannot be built: {error}") from error
    needed, held = (sum(t.numel() for t in each.values()) for each in (asked.state_dict(), tensors))
    if needed != held:
        raise BadFile(f"{file}: asks for a network of {needed:,} values and holds {held:,}")
