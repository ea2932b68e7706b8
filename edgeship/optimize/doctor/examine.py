"""The examination: build what was asked for, find what fails, try the known fixes, save what cannot be mended.

Stages, in order, as a build goes: convert (to a float model of the format), the source's own numbers, quantize,
answers. The first that fails is diagnosed. Everything is tried in children; what a trial needs of an earlier one comes
out of the cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeship import wording
from edgeship.dataset import Dataset
from edgeship.errors import EdgeshipError, UsageError
from edgeship.model import ModelFacts
from edgeship.optimize import gate
from edgeship.optimize.compare.graph import Graph
from edgeship.optimize.compare.perform import Comparison, compare
from edgeship.optimize.compare.side import layers
from edgeship.optimize.doctor import bisect, rules
from edgeship.optimize.doctor.commandline import command
from edgeship.optimize.doctor.diagnosis import (
    ANSWERS,
    CONVERT,
    OK,
    QUANTIZE,
    SOURCE,
    Culprit,
    Diagnosis,
    Limits,
    Request,
    Tried,
)
from edgeship.optimize.doctor.failure import Failure
from edgeship.optimize.doctor.shorten import Truncated, copied, truncated
from edgeship.optimize.doctor.suspects import found_layers, ranked, source_layer
from edgeship.optimize.doctor.trial import SAMPLES, Bench, Clock, Part, build, mended, save
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.sensitivity import rank
from edgeship.reporter import Reporter, Step
from edgeship.targets import answers, child, registry, routes
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme

MIN_SHARE = 0.5  # of the weights that a fix must leave int8, where int8 was asked for: else it is none
MAX_KEPT_TRIALS = 12
LIMITS = Limits()
JUDGED = 200  # samples at most that answers are judged on


def examine(request: Request, reporter: Reporter, limits: Limits = LIMITS) -> Diagnosis:
    """Diagnose.

    Raises:
        UsageError: what is asked for makes no sense: no route to the format, no data where it is needed.
        InputError: the source or its data cannot be read.
    """
    step = Step("doctor", f"{request.facts.path.name} {request.format} {request.scheme.name}")
    reporter.started(step)
    clock = Clock(limits.trials, limits.seconds, reporter, step)
    with child.workspace() as work:
        found = _Examination(request, clock, work, reporter).run()
    reporter.finished(step, f"{found.stage}, {wording.counted(found.trials, 'trial')}")
    return found


class _Examination:
    def __init__(self, request: Request, clock: Clock, work: Path, reporter: Reporter) -> None:
        self.request, self.clock, self.work, self.reporter = request, clock, work, reporter
        self.float: ModelFacts | None = None  # the float model of the format, once there is one

    def run(self) -> Diagnosis:
        r = self.request
        plain = Scheme(r.facts.precision)
        self.clock.count()
        made = build(r.facts, r.format, plain, None, r.folder)
        if isinstance(made, Failure):
            return self._broken(CONVERT, made, plain)
        self.float = registry.inspect(made.path)
        if (trouble := self._source(made)) is not None:
            return trouble
        if r.scheme.precision == r.facts.precision:
            return self._diagnosis(OK, "", "", None, (), "", (), "")
        self.clock.count()
        variant = build(r.facts, r.format, r.scheme, r.data, r.folder)
        if isinstance(variant, Failure):
            return self._broken(QUANTIZE, variant, r.scheme)
        return self._judged(variant)

    # ── the float model's own numbers ──

    def _source(self, plain: Variant) -> Diagnosis | None:
        """NaN in the float model already, or a conversion that computes something else; None where neither is."""
        data = self._few()
        if data is None:
            return None
        if all(np.isfinite(array).all() for array in answers.of_variant(plain, data)):
            verdict = gate.check(self.request.facts, plain, data)
            if verdict.passed:
                return None
            return self._diagnosis(CONVERT, verdict.reason, "wrong numbers", None, (), "try the other format", (), "")
        assert self.float is not None
        found = self._compare(self.float, self.float)
        broken = [row for row in found.layers if row.difference is not None and row.difference.nan_a]
        where, culprit = "an output", None
        if broken:
            where = f"{broken[0].label} ({broken[0].a.operator})"
            culprit = self._culprit(self.float.path, found_layers(found), (broken[0].a.name,))
        text = f"the float model itself gives NaN or infinity, from {where} on"
        advice = (
            "mend it where it was trained: its weights diverged, or this operator is given what it has no value for"
        )
        return self._diagnosis(SOURCE, text, "NaN", culprit, (), advice, (), "")

    def _compare(self, a: ModelFacts, b: ModelFacts) -> Comparison:
        return compare(a, b, self._few(), self.request.folder, Reporter())

    def _few(self) -> Dataset | None:
        data = self.request.data
        return None if data is None else data.take(JUDGED, 0)

    # ── a build that fails ──

    def _broken(self, stage: str, trouble: Failure, scheme: Scheme) -> Diagnosis:
        r = self.request
        path = r.facts.path if self.float is None else self.float.path
        if self.float is None and r.facts.format != r.format:
            try:  # what the converter made, where it made something that then fails
                path = routes.float_model(r.facts, r.format, r.folder, Reporter())
            except EdgeshipError:
                return self._no_parts(stage, trouble)
        graph = layers(r.format, path)
        samples = None if r.data is None else r.data.take(SAMPLES, 0)
        place = self.work / "parts"
        place.mkdir()
        bench = Bench(path, r.format, graph, scheme, trouble, samples, r.folder, place, self.clock)
        found = bisect.smallest(graph, bench.fails, most=self.clock.most)
        part: Part | None = None
        culprit = None
        if found is not None:
            try:
                part = bench.part(found.cut)
                culprit = self._named(part, found.cut.layers)
            except EdgeshipError:
                part = None
        names = () if culprit is None else culprit.layers
        tried = self._fixes(stage, names, None if culprit is None else culprit.operator)
        return self._settled(stage, trouble, culprit, tried, part, scheme)

    def _no_parts(self, stage: str, trouble: Failure) -> Diagnosis:
        """A source that another tool converts: a Keras model is shortened, then the other format is tried."""
        r = self.request
        found: Truncated | None = None
        if r.facts.format == "keras":
            place = self.work / "truncated"
            place.mkdir()
            samples = None if r.data is None else r.data.take(SAMPLES, 0)
            found = truncated(r.facts, r.format, samples, place, self.clock)
        tried = self._other_format()
        fixed = any(one.worked for one in tried)
        saved: tuple[Path, ...] = ()
        reproduce, culprit = "", None
        if found is not None:
            culprit = Culprit(
                (found.layer,), found.kind, "", found.attributes, found.layer, 1 if found.alone else found.before + 1,
            )  # fmt: skip
            if found.alone and (not fixed or r.output is not None):
                saved = copied(found.files, self._output())
                out = saved[0].with_name(f"again.{r.format}")
                reproduce = command(saved[0], r.format, Scheme("float32"), None, out)
        advice = "" if fixed else rules.advice(trouble)
        return self._diagnosis(stage, trouble.message, trouble.kind, culprit, tried, advice, saved, reproduce)

    def _other_format(self) -> tuple[Tried, ...]:
        """The same source and scheme in the other formats that it reaches."""
        out = []
        for name in registry.targets():
            if name == self.request.format or routes.unreachable(self.request.facts.format, name) is not None:
                continue
            other = _Examination(
                dataclasses.replace(self.request, format=name), self.clock, self.work, self.reporter
            )  # fmt: skip
            try:
                worked, outcome = other._works(self.request.facts, self.request.scheme)
            except bisect.LimitReachedError:
                break
            file = Path(f"{self.request.facts.path.stem}-fixed.{name}")
            target = file if self.request.output is None else self.request.output / file
            r = self.request
            text = self._command(r.facts.path, name, r.scheme, target)
            out.append(Tried(f"{name} instead", self.request.scheme, worked, outcome, text if worked else "", None))
        return tuple(out)

    def _settled(
        self, stage: str, trouble: Failure, culprit: Culprit | None, tried: tuple[Tried, ...], part: Part | None,
        scheme: Scheme,
    ) -> Diagnosis:  # fmt: skip
        fixed = any(one.worked for one in tried)
        saved: tuple[Path, ...] = ()
        reproduce = ""
        if part is not None and (not fixed or self.request.output is not None):
            saved = save(part, self._output())
            data = saved[1] if len(saved) > 1 else None
            out = saved[0].with_name(f"again.{self.request.format}")
            reproduce = command(saved[0], self.request.format, dataclasses.replace(scheme, keep=()), data, out)
        advice = "" if fixed else rules.advice(trouble)
        return self._diagnosis(stage, trouble.message, trouble.kind, culprit, tried, advice, saved, reproduce)

    def _named(self, part: Part, names: tuple[str, ...]) -> Culprit:
        """The last layer of the smallest failing part is the one to name."""
        last = part.nodes[-1]
        return Culprit(
            (str(last["name"]),), str(last["operator"]), str(last["node"]),
            {str(k): str(v) for k, v in last["attributes"].items()}, source_layer(str(last["name"]), str(last["node"])),
            len(names), names,
        )  # fmt: skip

    # ── numbers that are wrong ──

    def _judged(self, variant: Variant) -> Diagnosis:
        """A variant that was built: the gate's word on its answers."""
        r, data = self.request, self._few()
        if data is None:
            return self._diagnosis(OK, "", "", None, (), "", (), "")
        verdict = gate.check(r.facts, variant, data)
        if verdict.passed:
            return self._diagnosis(OK, "", "", None, (), "", (), "")
        assert self.float is not None
        found = self._compare(self.float, registry.inspect(variant.path))
        suspects = ranked(found)
        names = self._fewest(suspects)
        if names is None and (suspects := self._alone() or suspects):
            names = self._fewest(suspects)
        culprit = self._culprit(self.float.path, found_layers(found), names or tuple(suspects[:1]))
        tried = self._fixes(ANSWERS, names or (), None if culprit is None else culprit.operator)
        fixed = any(one.worked for one in tried)
        saved: tuple[Path, ...] = ()
        reproduce = ""
        if culprit is not None and (not fixed or r.output is not None):
            saved, reproduce = self._save_layer(self.float.path, culprit)
        advice = "" if fixed else rules.advice(Failure("wrong numbers", verdict.reason))
        return self._diagnosis(
            ANSWERS, verdict.reason, "wrong numbers", culprit, tried, advice, saved, reproduce
        )  # fmt: skip

    def _fewest(self, suspects: list[str]) -> tuple[str, ...] | None:
        """The fewest of the suspects that have to stay in float for the answers to be right."""
        scheme = self.request.scheme

        def good(names: tuple[str, ...]) -> bool:
            keep = tuple(dict.fromkeys([*scheme.keep, *names]))
            worked, _ = self._works(self.request.facts, dataclasses.replace(scheme, keep=keep))
            return worked

        return bisect.fewest(suspects, good, most=MAX_KEPT_TRIALS)

    def _alone(self) -> list[str]:
        """Layers by what the answers lose where each alone is quantized.

        Where one spoils everything after it, what later layers add says nothing of them: this still does.
        """
        r = self.request
        if r.data is None or r.scheme.precision not in ("int8", "int8-weights"):
            return []
        try:
            costs = rank(r.facts, Candidate(r.format, r.scheme), r.data, r.folder, Reporter())
        except EdgeshipError:
            return []
        return [cost.layer.name for cost in costs if cost.layer.name not in r.scheme.keep]

    def _culprit(self, path: Path, graph: Graph, names: tuple[str, ...]) -> Culprit | None:
        known = [graph.by_tensor[name] for name in names if name in graph.by_tensor]
        if not known:
            return None
        first = known[0]
        attributes: Mapping[str, str] = {}
        try:
            attributes = self._cut(path, graph, first.name).nodes[-1]["attributes"]
        except EdgeshipError:
            attributes = {}
        return Culprit(
            tuple(x.name for x in known), first.operator, first.node, {str(k): str(v) for k, v in attributes.items()},
            source_layer(first.name, first.node), 1,
        )  # fmt: skip

    def _cut(self, path: Path, graph: Graph, name: str) -> Part:
        """One layer with samples for it. Raises EdgeshipError."""
        at = next(i for i, layer in enumerate(graph.layers) if layer.name == name)
        place = self.work / f"one{len(list(self.work.iterdir()))}"
        place.mkdir()
        r = self.request
        samples = None if r.data is None else r.data.take(SAMPLES, 0)
        trouble = Failure("", "")
        bench = Bench(path, r.format, graph, r.scheme, trouble, samples, r.folder, place, self.clock)
        return bench.part(bisect.between(graph, at, at))

    def _save_layer(self, path: Path, culprit: Culprit) -> tuple[tuple[Path, ...], str]:
        try:
            part = self._cut(path, layers(self.request.format, path), culprit.layers[0])
        except EdgeshipError:
            return (), ""
        saved = save(part, self._output())
        scheme = dataclasses.replace(self.request.scheme, keep=())
        out = saved[0].with_name(f"again.{self.request.format}")
        return saved, command(saved[0], self.request.format, scheme, saved[1] if len(saved) > 1 else None, out)

    # ── fixes ──

    def _fixes(self, stage: str, names: tuple[str, ...], operator: str | None) -> tuple[Tried, ...]:
        """Fixes in their order, up to the first that works."""
        r = self.request
        out: list[Tried] = []
        seen: set[tuple[str, str]] = set()
        for remedy in rules.remedies(stage, r.format, r.scheme, names, operator, source=r.facts.format):
            key = (str(remedy.scheme.encode()), str(remedy.repair))
            if key in seen:
                continue
            seen.add(key)
            try:
                one = self._try(remedy)
            except bisect.LimitReachedError:
                break
            if one is not None:
                out.append(one)
                if one.worked:
                    break
        return tuple(out)

    def _try(self, remedy: rules.Remedy) -> Tried | None:
        """None where the repair had nothing to do. Raises LimitReachedError."""
        r = self.request
        facts, repaired = r.facts, None
        if remedy.repair is not None:
            try:
                place = self.work / f"mended{len(list(self.work.iterdir()))}"
                path = mended(r.facts, remedy.repair, place)
                if path is None:
                    return None
                shapes = {spec.name: spec.shape for spec in r.facts.inputs} if "--shape" in r.options else None
                facts = registry.inspect(path, None, shapes)
            except EdgeshipError as error:
                return Tried(remedy.rule.name, remedy.scheme, False, str(error).split("\n", 1)[0], "", None)
            repaired = path
        worked, outcome = self._works(facts, remedy.scheme)
        if worked and repaired is not None:
            target = self._output()
            target.mkdir(parents=True, exist_ok=True)
            repaired = target / "mended.onnx"
            repaired.write_bytes(facts.path.read_bytes())
        start = r.facts.path if repaired is None else repaired
        out = Path(f"{r.facts.path.stem}-fixed.{r.format}")
        target = out if r.output is None else r.output / out
        text = self._command(start, r.format, remedy.scheme, target)
        return Tried(remedy.rule.name, remedy.scheme, worked, outcome, text if worked else "", repaired)

    def _works(self, facts: ModelFacts, scheme: Scheme) -> tuple[bool, str]:
        """Whether a variant can be built and answers right, and how that came out. Raises LimitReachedError."""
        r = self.request
        self.clock.tick()
        if reason := registry.target(r.format).reachable(facts.format, scheme.precision):
            return False, reason
        try:
            made = build(facts, r.format, scheme, r.data, r.folder)
            if isinstance(made, Failure):
                return False, made.message.split("\n", 1)[0]
            share = f"{wording.share(made.int8_share)} of the weights int8, {made.bytes:,} bytes"
            if scheme.keep and "int8" in r.scheme.precision and made.int8_share < MIN_SHARE:
                return False, f"only {share}"
            if r.data is None:
                return True, share
            few = self._few()
            assert few is not None
            verdict = gate.check(facts, made, few)
        except UsageError as error:
            return False, str(error)
        except EdgeshipError as error:
            return False, str(error).split("\n", 1)[0]
        if not verdict.passed:
            return False, verdict.reason
        text = f"{verdict.reason} on {wording.counted(verdict.samples, 'sample')}, {share}"
        unsure = self.float is None and facts is not r.facts
        return True, text + ("; with the repaired model in float: the source itself cannot run" if unsure else "")

    # ──

    def _command(self, start: Path, format: str, scheme: Scheme, output: Path) -> str:  # noqa: A002 - the domain's word
        r = self.request
        preparing = r.preparing if scheme.needs_data else ()  # of data that the command does not read it says nothing
        return command(start, format, scheme, r.data_path, output, (*preparing, *r.options))

    def _output(self) -> Path:
        return self.request.output or Path(f"doctor-{self.request.facts.path.stem}")

    def _diagnosis(
        self, stage: str, trouble: str, kind: str, culprit: Culprit | None, tried: tuple[Tried, ...], advice: str,
        saved: tuple[Path, ...], reproduce: str,
    ) -> Diagnosis:  # fmt: skip
        r = self.request
        return Diagnosis(
            r.facts, r.format, r.scheme, stage, trouble, kind, culprit, tried, advice, saved, reproduce, self.clock.done
        )


def reachable(facts: ModelFacts, format: str, scheme: Scheme) -> None:  # noqa: A002
    """Raise UsageError where there is no way from the source to the format and precision."""
    if reason := routes.unreachable(facts.format, format):
        raise UsageError(f"{facts.path}: {reason}", hint="another --format")
    if reason := registry.target(format).reachable(facts.format, scheme.precision):
        raise UsageError(
            f"{facts.path}: {format} {scheme.precision} cannot be built: {reason}",
            hint="another --format or --precision",
        )
