"""Cuts the files of all networks of the search space out of the file of the largest.

Building, tracing and converting a network takes seconds. In the largest network every
block has the longest streams and two CBlocks, so the operations of every other network
are some of its own. A file that was cut out has the weights and ranges of the largest
one: it is as large and as fast as a converted one, but its embeddings are of no use.
"""

from __future__ import annotations

import copy
import re

# Flatbuffer classes of the TFLite schema, which TensorFlow does not list as public.
from tensorflow.lite.python import schema_py_generated as schema

from cdnet_tf.nn.genotype import NUM_BLOCKS, Branch, Genotype

_WIDEST = Branch(7, 9, 2)
LARGEST = Genotype((_WIDEST,) * NUM_BLOCKS)
_PLACE = re.compile(r"/block(\d)/cblock(\d)/(?:lite(\d)_(\d)/)?")


class Largest:
    """The calibrated float file of the largest network.

    Args:
      content: bytes of the file; the network must be `networks.build(LARGEST, ...)`,
        rewritten or not.
    """

    def __init__(self, content: bytes) -> None:
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))

    def cut(self, genotype: Genotype) -> bytes:
        """Returns the calibrated float file of any genotype of CDS."""
        sheet = _Sheet(self._model)
        graph = self._model.subgraphs[0]
        for op in graph.operators:
            # If names are joined, the first is that of the operation itself.
            name = graph.tensors[op.outputs[0]].name.decode().partition(";")[0]
            if _belongs(name, genotype):
                sheet.add(op)
            else:
                sheet.leave_out(op)
        return sheet.content()


def _belongs(name: str, genotype: Genotype) -> bool:
    """Whether a genotype has an operation of the largest network, by its name."""
    place = _PLACE.search(name)
    if not place:
        return True
    block, cblock, kernel, lite = place.groups()
    branch = genotype.layers[int(block) - 1]
    if int(cblock) > branch.repeats:
        return False
    return not kernel or int(lite) <= branch.lites[_WIDEST.index(int(kernel))]


class _Sheet:
    """A file that is being assembled from some operations of another."""

    def __init__(self, source) -> None:
        self._source, self._tensors = source, source.subgraphs[0].tensors
        self._model = copy.copy(source)
        self._graph = copy.copy(source.subgraphs[0])
        self._model.subgraphs = [self._graph]
        self._model.buffers = [schema.BufferT()]  # The first buffer must be empty.
        self._model.metadata = self._model.signatureDefs = None
        self._graph.tensors, self._graph.operators = [], []
        self._places: dict[int, int] = {}  # Index there -> index here.
        self._graph.inputs = [self._place(i) for i in self._graph.inputs]

    def add(self, op) -> None:
        """Appends an operation, and the tensors that are still missing."""
        new = copy.copy(op)
        new.inputs = [self._place(i) if i >= 0 else i for i in op.inputs]
        new.outputs = [self._place(i) for i in op.outputs]
        self._graph.operators.append(new)

    def leave_out(self, op) -> None:
        """Lets the readers of an operation read what it would have read itself."""
        self._places[int(op.outputs[0])] = self._place(op.inputs[0])

    def content(self) -> bytes:
        self._graph.outputs = [self._place(i) for i in self._graph.outputs]
        builder = schema.flatbuffers.Builder(2**20)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _place(self, tensor: int) -> int:
        key = int(tensor)
        if key not in self._places:
            new = copy.copy(self._tensors[key])
            values = self._source.buffers[new.buffer]
            new.buffer = 0
            if values.data is not None and len(values.data):
                self._model.buffers.append(values)
                new.buffer = len(self._model.buffers) - 1
            self._places[key] = len(self._graph.tensors)
            self._graph.tensors.append(new)
        return self._places[key]
