"""Assembles files of new networks from the blocks of a few converted networks.

Building, tracing and converting a network takes seconds. Its file is a list of
operations in which those of a block stand together. So twelve donors, each with a
different branch in all six places, provide the blocks for every network of the search
space. A stitched file has its donors' weights and ranges: it is as large and as fast as
a converted one, but its embeddings are of no use.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

# Flatbuffer classes of the TFLite schema, which TensorFlow does not list as public.
from tensorflow.lite.python import schema_py_generated as schema

_BLOCK = re.compile(r"/block(\d)/")


class Donor:
    """A calibrated float file, with its operations by block.

    Args:
      content: bytes of the file; the network must come from `networks.build`.
    """

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self.graph = self.model.subgraphs[0]

    def block(self, op) -> int | None:
        """Returns the number of an operation's block, 1 to 6, or None without one."""
        # If names are joined, the first is that of the operation itself.
        name = self.graph.tensors[op.outputs[0]].name.decode().partition(";")[0]
        found = _BLOCK.search(name)
        return int(found[1]) if found else None

    def operators(self, block: int) -> list:
        return [op for op in self.graph.operators if self.block(op) == block]

    def is_constant(self, tensor: int) -> bool:
        buffer = self.model.buffers[self.graph.tensors[tensor].buffer]
        return buffer.data is not None and len(buffer.data) > 0


def stitched(blocks: Sequence[Donor]) -> bytes:
    """Returns a calibrated float file that is made of the blocks of several donors.

    Args:
      blocks: the donor of each of the six blocks, all of one width and input size.
        Operations outside of blocks come from the first donor.
    """
    skeleton = blocks[0]
    sheet = _Sheet(skeleton)
    written: set[int] = set()
    for op in skeleton.graph.operators:
        block = skeleton.block(op)
        if block is None:
            sheet.add(skeleton, op)
        elif block not in written:
            written.add(block)
            _splice(sheet, skeleton, blocks[block - 1], block)
    return sheet.content()


def _splice(sheet: _Sheet, skeleton: Donor, donor: Donor, block: int) -> None:
    """Adds a donor's block in the place of the skeleton's."""
    theirs, ours = donor.operators(block), skeleton.operators(block)
    (into,), (expected,) = (
        _entries(each, ops) for each, ops in ((donor, theirs), (skeleton, ours))
    )
    sheet.places[donor, into] = sheet.places[skeleton, expected]
    for op in theirs:
        sheet.add(donor, op)
    # The operations behind the skeleton's block now read the donor's block.
    end = sheet.places[donor, theirs[-1].outputs[0]]
    sheet.places[skeleton, ours[-1].outputs[0]] = end


def _entries(donor: Donor, operators: Sequence) -> set[int]:
    """Returns the tensors that a block gets from outside; there is exactly one."""
    inside = {tensor for op in operators for tensor in op.outputs}
    read = {int(tensor) for op in operators for tensor in op.inputs if tensor >= 0}
    return {each for each in read - inside if not donor.is_constant(each)}


class _Sheet:
    """A file that is being assembled.

    Attributes:
      places: index in the new file of a donor's tensor.
    """

    def __init__(self, skeleton: Donor) -> None:
        self.model = copy.copy(skeleton.model)
        self.graph = copy.copy(skeleton.graph)
        self.model.subgraphs = [self.graph]
        self.model.buffers = [schema.BufferT()]  # The first buffer must be empty.
        self.model.operatorCodes = []
        self.model.metadata = self.model.signatureDefs = None
        self.graph.tensors, self.graph.operators = [], []
        self.places: dict[tuple[Donor, int], int] = {}
        self._codes: dict[tuple[int, int, int], int] = {}
        self._skeleton = skeleton
        self.graph.inputs = [self._place(skeleton, i) for i in skeleton.graph.inputs]

    def add(self, donor: Donor, op) -> None:
        """Appends an operation, and the tensors that are still missing."""
        new = copy.copy(op)
        new.opcodeIndex = self._code(donor.model.operatorCodes[op.opcodeIndex])
        new.inputs = [self._place(donor, i) if i >= 0 else i for i in op.inputs]
        new.outputs = [self._place(donor, i) for i in op.outputs]
        self.graph.operators.append(new)

    def content(self) -> bytes:
        ends = self._skeleton.graph.outputs
        self.graph.outputs = [self.places[self._skeleton, int(i)] for i in ends]
        builder = schema.flatbuffers.Builder(2**20)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _code(self, code) -> int:
        key = code.builtinCode, code.deprecatedBuiltinCode, code.version
        if key not in self._codes:
            self._codes[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self._codes[key]

    def _place(self, donor: Donor, tensor: int) -> int:
        key = donor, int(tensor)
        if key not in self.places:
            new = copy.copy(donor.graph.tensors[tensor])
            if donor.is_constant(tensor):
                self.model.buffers.append(donor.model.buffers[new.buffer])
                new.buffer = len(self.model.buffers) - 1
            else:
                new.buffer = 0
            self.places[key] = len(self.graph.tensors)
            self.graph.tensors.append(new)
        return self.places[key]
