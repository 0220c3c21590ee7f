"""The one way in which a container is refused."""

from swiftlet.errors import BadFile

CODES = {
    "magic": "is not a swiftlet container of version 1 or 2",
    "short": "ends early; download it again",
    "trailing": "goes on after its end",
    "header-size": "has a header of more than the permitted length",
    "header-digest": "was changed: the header's SHA-256 differs; download it again",
    "header-json": "has a header that is not canonical JSON",
    "header-field": "has a header with a field that is missing, unknown or of the wrong type",
    "name": "names a tensor twice, or by a name that is not 1 to 256 bytes of NFC text without control characters",
    "dtype": "holds a tensor of an unknown type",
    "shape": "holds a tensor of more than 8 dimensions, or one that is no size",
    "stream": "declares a stream that cannot be",
    "encoding": "encodes a tensor in a way that cannot be",
    "count": "declares other numbers of symbols for its streams than its tensors need",
    "limit": "unpacks to more than is allowed",
    "chunk-digest": "was changed: the SHA-256 of a chunk differs; download it again",
    "table": "has a table of frequencies that cannot be",
    "ans": "holds a coded stream that does not end where it must",
    "deflate": "holds a deflated stream that is damaged or of another length than declared",
    "codebook": "has a codebook with a value twice or too large, or an index beyond it",
    "gaps": "has gaps between weights that do not add up",
    "content-digest": "unpacks to something else than was packed",
}

HEADER_AT = 20  # where a container's header begins


class ContainerError(BadFile):
    """A container that is refused: `code`, one of CODES, and the byte `offset` of what is at fault."""

    def __init__(self, code: str, offset: int, name: str = "the container") -> None:
        super().__init__(f"{name} {CODES[code]} ({code} at byte {offset:,})")
        self.code, self.offset = code, offset
