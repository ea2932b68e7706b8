"""What is asked of an examination, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeship.dataset import Dataset
from edgeship.model import ModelFacts
from edgeship.optimize.doctor import rules
from edgeship.targets.scheme import Scheme

OK, CONVERT, SOURCE, QUANTIZE, ANSWERS = "ok", rules.CONVERT, "source", rules.QUANTIZE, rules.ANSWERS


@dataclass(frozen=True)
class Limits:
    """How long to look."""

    trials: int = 60  # builds of parts and variants
    seconds: float = 900.0


@dataclass(frozen=True)
class Culprit:
    """What is to blame."""

    layers: tuple[str, ...]  # as `Scheme.keep` takes them
    operator: str
    node: str  # the operator's own name, "" where the format has none
    attributes: Mapping[str, str]
    source_layer: str  # layer of the source framework that it comes from, "" where that is not known
    parts: int  # layers of the smallest part that fails; 1: it fails by itself
    span: tuple[str, ...] = ()  # all of them, in order


@dataclass(frozen=True)
class Tried:
    """One fix: whether it worked, and what came of it."""

    name: str
    scheme: Scheme
    worked: bool
    outcome: str  # why not, or the measures
    command: str  # to type
    repaired: Path | None  # model file that it starts from, where that is no longer the source


@dataclass(frozen=True)
class Diagnosis:
    """What was found."""

    source: ModelFacts
    format: str
    scheme: Scheme
    stage: str  # ok | convert | source | quantize | answers: where it fails
    trouble: str  # in words; "" where all is well
    kind: str  # of `failure.KINDS`, "NaN", "wrong numbers", or ""
    culprit: Culprit | None
    tried: tuple[Tried, ...]
    advice: str  # where no fix worked
    saved: tuple[Path, ...]  # files for a bug report
    reproduce: str  # the command that shows the trouble with them
    trials: int

    @property
    def fix(self) -> Tried | None:
        """The fix that worked."""
        return next((one for one in self.tried if one.worked), None)


@dataclass(frozen=True)
class Request:
    """What is asked of an examination."""

    facts: ModelFacts
    format: str
    scheme: Scheme
    data: Dataset | None
    data_path: Path | None  # for the commands that are printed
    folder: Path  # of variants: the cache
    output: Path | None  # for files; None: a folder beside where the command runs, and only when it is needed
    options: tuple[str, ...] = ()  # of the source, such as --shape x=1,3,48,192, for the commands that are printed
    preparing: tuple[str, ...] = ()  # of its data, such as --normalize 0..1, likewise
