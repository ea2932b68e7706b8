"""Which layers of a model a user means: by the names of the tensors that they write, or by shorter ones.

Reports and searches tell a layer's name in its source, alone or with its operator, "conv2d_1 (CONV_2D)": either is
taken as long as one layer alone has it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeship.errors import UsageError

P = TypeVar("P")

_TOLD = re.compile(r"(?P<name>.+) \((?P<operator>[^()]+)\)")
_SHOWN = 6  # candidates that a message names


@dataclass(frozen=True)
class Known(Generic[P]):
    """One operator, and what it goes by.

    Attributes:
        place: what stands for it in the model.
        operator: the format's word: CONV_2D, Gemm.
        names: that no other operator has; the first is told to people.
        source: its layer in the source, which others may come of too.
        parts: of its names, which others may hold too.
        listed: whether it is a layer to a search. Of several operators of one short name only those count, if any is.
    """

    place: P
    operator: str
    names: tuple[str, ...]
    source: str
    parts: frozenset[str] = frozenset()
    listed: bool = True


def told(name: str, operator: str) -> str:
    """A layer for people, as `chosen` takes it."""
    return f"{name} ({operator})"


def chosen(wanted: Collection[str], known: Sequence[Known[P]], where: str) -> list[P]:
    """The place of each of `wanted`.

    Args:
        wanted: names, whole or short, or as `told` gives them.
        known: the operators of the model.
        where: "the float TFLite model", for messages.

    Raises:
        UsageError: a name that no operator has, with those that are close; or one that several have, with theirs.
    """
    whole = {name: one for one in known for name in one.names}
    return [whole[name].place if name in whole else _by_short(name, known, where).place for name in wanted]


def _by_short(name: str, known: Sequence[Known[P]], where: str) -> Known[P]:
    found = _called(name, known)
    if not found and (words := _TOLD.fullmatch(name)) is not None:
        of_kind = [one for one in known if one.operator == words["operator"]]
        found = [one for one in of_kind if words["name"] in one.names] or _called(words["name"], of_kind)
    found = [one for one in found if one.listed] or found
    if len(found) == 1:
        return found[0]
    if not found:
        names = dict.fromkeys(word for one in known for word in (*one.names, one.source, *sorted(one.parts)))
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        raise UsageError(
            f"no layer is called {name!r}" + (f"; did you mean {' or '.join(map(repr, close))}?" if close else ""),
            hint=f"layers go by the tensors that they write in {where}, or by names of the source that no other "
            "layer has",
        )
    shown = [told(repr(one.names[0]), one.operator) for one in found[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise UsageError(
        f"{len(found)} layers go by {name!r}: {', '.join(shown)}{more}",
        hint="give the whole name of the one that is meant, or of each of them",
    )


def _called(name: str, known: Sequence[Known[P]]) -> list[Known[P]]:
    """Those of this short name: in the source, else in parts of their names, else as a stretch of a path in either."""
    tiers = (
        lambda one: one.source == name,
        lambda one: name in one.parts,
        lambda one: any(f"/{name}/" in f"/{path}/" for path in (one.source, *one.names, *one.parts)),
    )
    return next(filter(None, ([one for one in known if tier(one)] for tier in tiers)), [])
