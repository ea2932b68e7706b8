"""A student's configuration out of a teacher's: fewer channels by width, fewer repeated blocks by depth.

Channels that are tied together (`prune.channels`) shrink alike; inputs, outputs and what is not understood keep theirs.

Depth: a network is a chain of *segments* between tensors that everything passes through; a residual block is one
segment, a plain layer too. A *block* is a segment that computes and the segments behind it that only normalize or
activate. Where the same unit of one to four blocks follows itself, that is a stage, and its later units can be left
out: what goes in and what comes out of them has one shape. What only the last block of a stage has behind it, such as
the last normalization of a transformer, is no part of it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeship.errors import ConversionError
from edgeship.optimize.prune import choose, cut
from edgeship.optimize.prune.channels import Channels
from edgeship.optimize.prune.network import Call, Network, Ref

_UNIT = 4  # blocks of a unit, at most
_COMPUTES = ("Conv", "Dense", "LSTM", "GRU", "Attention", "RNN")  # parts of the names of classes
_SAYS = ("filters", "units", "kernel_size", "strides", "dilation_rate", "groups", "activation", "axis", "pool_size")


@dataclass(frozen=True)
class Block:
    """Calls from one tensor that everything passes through to another."""

    entry: Ref
    exit: Ref
    calls: tuple[Call, ...]
    signature: tuple[Any, ...]


def narrower(config: Mapping[str, Any], channels: Channels, width: float) -> dict[str, Any]:
    """The configuration with this part of the channels, in the steps that pruning takes too."""
    kept = {}
    for number, group in channels.free.items():
        by = choose.step(group.size)
        count = min(group.size, max(by, by * round(width * group.size / by)))
        kept[number] = np.arange(count)
    return cut.configuration(config, channels, kept)


def repeats(network: Network) -> list[list[Block]]:
    """The stages: units that follow themselves, each as one block."""
    blocks = list(_blocks(network))
    stages: list[list[Block]] = []
    at = 0
    while at < len(blocks):
        size, count = _longest(blocks, at)
        if count > 1:
            units = [blocks[at + i * size : at + (i + 1) * size] for i in range(count)]
            stages.append([_joined(unit) for unit in units])
        at += size * count
    return stages


def shallower(config: Mapping[str, Any], network: Network, depth: float) -> tuple[dict[str, Any], list[str]]:
    """The configuration with this part of each stage's units, the first ones; and the layers that are gone.

    Raises ConversionError: the model repeats nothing.
    """
    stages = repeats(network)
    dropped = [block for units in stages for block in units[max(1, round(depth * len(units))) :]]
    if not dropped:
        found = ", ".join(f"{len(units)} of {len(units[0].calls)} layers" for units in stages) or "none"
        raise ConversionError(
            f"a depth of {depth:g} leaves out nothing: repeated blocks of this model are {found}",
            hint="make it narrower with --width, or give a student of your own with --student",
        )
    gone = {call.layer for block in dropped for call in block.calls}
    instead = {block.exit: block.entry for block in dropped}
    new = copy.deepcopy(dict(config))
    inner = new["config"]
    inner["layers"] = [item for item in inner["layers"] if str(item.get("name")) not in gone]
    for item in inner["layers"]:
        item["inbound_nodes"] = _rewired(item.get("inbound_nodes") or [], instead)
    inner["output_layers"] = _moved(inner["output_layers"], instead)
    return new, sorted(gone)


# ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _segments(network: Network) -> Iterator[tuple[Ref, Ref, tuple[Call, ...]]]:
    """Between tensors that are, at some moment, all that is still needed."""
    uses = Counter(ref for call in network.calls for ref in call.inputs)
    uses.update(network.outputs)
    live: Counter[Ref] = Counter()
    entry: Ref | None = None
    calls: list[Call] = []
    for call in network.calls:
        live.subtract(call.inputs)
        live[call.output] = uses[call.output]
        live = Counter({ref: count for ref, count in live.items() if count > 0})
        calls.append(call)
        if set(live) == {call.output}:
            if entry is not None:
                yield entry, call.output, tuple(calls)
            entry, calls = call.output, []


def _blocks(network: Network) -> Iterator[Block]:
    """The blocks; one that begins as one of the few before it is ends there, and what it has more is its own."""
    before: list[Block] = []
    for segments in _grouped(network):
        whole = _block(network, segments)
        begins = [_block(network, segments[:count]) for count in range(len(segments) - 1, 0, -1)]
        earlier = {block.signature for block in before[-_UNIT:]}
        same = next((block for block in begins if block.signature in earlier), None)
        if same is None or whole.signature in earlier:
            before.append(whole)
            yield whole
            continue
        before.append(same)
        yield same
        yield _block(network, [s for s in segments if not set(s[2]) & set(same.calls)])


def _grouped(network: Network) -> Iterator[list[tuple[Ref, Ref, tuple[Call, ...]]]]:
    """Segments that make a block."""
    waiting: list[tuple[Ref, Ref, tuple[Call, ...]]] = []
    for segment in _segments(network):
        shapes = network.shape(segment[0]), network.shape(segment[1])
        if waiting and (_computes(network, segment[2]) or shapes[0] != shapes[1]):
            yield waiting
            waiting = []
        waiting.append(segment)
    if waiting:
        yield waiting


def _computes(network: Network, calls: Sequence[Call]) -> bool:
    return any(part in network.layers[call.layer].kind for call in calls for part in _COMPUTES)


def _block(network: Network, segments: Sequence[tuple[Ref, Ref, tuple[Call, ...]]]) -> Block:
    calls = tuple(call for _, _, calls in segments for call in calls)
    signature: tuple[Any, ...] = tuple(
        (network.layers[call.layer].kind, network.shape(call.output),
         tuple(repr(network.layers[call.layer].config.get(key)) for key in _SAYS))
        for call in calls
    )  # fmt: skip
    if len({call.layer for call in calls}) < len(calls) or any(call.node for call in calls):
        signature = ((object(),), *signature)  # a layer that is called again equals nothing
    return Block(segments[0][0], segments[-1][1], calls, signature)


def _joined(unit: Sequence[Block]) -> Block:
    return Block(unit[0].entry, unit[-1].exit, tuple(call for block in unit for call in block.calls), ())


def _longest(blocks: Sequence[Block], at: int) -> tuple[int, int]:
    """(blocks of the unit, how often it follows itself) from here: what covers most, then the smallest unit."""
    best = (1, 1)
    for size in range(1, _UNIT + 1):
        unit = [block.signature for block in blocks[at : at + size]]
        count = 1
        while [b.signature for b in blocks[at + count * size : at + (count + 1) * size]] == unit and len(unit) == size:
            count += 1
        if count > 1 and size * count > best[0] * best[1]:
            best = size, count
    return best


# ── rewiring ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _at(ref: Ref, instead: Mapping[Ref, Ref]) -> Ref:
    while ref in instead:
        ref = instead[ref]
    return ref


def _rewired(value: Any, instead: Mapping[Ref, Ref]) -> Any:
    """Arguments of calls with tensors that are gone replaced by what went into their block."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            layer, node, tensor = _at(tuple(value["config"]["keras_history"]), instead)
            return {**value, "config": {**value["config"], "keras_history": [layer, node, tensor]}}
        return {key: _rewired(item, instead) for key, item in value.items()}
    return [_rewired(item, instead) for item in value] if isinstance(value, (list, tuple)) else value


def _moved(value: Any, instead: Mapping[Ref, Ref]) -> Any:
    """`output_layers`, likewise."""
    if isinstance(value, dict):
        return {key: _moved(item, instead) for key, item in value.items()}
    if not isinstance(value, (list, tuple)):
        return value
    if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
        return list(_at((value[0], value[1], value[2]), instead))
    return [_moved(item, instead) for item in value]
