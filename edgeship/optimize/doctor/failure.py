"""What went wrong, told apart well enough to recognise it in a part of the model. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass

from edgeship.errors import EdgeshipError

#: Kind -> what a message of it looks like; the first that fits.
KINDS = (
    ("crash", r"was killed by|ended with status"), ("hang", r"did not end within|processor time and was stopped"),
    ("memory", r"needs more memory"), ("refused", r"the engine refuses|cannot be served"),
    ("left in float", r"of the weights became"), ("wrong state", r"answers the same sample differently"),
    ("converter", r""),
)  # fmt: skip

ALIKE = 0.6  # share of the words that two messages have in common, in order


@dataclass(frozen=True)
class Failure:
    """A build that failed."""

    kind: str
    message: str

    def same(self, other: Failure, operators: Collection[str] = ()) -> bool:
        """Whether it is the same trouble, in a part of the same model, which has these operators.

        A tool's checker and the engine say the same thing in other words: there, both have to name the same operator. A
        crash says nothing: a part whose operator the engine refuses by name is what the whole died of.
        """
        if (self.kind, other.kind) == ("refused", "crash"):
            return bool(_named(self.message, operators))
        if self.kind != other.kind:
            both = {self.kind, other.kind} <= {"refused", "converter"}
            return both and bool(_named(self.message, operators) & _named(other.message, operators))
        if self.kind in ("crash", "hang", "memory", "left in float"):
            return True
        one, two = _bare(self.message), _bare(other.message)
        return difflib.SequenceMatcher(None, one, two).ratio() >= ALIKE


def of(error: EdgeshipError) -> Failure:
    """The failure that an error tells of."""
    message = str(error)
    return Failure(next(kind for kind, pattern in KINDS if re.search(pattern, message)), message)


def _named(message: str, operators: Collection[str]) -> set[str]:
    return set(re.findall(r"\w+", message)).intersection(operators)


def _bare(message: str) -> list[str]:
    """The words of a message without what differs from model to model, and without the tools' own preamble."""
    text = re.sub(r"^\S+: ", "", message.split("\n", 1)[0])
    text = re.split(r"refuses the model:|failed: ?|Status Message:", text)[-1]
    return re.findall(r"[A-Za-z]{2,}", re.sub(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|\S*/\S*/\S*|\d+", " ", text))[:60]
