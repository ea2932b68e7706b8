"""What a model costs to run, counted over its graph: multiply-accumulates, weights, and memory of activations.

Rules of the count:

* A multiply-accumulate (MAC) is one product that is added to a sum: convolutions, matrix products, recurrent cells.
  Activations, poolings and elementwise operators count nothing. FLOPs, as others state them, are about twice the MACs.
* Memory of activations is the largest sum of tensors that are alive at one time, in the order of the file, for a batch
  of 1: a tensor lives from the operator that writes it to the last one that reads it; inputs from the start, outputs to
  the end. An engine may reuse a buffer in place and need less, or unpack weights and need more.
* What cannot be known (a shape that only a run tells, a branch) is counted apart, never guessed: totals are "at least".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.errors import InputError
from edgeship.model import ModelFacts
from edgeship.targets import child

_STEPS = {"onnx": "edgeship.targets.onnx.cost", "tflite": "edgeship.targets.tflite.cost"}


@dataclass(frozen=True)
class Operation:
    """One operator of a graph."""

    name: str  # of the tensor that it writes
    operator: str
    shape: tuple[int, ...]  # of that tensor; () where it is not known
    macs: int | None  # None where they cannot be known
    weights: int  # elements of its constants
    reads: tuple[str, ...]  # activations
    writes: tuple[str, ...]

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "name": self.name, "operator": self.operator, "shape": list(self.shape), "macs": self.macs,
            "weights": self.weights, "reads": list(self.reads), "writes": list(self.writes),
        }  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """A graph as it is counted."""

    operations: tuple[Operation, ...]
    sizes: Mapping[str, int]  # activation -> bytes, where known
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight_bytes: int

    @property
    def macs(self) -> int:
        """Of all operators that are known."""
        return sum(operation.macs or 0 for operation in self.operations)

    @property
    def unknown(self) -> int:
        """Operators whose MACs or memory cannot be known from the file."""
        return sum(
            operation.macs is None or any(name not in self.sizes for name in operation.writes)
            for operation in self.operations
        )

    @property
    def peak(self) -> tuple[int, str]:
        """(bytes of activations at the worst moment, the tensor that is written then)."""
        return peak(self.operations, self.sizes, self.inputs, self.outputs)


def peak(
    operations: Sequence[Operation], sizes: Mapping[str, int], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[int, str]:
    """The largest sum of live tensors, and the name of the operation that runs then ("" where there is none)."""
    last = {name: index for index, operation in enumerate(operations) for name in operation.reads}
    last |= dict.fromkeys(outputs, len(operations))
    alive = {name: sizes.get(name, 0) for name in inputs}
    best, where = sum(alive.values()), ""
    for index, operation in enumerate(operations):
        alive |= {name: sizes.get(name, 0) for name in operation.writes}
        if (now := sum(alive.values())) > best:
            best, where = now, operation.name
        for name in [*operation.reads, *operation.writes]:
            if last.get(name, index) <= index:
                alive.pop(name, None)
    return best, where


def count(source: ModelFacts) -> Cost | None:
    """The cost of a TFLite or ONNX model; None for other formats, whose graph comes out of a conversion.

    Raises InputError.
    """
    if source.format not in _STEPS:
        return None
    request = {"path": str(source.path.resolve()), "shapes": source.details.get("shapes", {})}
    with child.workspace() as work:
        found = child.run(
            _STEPS[source.format], request, work, limits=child.INSPECT, subject=str(source.path), failure=InputError
        )
    return parse(found)


def parse(data: Mapping[str, Any]) -> Cost:
    """From what a step answered."""
    operations = tuple(
        Operation(
            str(item["name"]), str(item["operator"]), tuple(item["shape"]), item["macs"], int(item["weights"]),
            tuple(item["reads"]), tuple(item["writes"]),
        )
        for item in data["operations"]
    )  # fmt: skip
    return Cost(operations, data["sizes"], tuple(data["inputs"]), tuple(data["outputs"]), int(data["weight_bytes"]))


def product_macs(out: Sequence[int], inner: int) -> int:
    """Of a product whose every output element is a sum over `inner` products."""
    return math.prod(out) * inner
