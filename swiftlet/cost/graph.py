"""Count an ONNX graph: the same rule as for modules, in the types that the file stores.

A quantized file surrounds each layer with DequantizeLinear and QuantizeLinear, which runtimes fuse into an integer
layer. Here a QuantizeLinear that is the only reader of a result (through Relu or Clip at most) gives that result its
8-bit buffer, and a DequantizeLinear that only such layers read is a view of its input.
"""

from collections import Counter, defaultdict
from math import prod
from pathlib import Path

import onnx

from swiftlet.cost.flow import SAME, WHOLE, Flow, Window, resizing, transposed_window, window
from swiftlet.cost.formulas import conv_macs, conv_transpose_macs, int8_bytes, matmul_macs
from swiftlet.cost.memory import Step, peak_bytes
from swiftlet.cost.screen import screen_onnx
from swiftlet.cost.shapes import Known, attributes, infer_shapes, real_inputs
from swiftlet.cost.tally import Count, LayerCost, summary

# operator -> positions of its image and of its weight, and of all the learned inputs
WEIGHTED = {
    "Conv": (0, 1, (1, 2)),
    "FusedConv": (0, 1, (1, 2)),
    "ConvInteger": (0, 1, (1,)),
    "QLinearConv": (0, 3, (3, 8)),
    "ConvTranspose": (0, 1, (1, 2)),
    "Gemm": (0, 1, (1, 2)),
    "FusedGemm": (0, 1, (1, 2)),
    "MatMul": (0, 1, (0, 1)),
    "MatMulInteger": (0, 1, (0, 1)),
    "QLinearMatMul": (0, 3, (0, 3)),
}
NORMS = {"BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"}
VIEWS = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"}
MOVES = {
    "Transpose", "Concat", "Split", "Slice", "Gather", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth",
    "ConstantOfShape", "Range", "GatherElements", "GatherND", "ScatterND", "ScatterElements", "Trilu", "OneHot",
    "Shape", "Size", "Constant",
}  # fmt: skip
POINTWISE = {
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp",
    "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "LeakyRelu", "Less", "LessOrEqual",
    "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QLinearAdd",
    "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid", "QuickGelu", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu",
    "Where", "Xor", "QuantizeLinear", "DequantizeLinear", "BatchNormalization",
}  # fmt: skip
REDUCTIONS = {
    "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool",
    "QLinearAveragePool", "Softmax", "LogSoftmax", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin",
    "LRN", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ArgMax", "ArgMin", "TopK", "CumSum", "Resize",
    "Upsample", "DynamicQuantizeLinear",
}  # fmt: skip


Shape = tuple[int, ...]


def count_graph(file: Path | bytes | onnx.ModelProto, *, side: int) -> Count:
    """See swiftlet.cost.count.count_onnx."""
    if isinstance(file, onnx.ModelProto):
        return _Graph(file, infer_shapes(file, side=side)).count(file.ByteSize())
    screened = screen_onnx(file, side=side)
    return _Graph(screened.model, screened.known).count(len(screened.data))


