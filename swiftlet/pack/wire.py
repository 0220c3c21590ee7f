"""A look at a protobuf file's outline before it is parsed.

Parsing turns two bytes of an empty nested message into a hundred bytes of memory, so a file of permitted length can
still fill a machine. Weights are stored as raw bytes, one for one; what else a file holds is small in every real
network. So: walk the outline without copying, sum the lengths of the raw bytes, and bound the rest.
"""

from collections.abc import Iterator

from swiftlet.errors import BadFile

MAX_STRUCTURE = 16_000_000  # bytes that are not weights; 20,000 nodes with long names take 6 million
MAX_FIELDS = 1_000_000  # of the levels walked: model, graph, nodes with their attributes, initializers

# field numbers that lead to numbers stored one for one: graph, initializer, node, attribute, tensor (see onnx.proto)
PATHS = {"model": {7: "graph"}, "graph": {5: "tensor", 1: "node"}, "node": {5: "attribute"}, "attribute": {5: "tensor"}}
BROKEN = "not an ONNX file, or cut short; export or download it again"
WEIGHTS = (4, 9, 10)  # of a tensor: float_data (packed), raw_data, double_data (packed)


def check_wire(data: bytes) -> None:
    """Raise BadFile if the bytes are no protobuf message, or hold more structure than a network has."""
    weights = seen = 0
    todo = [("model", 0, len(data))]
    while todo:
        kind, start, end = todo.pop()
        for field, low, high in fields(data, start, end):
            seen += 1
            if kind == "tensor":
                weights += high - low if field in WEIGHTS else 0
            elif field in PATHS[kind]:
                todo.append((PATHS[kind][field], low, high))
            if seen > MAX_FIELDS:
                raise BadFile(f"more than {MAX_FIELDS:,} fields; no image network has that many")
    if len(data) - weights > MAX_STRUCTURE:
        raise BadFile(
            f"{len(data) - weights:,} bytes besides weights; the limit is {MAX_STRUCTURE:,}. Save large constants as "
            "raw float data"
        )


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of each field of the message in data[start:end]; numbers have no length."""
    position = start
    while position < end:
        tag, position = _varint(data, position, end)
        length = 0
        match tag & 7:
            case 0:
                _, position = _varint(data, position, end)
            case 1:
                position += 8
            case 5:
                position += 4
            case 2:
                length, position = _varint(data, position, end)
            case _:
                raise BadFile(BROKEN)
        if position + length > end:
            raise BadFile(BROKEN)
        yield tag >> 3, position, position + length
        position += length


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
    raise BadFile(BROKEN)
