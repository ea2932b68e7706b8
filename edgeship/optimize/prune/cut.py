"""The configuration and weights of a network with fewer channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.optimize.prune.channels import Channels, Kept

Weights = Mapping[tuple[str, str], NDArray[Any]]  # (layer, attribute) -> values


def configuration(config: Mapping[str, Any], channels: Channels, kept: Kept) -> dict[str, Any]:
    """The serialized model with its layers' sizes set to what stays; shapes are left for Keras to work out."""
    new = copy.deepcopy(dict(config))
    new.pop("build_config", None)
    new.pop("compile_config", None)
    layers = {str(item.get("name") or item["config"]["name"]): item for item in new["config"]["layers"]}
    for item in layers.values():
        _unbuilt(item)
    for edit in channels.edits:
        count = len(channels.indices(edit.layout, kept))
        *outer, key = edit.key.split(".")
        settings = layers[edit.layer]["config"]
        for name in outer:
            settings = settings[name]
        if edit.index is None:
            settings[key] = count
        else:
            values = list(settings[key])
            values[edit.index] = count
            settings[key] = values
    return new


def _unbuilt(value: Any) -> None:
    """Forget the shapes that layers, those within wrappers too, were built for: Keras would build them so again."""
    if isinstance(value, dict):
        value.pop("build_config", None)
        for each in value.values():
            _unbuilt(each)
    elif isinstance(value, list):
        for each in value:
            _unbuilt(each)


def weights(old: Weights, channels: Channels, kept: Kept) -> dict[tuple[str, str], NDArray[Any]]:
    """What stays of each weight."""
    new = dict(old)
    for cut in channels.cuts:
        key = cut.layer, cut.weight
        new[key] = np.take(new[key], channels.indices(cut.layout, kept), axis=cut.axis)
    return new


def silenced(old: Weights, channels: Channels, kept: Kept) -> dict[tuple[str, str], NDArray[Any]]:
    """The old weights where what goes is read with zeros: such a model answers exactly like the smaller one."""
    new = dict(old)
    for cut in channels.cuts:
        if cut.reads:
            key = cut.layer, cut.weight
            mask = np.zeros(new[key].shape[cut.axis], new[key].dtype)
            mask[channels.indices(cut.layout, kept)] = 1
            shape = [1] * new[key].ndim
            shape[cut.axis] = -1
            new[key] = new[key] * mask.reshape(shape)
    return new