class _Graph:
    def __init__(self, model: onnx.ModelProto, known: dict[str, Known]) -> None:
        self.graph = model.graph
        self.known = known
        self.writer = {name: node for node in self.graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.constants = {tensor.name for tensor in self.graph.initializer}
        for node in self.graph.node:
            for name in filter(None, node.input):
                self.readers[name].append(node)
            # what depends on constants alone is computed once, before the first image
            if all(name in self.constants for name in node.input if name) or node.op_type in ("Shape", "Size"):
                self.constants.update(node.output)
        self.results = {value.name for value in self.graph.output}
        self.source: dict[str, str] = {}  # tensor -> the tensor whose memory it shares
        self.free: set[str] = set()  # first outputs of nodes that a runtime does not execute
        self._fuse_quantize()
        self._fuse_dequantize_and_views()

    def _fuse_quantize(self) -> None:
        for node in self.graph.node:
            if node.op_type != "QuantizeLinear" or node.input[0] in self.constants:
                continue
            chain = [node.input[0]]
            while chain[-1] in self.writer and self.writer[chain[-1]].op_type in ("Relu", "Clip"):
                chain.append(self.writer[chain[-1]].input[0])
            alone = all(len(self.readers[name]) == 1 and name not in self.results for name in chain)
            if alone and chain[-1] in self.writer and self.writer[chain[-1]].op_type != "DequantizeLinear":
                self.source |= dict.fromkeys(chain, node.output[0])
                self.free.add(node.output[0])

    def _fuse_dequantize_and_views(self) -> None:
        for node in self.graph.node:
            name, readers = node.output[0], self.readers[node.output[0]]
            if node.op_type == "DequantizeLinear":
                fused = readers and all(reader.output[0] in self.source for reader in readers)
                view = (fused and name not in self.results) or node.input[0] in self.constants
            else:
                view = node.op_type in VIEWS and name not in self.source
            if view:
                self.source[name] = node.input[0]
                self.free.add(name)

    def buffer(self, name: str) -> str:
        """The tensor in whose memory `name` lies."""
        while name in self.source:
            name = self.source[name]
        return name

    def count(self, size: int) -> Count:
        layers: list[LayerCost] = []
        steps: list[Step] = []
        uncovered: Counter[str] = Counter()
        seen: set[str] = set()
        inputs = [value.name for value in real_inputs(self.graph)]
        flow = Flow({name: self.known[name].shape for name in inputs})
        products: set[str] = set()  # buffers that a multiplying operation has written
        for node in self.graph.node:
            if node.output[0] in self.constants or node.output[0] in self.free:
                continue
            reads = tuple(self.buffer(name) for name in node.input if name)
            writes = tuple(self.buffer(name) for name in node.output if name)
            steps.append(Step(reads, writes, node.op_type in POINTWISE | VIEWS))
            learned = self._learned(node) - seen
            seen |= learned
            macs, elements = self._work(node, uncovered)
            look = self._look(node, flow, reads)
            folded = node.op_type == "BatchNormalization" and reads[0] in products
            products.update(writes if macs else ())
            layers.append(
                LayerCost(
                    name=node.name or node.output[0],
                    op=node.op_type,
                    params=sum(prod(self.known[name].shape) for name in learned),
                    macs=macs,
                    elementwise=elements,
                    memory_access_bytes=sum(self.known[name].nbytes for name in reads + writes),
                    output=self.known[node.output[0]].shape,
                    written_bytes=sum(self.known[name].nbytes for name in writes),
                    field=flow.step(reads, writes, look, self.known[node.output[0]].shape, deep=macs > 0),
                    int8_bytes=0 if folded else self._int8_bytes(node, learned),
                )
            )
        sizes = {name: tensor.nbytes for name, tensor in self.known.items() if name not in self.constants}
        ends = [end for end in map(self.buffer, self.results) if end in sizes]
        peak = peak_bytes(steps, sizes, inputs, ends)
        params = sum(layer.params for layer in layers)
        return summary(layers, uncovered, flow, params=params, learning=params, peak=peak, size=size)

    def _learned(self, node: onnx.NodeProto) -> set[str]:
        """The constants that training made: weights and biases, not scales, zero points or sizes."""
        positions: tuple[int, ...] = ()
        if node.op_type in WEIGHTED:
            positions = WEIGHTED[node.op_type][2]
        elif node.op_type in NORMS:
            positions = (1, 2)
        elif node.op_type == "Add" and any(self._is_product(name) for name in node.input):
            positions = (0, 1)  # a bias that the exporter put behind its matrix product or integer layer
        names = {node.input[i] for i in positions if i < len(node.input)} & self.constants
        return {self._stored(name) for name in names}

    def _is_product(self, name: str) -> bool:
        if name in self.writer and self.writer[name].op_type == "MatMul":
            return True
        while name in self.writer and self.writer[name].op_type in ("Cast", "Mul"):  # integers, scaled to floats
            name = self.writer[name].input[0]
        return name in self.writer and self.writer[name].op_type in ("ConvInteger", "MatMulInteger")

    def _stored(self, name: str) -> str:
        """Behind a DequantizeLinear, Identity or Transpose, the constant in the file."""
        while name in self.writer and self.writer[name].op_type in ("DequantizeLinear", "Identity", "Transpose"):
            name = self.writer[name].input[0]
        return name

    def _int8_bytes(self, node: onnx.NodeProto, learned: set[str]) -> int:
        """See Count."""
        shapes = [self.known[name].shape for name in learned]
        if node.op_type in WEIGHTED:
            output = self.known[node.output[0]].shape
            channels = output[1] if "Conv" in node.op_type else output[-1]
            return int8_bytes(((prod(shape), len(shape)) for shape in shapes), channels)
        if node.op_type == "Add" and any(self._is_product(name) for name in node.input):
            return 0  # a bias, which the product has counted
        return 4 * sum(map(prod, shapes))

    def _look(self, node: onnx.NodeProto, flow: Flow, reads: tuple[str, ...]) -> Window:
        """How the output looks at the input."""
        output = self.known[node.output[0]].shape
        if node.op_type in WEIGHTED and "Conv" not in node.op_type:
            return flow.product(reads, output)
        image = self.known[node.input[0]].shape if node.input[0] else ()
        weight = self.known[node.input[WEIGHTED[node.op_type][1]]].shape if node.op_type in WEIGHTED else ()
        return onnx_window(node, image, weight, output)

    def _work(self, node: onnx.NodeProto, uncovered: Counter[str]) -> tuple[int, int]:
        """(MACs, element-wise operations) of one node."""
        output = self.known[node.output[0]].shape
        if node.op_type in WEIGHTED:
            first, second, _ = WEIGHTED[node.op_type]
            image, weight = self.known[node.input[first]].shape, self.known[node.input[second]].shape
            if node.op_type == "ConvTranspose":
                return conv_transpose_macs(image, weight), 0
            if "Conv" in node.op_type:
                return conv_macs(output, weight), 0
            return matmul_macs(image[::-1] if attributes(node).get("transA") else image, output), 0
        if node.op_type in NORMS:
            return 0, 2 * prod(output)
        if node.op_type in POINTWISE | REDUCTIONS:
            return 0, prod(output)
        if node.op_type not in MOVES | VIEWS:
            uncovered[node.op_type] += 1
        return 0, 0


def onnx_window(node: onnx.NodeProto, image: Shape, weight: Shape, output: Shape) -> Window:
    """How the output of a node looks at its first input; a matrix product is not asked for."""
    op, given = node.op_type, attributes(node)
    stride, dilation = given.get("strides", ()), given.get("dilations", ())
    if op == "ConvTranspose":
        return transposed_window(weight[2:], stride, dilation)
    if "Conv" in op:
        return window(weight[2:], stride, dilation)
    if op in ("AveragePool", "MaxPool", "LpPool", "QLinearAveragePool"):
        return window(given["kernel_shape"], stride, dilation)
    if op in ("Resize", "Upsample"):
        return resizing(image[2:], output[2:], {b"linear": 2, b"cubic": 4}.get(given.get("mode", b"nearest"), 1))
    if op in ("DepthToSpace", "SpaceToDepth"):
        block = given["blocksize"]
        return window((block, block), (block, block)) if op == "SpaceToDepth" else Window((0, 0), (1 / block,) * 2)
    if op in ("Softmax", "LogSoftmax"):
        return SAME if given.get("axis", -1) % len(image) == 1 else WHOLE
    if op in REDUCTIONS - {"LRN"} or op in ("InstanceNormalization", "GroupNormalization"):
        channels = len(image) == len(output) and image[:1] + image[2:] == output[:1] + output[2:]
        return SAME if op.startswith(("Reduce", "Arg")) and channels else WHOLE
    if op == "LayerNormalization":
        return SAME if given.get("axis", -1) in (-1, len(image) - 1) else WHOLE
    return SAME if op in POINTWISE | MOVES | VIEWS | NORMS | REDUCTIONS else WHOLE
