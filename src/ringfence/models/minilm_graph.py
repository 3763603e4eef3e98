"""The network of all-MiniLM-L6-v2 as an ONNX file in memory, written without the `onnx` package.

The graph names its weights as the official safetensors file does and holds none of them: onnxruntime gets them as
external initializers over the memory-mapped file. It takes one text at a time, so it needs neither padding nor a mask.

ONNX files are protocol buffers; the field numbers below are those of `onnx.proto3` (https://github.com/onnx/onnx).
"""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LAYERS = 6
HEADS = 12
DIMENSIONS = 384
HEAD_DIMENSIONS = DIMENSIONS // HEADS
EPSILON = 1e-12
"""`num_hidden_layers`, `num_attention_heads`, `hidden_size` and `layer_norm_eps` of the model's config.json."""

OPSET = 20
IR_VERSION = 9
"""The first opset with Gelu, and the file format that came with it."""

_FLOAT, _INT64 = 1, 7
_EXTERNAL = 1

type Attribute = int | float | tuple[int, ...]


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Map the float32 tensors of a safetensors file into memory, read-only, by name.

    Raises:
        OSError, ValueError, KeyError: the file can't be read or is not a safetensors file.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    return {
        name: data[start + tensor["data_offsets"][0] : start + tensor["data_offsets"][1]]
        .view(np.float32)
        .reshape(tensor["shape"])
        for name, tensor in header.items()
        if name != "__metadata__" and tensor["dtype"] == "F32"
    }


def build(weights: Mapping[str, NDArray[np.float32]]) -> tuple[bytes, list[str]]:
    """Write the model: `ids` (tokens) int64 in, `vector` (384) float32 of length 1 out.

    Returns:
        The ONNX file, and the names of the weights that it expects as external initializers.

    Raises:
        KeyError: a weight is missing.
    """
    graph = _Graph(weights)
    hidden = _embeddings(graph)
    for layer in range(LAYERS):
        hidden = _layer(graph, hidden, f"encoder.layer.{layer}.")
    mean = graph.add("ReduceMean", hidden, graph.ints("axis", [0]), keepdims=0)
    graph.add("LpNormalization", mean, output="vector", axis=-1, p=2)
    return graph.model(), graph.external


def _embeddings(graph: "_Graph") -> str:
    """Word + position + type of the first segment, normalised."""
    prefix = "embeddings."
    zero = graph.ints("zero", [0])
    words = graph.add("Gather", graph.weight(prefix + "word_embeddings.weight"), "ids")
    positions = graph.add(
        "Slice", graph.weight(prefix + "position_embeddings.weight"), zero, graph.add("Shape", "ids"), zero
    )
    segment = graph.add("Gather", graph.weight(prefix + "token_type_embeddings.weight"), zero)
    return _normalised(graph, graph.add("Add", words, positions), segment, prefix + "LayerNorm")


def _layer(graph: "_Graph", hidden: str, prefix: str) -> str:
    """One BERT layer: attention and a feed-forward network, each added to its input and normalised."""
    attended = _attention(graph, hidden, prefix + "attention.self.")
    projected = _linear(graph, attended, prefix + "attention.output.dense")
    hidden = _normalised(graph, projected, hidden, prefix + "attention.output.LayerNorm")
    widened = graph.add("Gelu", _linear(graph, hidden, prefix + "intermediate.dense"))
    narrowed = _linear(graph, widened, prefix + "output.dense")
    return _normalised(graph, narrowed, hidden, prefix + "output.LayerNorm")


def _attention(graph: "_Graph", hidden: str, prefix: str) -> str:
    """Scaled dot-product attention, softmax(q·kᵀ/√d)·v for each head, over the tokens of one text."""
    by_head = graph.ints("by_head", [0, HEADS, HEAD_DIMENSIONS])

    def heads(name: str, axes: tuple[int, ...]) -> str:
        return graph.add("Transpose", graph.add("Reshape", _linear(graph, hidden, prefix + name), by_head), perm=axes)

    query, key, value = heads("query", (1, 0, 2)), heads("key", (1, 2, 0)), heads("value", (1, 0, 2))
    scale = graph.floats("scale", HEAD_DIMENSIONS**-0.5)
    weights = graph.add("Softmax", graph.add("Mul", graph.add("MatMul", query, key), scale), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, value), perm=(1, 0, 2))
    return graph.add("Reshape", mixed, graph.ints("flat", [0, DIMENSIONS]))


def _linear(graph: "_Graph", value: str, prefix: str) -> str:
    return graph.add("Gemm", value, graph.weight(prefix + ".weight"), graph.weight(prefix + ".bias"), transB=1)


def _normalised(graph: "_Graph", value: str, residual: str, prefix: str) -> str:
    total = graph.add("Add", value, residual)
    scale, bias = graph.weight(prefix + ".weight"), graph.weight(prefix + ".bias")
    return graph.add("LayerNormalization", total, scale, bias, axis=-1, epsilon=EPSILON)


class _Graph:
    """Collects nodes and constants, and writes them as an ONNX ModelProto."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}
        self.external: list[str] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Attribute) -> str:
        """Append a node with one output; returns that output's name."""
        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(
            b"".join(_field(1, name) for name in inputs)
            + _field(2, output)
            + _field(4, operator)
            + b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())
        )
        return output

    def weight(self, name: str) -> str:
        """A tensor whose bytes the session is given apart."""
        shape = self._weights[name].shape
        location = _field(13, _field(1, "location") + _field(2, "safetensors"))
        self._constants[name] = _tensor(name, _FLOAT, shape) + location + _field(14, _EXTERNAL)
        self.external.append(name)
        return name

    def ints(self, name: str, values: Sequence[int]) -> str:
        """A constant list of integers."""
        self._constants[name] = _tensor(name, _INT64, [len(values)]) + _field(
            9, struct.pack(f"<{len(values)}q", *values)
        )
        return name

    def floats(self, name: str, value: float) -> str:
        """A constant number."""
        self._constants[name] = _tensor(name, _FLOAT, []) + _field(9, struct.pack("<f", value))
        return name

    def model(self) -> bytes:
        """The finished ModelProto."""
        graph = (
            b"".join(_field(1, node) for node in self._nodes)
            + _field(2, "all-minilm-l6-v2")
            + b"".join(_field(5, constant) for constant in self._constants.values())
            + _field(11, _value_info("ids", _INT64, _field(2, "tokens")))
            + _field(12, _value_info("vector", _FLOAT, _field(1, DIMENSIONS)))
        )
        return _field(1, IR_VERSION) + _field(8, _field(2, OPSET)) + _field(7, graph)


def _varint(value: int) -> bytes:
    """A protocol buffer's integer; negative ones in two's complement of 64 bits."""
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, value: float | str | bytes) -> bytes:
    """A field of a message: an integer, a 32-bit float, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value: Attribute) -> bytes:
    """An AttributeProto of type INT (2), FLOAT (1) or INTS (7)."""
    head = _field(1, name)
    if isinstance(value, int):
        return head + _field(3, value) + _field(20, 2)
    if isinstance(value, float):
        return head + _field(2, value) + _field(20, 1)
    return head + b"".join(_field(8, item) for item in value) + _field(20, 7)


def _tensor(name: str, kind: int, shape: Sequence[int]) -> bytes:
    """A TensorProto without its data."""
    return b"".join(_field(1, size) for size in shape) + _field(2, kind) + _field(8, name)


def _value_info(name: str, kind: int, dimension: bytes) -> bytes:
    """A ValueInfoProto of one dimension."""
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, _field(1, dimension))))
