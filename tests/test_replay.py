"""Architecture, records and a safetensors file are a network again."""

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from twins import randomise

from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.prune import prune_channels, rebuild
from swiftlet.compress.record import Record
from swiftlet.compress.replay import replay
from swiftlet.errors import BadInput
from swiftlet.zoo import create_model

SHAPE = (3, 48, 40)


def trained(name: str, arguments: dict[str, object]) -> nn.Module:
    return randomise(create_model(name, **arguments)).eval()


@pytest.mark.parametrize(
    ("name", "arguments", "steps"),
    [
        ("shufflenet_v2", {"width": 0.5, "num_classes": 7}, "prune"),
        ("resnet20", {"num_classes": 7}, "prune, prune"),
        ("ghostnet", {"width": 0.35, "num_classes": 7, "ratio": 3}, "fold, prune"),
        ("mobilenet_v3_small", {"width": 0.5, "num_classes": 7}, "prune, fold"),
    ],
)
def test_a_pruned_network_opens_again(name, arguments, steps, tmp_path):
    network, records = trained(name, arguments), []
    for step in steps.split(", "):
        if step == "prune":
            network, record = prune_channels(network, SHAPE, keep=0.7, importance="random", seed=len(records))
        else:
            network, record = fold_batchnorm(network)
        records.append(record)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "network.json").write_text(json.dumps([name, arguments, [asdict(record) for record in records]]))

    name, arguments, stored = json.loads((tmp_path / "network.json").read_text())
    again = replay(create_model(name, **arguments), [Record(**record) for record in stored])
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(again(x), network(x))
    assert again.code == network.code and not again.training


def test_records_of_nothing_leave_a_copy():
    model = create_model("lenet_300_100", width=0.1)
    new = replay(model, [])
    assert new is not model and model.training and not new.training
    assert all(torch.equal(t, new.state_dict()[name]) for name, t in model.state_dict().items())


def spoil(**changes: object) -> Callable[[dict], dict]:
    return lambda arguments: {**arguments, "kept": {**arguments["kept"], **changes}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil(nowhere="0-3"), "'nowhere', which makes no channels"),
        (spoil(**{"stem.0": "0-999999999"}), "rows '0-999999999' of 0 to 15"),
        (spoil(**{"stem.0": "3-2"}), "rows '3-2' of"),
        (spoil(**{"stem.0": "-1"}), "which is no range"),
        (spoil(**{"stem.0": "1;2"}), "which is no range"),
        (spoil(**{"stem.0": "0-9999999999"}), "which is no range"),
        (spoil(**{"stem.0": [1, 2]}), "which is no range"),
        (spoil(classifier="0-1"), "do not fit this network"),
        (lambda arguments: {}, "needs 'example_shape'"),
        (lambda arguments: {**arguments, "kept": [1]}, "needs 'example_shape'"),
        (lambda arguments: {**arguments, "example_shape": [3, 48]}, "without the batch"),
    ],
)
def test_a_spoilt_record_is_refused(change, message):
    model = create_model("resnet20", num_classes=7)
    _, record = prune_channels(model, SHAPE, keep=0.7)
    with pytest.raises(BadInput, match=message):
        rebuild(model, Record(name=record.name, arguments=change(record.arguments)))


def test_records_that_change_no_structure_or_another_network_are_refused():
    model = create_model("resnet20", num_classes=7)
    with pytest.raises(BadInput, match="'quantize' cannot be done again"):
        replay(model, [Record(name="quantize")])
    _, record = prune_channels(create_model("shufflenet_v2", width=0.5), SHAPE, keep=0.7)
    with pytest.raises(BadInput, match="makes no channels in this network"):
        replay(model, [record])
