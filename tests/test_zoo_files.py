"""Every network of the zoo as a file: exported, run with parity at batch 1 and 3, and shrunk to int8."""

import numpy as np
import pytest
import torch
from settle import settled

from swiftlet.check import PARITY, typical
from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.cost.count import count_model, count_onnx
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx
from swiftlet.runtime import get_runtime
from swiftlet.zoo import card, create_model, list_models

CASES = [(name, variant.arguments) for name in list_models() for variant in card(name).variants]
SIDES = {"lenet5": 28, "lenet_300_100": 28, "alexnet": 227, "vgg16": 224}  # what their linear layers were made for
KINDS = [(name, a) for name, a in CASES if not a or a.keys() - {"width", "scale"}]  # width changes no operation


@pytest.mark.parametrize(("name", "arguments"), KINDS, ids=str)
def test_export_parity_and_int8(name, arguments):
    side = SIDES.get(name, 80)
    contract = InputContract(side=side)
    noise = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), np.uint8)
    torch.manual_seed(0)
    model = create_model(name, **{"width": 0.25, "num_classes": 6, "in_channels": 3} | arguments)
    plain, _ = deployed(settled(model, noise, contract))
    images = torch.from_numpy(contract.normalise(noise))
    scale, zero = contract.grid
    integer, record = quantize(plain, [images], input_scale=scale, input_zero_point=zero)
    assert not record.skipped  # every layer got its grid
    for precision, network in (("float32", plain), ("int8", integer)):
        file = export_onnx(network, contract)
        assert count_onnx(file).uncovered == ()
        program = get_runtime("onnxruntime").load(file, 1)
        for batch in (1, 3):
            with torch.inference_mode():
                expected = torch.softmax(network(images[:batch]), 1).numpy()
            differences = np.abs(program.run(noise[:batch])[0] - expected).max(1)
            assert typical(differences, precision) <= PARITY[precision], precision
        if precision == "float32":
            assert count_onnx(file).cost.macs == count_model(plain, (3, side, side)).cost.macs
    with torch.inference_mode():
        scores = torch.softmax(plain(images), 1)
    assert scores.std(0).max() > 5 * PARITY["float32"]  # pictures differ
