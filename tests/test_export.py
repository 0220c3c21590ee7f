"""The exporter against PyTorch on every operation it knows, the metadata, the golden proof, and the report's snippet."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, fx, nn
from torch.nn import functional as F

from swiftlet.budget import Cost
from swiftlet.check import PARITY, load_classifier
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.quantize import FakeQuantize, quantize
from swiftlet.compress.record import Record
from swiftlet.data.contract import InputContract, golden_pictures
from swiftlet.errors import BadFile, BadInput
from swiftlet.export import onnx as exporter
from swiftlet.export.artifact import Artifact, read_artifact
from swiftlet.export.golden import golden_record, parity, write_golden
from swiftlet.export.onnx import contract_grid, export_onnx, graph_digest, with_metadata
from swiftlet.runtime import get_runtime
from swiftlet.shrink import ParityError, prove_parity
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=24)
IMAGENET_LIKE = InputContract(side=24, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
NOISE = np.random.default_rng(0).integers(0, 256, (7, 24, 24, 3), np.uint8)


class Everything(nn.Module):
    """Every module and function of the exporter's tables."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, (3, 5), stride=(1, 2), padding=(0, 2), dilation=(2, 1))
        self.grouped = nn.Conv2d(8, 16, 3, groups=4, bias=False)
        self.bn, self.plain_bn = nn.BatchNorm2d(16, eps=0.01), nn.BatchNorm2d(16, affine=False)
        self.pool, self.ceil = nn.MaxPool2d(3, 2, 1, dilation=1), nn.MaxPool2d((2, 2), ceil_mode=True)
        self.twice = nn.Conv2d(16, 16, 1)
        self.acts = nn.ModuleList((nn.ReLU(), nn.ReLU6(), nn.Hardsigmoid(), nn.Hardswish(), nn.Sigmoid(), nn.SiLU()))
        self.fake, self.drop, self.same = FakeQuantize(0.125, 99), nn.Dropout(), nn.Identity()
        self.squeeze = nn.AdaptiveAvgPool2d((1, 1))
        self.flat, self.fc, self.head = nn.Flatten(), nn.Linear(48, 9, bias=False), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain_bn(self.bn(self.grouped(self.conv(x))))
        x = self.twice(F.relu(self.twice(self.ceil(self.pool(x))), inplace=True) + x.new_ones if False else self.pool(x))
        return x


class Walk(Everything):
    def forward(self, x: Tensor) -> Tensor:
        x = self.plain_bn(self.bn(self.grouped(self.conv(x))))
        x = self.twice(self.twice(self.ceil(self.pool(x))))
        y = torch.relu(3 * self.same(x) if False else x)
        relu, relu6, hardsigmoid, hardswish, sigmoid, silu = (act(x) for act in self.acts)
        x = torch.add(relu6 * hardsigmoid + hardswish, torch.mul(sigmoid, silu))
        x = torch.cat([x, F.relu(self.fake(x), inplace=False), self.drop(relu)], dim=1)
        a = torch.flatten(self.squeeze(x), start_dim=1) + torch.flatten(self.squeeze(torch.cat((x,), 1)), 1)
        a += self.flat(self.squeeze(self.same(torch.cat([y, y, y], 1))))
        return self.head(self.fc(a))
