"""What a search can try: candidates as data, decided from the profile, the source and what the user asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgeship import libraries
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.profile import Profile
from edgeship.reporter import Step
from edgeship.targets import routes
from edgeship.targets.base import UNPACKED, Target
from edgeship.targets.scheme import PRECISIONS, RANGES, Scheme


@dataclass(frozen=True)
class Candidate:
    """One way to make a variant of the source."""

    format: str
    scheme: Scheme
    why: str = ""  # where it came from, in words
    pruned: float = 1.0  # how many times less arithmetic the model that it starts from has; 1: the source itself

    @property
    def name(self) -> str:
        """For people: `tflite int8 percentile`, `pruned 1.5 × tflite int8`."""
        before = "" if self.pruned == 1 else f"pruned {self.pruned:g} × "
        return f"{before}{self.format} {self.scheme.name}"

    @property
    def family(self) -> tuple[str, str, tuple[int, int], float]:
        """What candidates alike in size and speed share: format, precision, layers in float, pruning.

        Of the layers in float those with float weights and those with int8 ones are counted apart.
        """
        return self.format, self.scheme.precision, (len(self.scheme.keep), len(self.scheme.weights_only)), self.pruned

    def step(self, name: str) -> Step:
        """A step of it: sets of as many layers in float go by one name."""
        return Step(name, self.name, self.scheme)

    def mixed(self, keep: Sequence[str], why: str, weights_only: Sequence[str] = ()) -> Candidate:
        """The same with these layers in float, and with those computed in float with int8 weights."""
        scheme = replace(self.scheme, keep=tuple(sorted(keep)), weights_only=tuple(sorted(weights_only)))
        return replace(self, scheme=scheme, why=why)

    def fitted(self, why: str) -> Candidate:
        """The same with its weights fitted to what their layers read."""
        return replace(self, scheme=replace(self.scheme, rounding="fitted"), why=why)


@dataclass(frozen=True)
class Refusal:
    """What cannot be tried, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Wish:
    """What the user limited the search to; empty: everything that the profile's runtime libraries run."""

    formats: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    prune: tuple[float, ...] = ()  # also the model with so many times less arithmetic, pruned and fine-tuned


def first(
    profile: Profile, source: ModelFacts, targets: Mapping[str, Target], wish: Wish
) -> tuple[tuple[Candidate, ...], tuple[Refusal, ...]]:  # fmt: skip
    """The candidates that a search begins with, in the order of the profile's preference.

    Args:
        profile: of the board; its formats come in its order, the source's own first.
        source: the model. One that is quantized already is tried as it is, and nothing else, but for what a target
            makes float again (`UNPACKED`).
        targets: formats that can be built, by name.
        wish: limits.

    Returns:
        candidates, and what was left out with the reason.

    Raises:
        UsageError: an unknown format or precision; nothing can be built.
    """
    formats = _formats(profile, source, targets, wish)
    plain = [name for name in formats if not libraries.carried(profile.build.runtime[name])]
    precisions = _precisions(profile, source, wish)
    out: list[Candidate] = []
    refused: list[Refusal] = []
    for name in formats:
        for precision in precisions:
            reason = routes.text_refused(source, name) or targets[name].reachable(source.format, precision)
            if reason is not None:
                refused.append(Refusal(f"{name} {precision}", reason))
                continue
            for pruned in (1.0, *wish.prune):
                why = _why(profile, precision)
                out += [Candidate(name, scheme, why, pruned) for scheme in schemes(precision, source, name in plain)]
    if not out:
        reasons = routes.told([(r.name, r.why) for r in refused])
        raise UsageError(
            f"{source.path}: nothing can be built for {profile.name} ({reasons})",
            hint=routes.remedy(source.format, formats) or "other --format or --precision; edgeship model inspect MODEL",
        )
    return tuple(out), tuple(refused)


def schemes(precision: str, source: ModelFacts, per_tensor: bool = False) -> tuple[Scheme, ...]:
    """All schemes of a precision that are worth a try.

    `per_tensor`: one scale a weight too, for old runtimes: tflite-runtime 2.14 knows no other for dynamic dense layers.
    """
    if precision == source.precision:
        return (Scheme(precision),)
    if precision == "int8":
        return tuple(Scheme("int8", ranges) for ranges in RANGES)
    if precision == "dynamic" and per_tensor:
        return Scheme(precision), Scheme(precision, per_channel=False)
    return (Scheme(precision),)


def _formats(profile: Profile, source: ModelFacts, targets: Mapping[str, Target], wish: Wish) -> list[str]:
    for name in wish.formats:
        if name not in targets:
            raise UsageError(f"no target builds the format {name!r}", hint=f"known are {', '.join(targets)}")
        if name not in profile.build.formats:
            raise UsageError(
                f"profile {profile.name} has no runtime library for {name}",
                hint=f"it has one for {', '.join(profile.build.formats)}",
            )
    wanted = [name for name in profile.build.formats if name in targets and name in (wish.formats or targets)]
    return preferred_formats(wanted, source)


def preferred_formats(formats: Sequence[str], source: ModelFacts) -> list[str]:
    """The profile's formats in the order in which a push takes them: the source's own first."""
    return sorted(formats, key=lambda name: name != source.format)


def _precisions(profile: Profile, source: ModelFacts, wish: Wish) -> list[str]:
    for name in wish.precisions:
        Scheme(name)  # refuses what is not known
    wanted = wish.precisions or PRECISIONS
    if source.precision not in ("float32", *UNPACKED.get(source.format, ())):
        if wish.precisions and source.precision not in wish.precisions:
            raise UsageError(
                f"{source.path} is {source.precision} already and becomes nothing else",
                hint=f"start from the float model; without --precision it is tried as it is, {source.precision}",
            )
        return [source.precision]
    mine = profile.build.precisions
    return sorted(wanted, key=lambda p: (mine.index(p) if p in mine else len(mine), PRECISIONS.index(p)))


def _why(profile: Profile, precision: str) -> str:
    if precision in profile.build.precisions:
        return f"number {profile.build.precisions.index(precision) + 1} of {profile.name}'s precisions"
    return "what else the runtime library may run"
