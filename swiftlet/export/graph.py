"""ONNX nodes and initializers as they grow, tensors and constants named.

Layers keep the names that they have in the network. Tensors are numbered, in two characters each: in a tiny network
names weigh, and pack/names.py makes little of numbers in a row.
"""

from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from swiftlet.data.contract import InputContract
from swiftlet.pack.names import DIGITS

PACKING = 400  # bytes that the operations which unpack one tensor take in a file

Node = Any  # an fx.Node: torch types its args so broadly that every use would need a cast


class Graph:
    """ONNX nodes and initializers as they grow; `names` maps each fx node to the tensor that holds its value, `parts`
    one that has several to their names."""

    def __init__(self, modules: dict[str, Any], shapes: dict[Node, tuple[int, ...]]) -> None:
        self.modules = modules
        self.shapes = shapes
        self.parts: dict[Node, list[str]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[Node, str] = {}
        self._fresh = count()
        self._numbers: dict[tuple[str, bytes] | None, str] = {}

    def op(
        self,
        kind: str,
        *inputs: str,
        output: str | None = None,
        name: str | None = None,
        parts: int = 1,
        **attributes: Any,
    ) -> str:
        """Append a node and return the name of its output, of its first one if it has several `parts`."""
        output = output or self.fresh()
        outputs = [output, *(self.fresh() for _ in range(parts - 1))]
        if name in {node.name for node in self.nodes}:
            name = None  # a layer that is called again: names are optional, but must differ
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return output

    def fresh(self) -> str:
        """A name for a tensor: its number, in at least two digits to the base 60."""
        number, name = next(self._fresh), ""
        while number or len(name) < 2:
            number, digit = divmod(number, len(DIGITS))
            name = DIGITS[digit] + name
        return name

    def const(self, value: Any) -> str:
        """Single numbers are stored once: a quantized network names the same scale again and again."""
        array = np.asarray(value, order="C")
        key = (array.dtype.str, array.tobytes()) if array.ndim == 0 else None
        if key not in self._numbers:
            # a zero point, which is named from everywhere, has no place in the row of numbers
            name = f"_{array}" if array.ndim == 0 and array.dtype == np.uint8 else self.fresh()
            self.initializers.append(onnx.numpy_helper.from_array(array, name))
            if key is None:
                return name
            self._numbers[key] = name
        return self._numbers[key]

    def normalised_image(self, contract: InputContract) -> str:
        """uint8 (N, side, side, 3) -> float (N, 3, side, side); one DequantizeLinear if the mean is whole.

        Otherwise a BatchNormalization: with Sub and Div, MobileNet V2 takes 1.3 times as long as int8 in ONNX Runtime
        (docs/log.md), which moves them behind the Transpose to channels-last.
        """
        image = self.op("Transpose", "image", perm=[0, 3, 1, 2])
        if contract.grid is not None:
            scale, zero_point = contract.grid
            return self.op("DequantizeLinear", image, self.const(np.float32(scale)), self.const(np.uint8(zero_point)))
        pixels, zero, one = self.op("Cast", image, to=TensorProto.FLOAT), np.zeros(3), np.ones(3)
        factors = (1 / np.array(contract.std), zero, np.array(contract.mean), one)  # scale, shift, mean, variance
        return self.op("BatchNormalization", pixels, *(self.const(np.float32(v)) for v in factors), epsilon=0.0)

    def parameters(self, layer: Any, *, zeros: bool = False) -> list[str]:
        """Weight and bias as float constants, or, if quantized, as integers with their scales.

        `zeros`: with zero points that are 0 said, too; without them ONNX Runtime takes no Gemm for an integer one.
        """
        weight = layer.weight.detach().numpy()
        bias = None if layer.bias is None else layer.bias.detach().numpy()
        buffers = dict(layer.named_buffers())
        if "weight_scale" not in buffers:
            stored = self.unpacked(layer, weight) if "code_scale" in buffers else self.const(weight)
            return [stored] + ([] if bias is None else [self.const(bias)])
        scale, bias_scale = layer.get_buffer("weight_scale").numpy(), layer.get_buffer("bias_scale").numpy()
        steps = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        zero = [self.const(np.zeros(len(scale), np.int8))] if zeros else []
        out = [self.op("DequantizeLinear", self.steps(steps), self.const(scale), *zero, axis=0)]
        if bias is not None:
            steps = np.rint(bias.astype(np.float64) / bias_scale).astype(np.int32)
            out.append(self.op("DequantizeLinear", self.const(steps), self.const(bias_scale), axis=0))
        return out

    def steps(self, steps: Any) -> str:
        """int8 weights, which take fewer bits in the file if they are small, and are unpacked when it is loaded."""
        largest = int(np.abs(steps).max())
        width = _width(steps.size, 2 if largest < 2 else 4 if largest < 8 else 8)
        if width == 8 or not largest:  # weights that are all zero stay where runtime/liven.py finds them
            return self.const(steps)
        middle = 2 ** (width - 1)
        codes = self.codes((steps + middle).astype(np.uint8), width)
        return self.op("Cast", self.op("Sub", codes, self.const(np.int32(middle))), to=TensorProto.INT8)

    def codes(self, codes: Any, width: int) -> str:
        """Whole numbers from fields of `width` bits in bytes: the first share of them lies in the lowest bits."""
        if width == 8:
            return self.const(codes)
        shifts = width * np.arange(8 // width, dtype=np.uint8)[:, None]
        packed = self.const(np.bitwise_or.reduce(codes.reshape(len(shifts), -1) << shifts))
        powers, size = self.const(np.int32(1) << shifts.astype(np.int32)), self.const(np.int32(2**width))
        shifted = self.op("Div", self.op("Cast", packed, to=TensorProto.INT32), powers)
        fields = self.op("Sub", shifted, self.op("Mul", self.op("Div", shifted, size), size))
        return self.op("Reshape", fields, self.const(np.array(codes.shape)))

    def unpacked(self, layer: Any, weight: Any) -> str:
        """Float weights from codes of 2, 4 or 8 bits, see compress/weight_only.py: (code - zero) x scale.

        Nothing but arithmetic on constants, which runtimes do once, when they load the file. ONNX Runtime keeps a
        DequantizeLinear for its integer kernels instead, and runs it for every picture where there is none.
        """
        scale, zero = (layer.get_buffer(name).numpy().reshape(-1, 1) for name in ("code_scale", "code_zero"))
        codes = (np.rint(weight.reshape(len(scale), -1) / scale) + zero).astype(np.uint8)  # (rows, weights of a grid)
        shape = weight.shape if len(scale) == len(weight) else codes.shape
        column = (-1, *[1] * (len(shape) - 1))
        value = self.codes(codes.reshape(shape), _width(codes.size, int(layer.get_buffer("code_bits"))))
        value = self.op("Cast", value, to=TensorProto.FLOAT)
        if (zero == zero[0]).all():
            centre = self.const(np.float32(zero[0, 0]))
        else:
            centre = self.op("Cast", self.const(zero.reshape(column)), to=TensorProto.FLOAT)
        value = self.op("Mul", self.op("Sub", value, centre), self.const(scale.reshape(column)))
        return value if shape == weight.shape else self.op("Reshape", value, self.const(np.array(weight.shape)))


def _width(size: int, bits: int) -> int:
    """The bits that a file gives each of `size` codes of `bits`: 2 or 4 where they fill bytes and it pays, else 8."""
    pays = (w for w in (2, 4) if w >= bits and size % (8 // w) == 0 and size * (8 - w) // 8 > PACKING)
    return next(pays, 8)
