"""What to try where nothing meets the budget: it depends on which limit the nearest candidate breaks."""

from __future__ import annotations

from edgeship.optimize.search.pick import Row, misses
from edgeship.optimize.search.run import Found, Request

PRUNE = 2  # times less arithmetic, in the example of an option


def advice(found: Found) -> str:
    """What may help, for a hint; of a search that picked nothing and has a nearest candidate."""
    nearest = found.pick.nearest
    assert nearest is not None
    kinds = [miss.kind for miss in misses(nearest, found.request.budget)]
    out: list[str] = []
    if "quality" in kinds:
        truer = _truer(found.request)
        out.append(f"more or better calibration data, a wider --max-drop or --max-class-drop, or {truer}")
    if "proof" in kinds:
        more = f": n ≥ {needed:,}" if (needed := nearest.verdict.needs_n) is not None else ""
        out.append(f"more evaluation samples{more}; or without --strict")
    if "size" in kinds:
        out.append(f"a smaller file: {_smaller(found.request)}; or a larger --max-size")
    if "latency" in kinds:
        out.append(_faster(found.request, nearest))
    return "; ".join(out)


def _truer(request: Request) -> str:
    """The precision to try next: int8 weights cost little where int8 activations cost much."""
    tried = request.wish.precisions
    if tried and "int8-weights" not in tried and request.source.precision == "float32":
        return "--precision int8-weights, as small as int8 and computed in float"
    if tried and not {"float16", "float32"} & {*tried}:
        return "no --precision: larger ones are tried too then"
    return "another precision"


def _smaller(request: Request) -> str:
    ways = []
    if request.wish.precisions and "int8" not in request.wish.precisions:
        ways.append("--precision int8")
    if request.source.format == "keras":
        ways.append(f"--prune {PRUNE * max(1.0, *request.wish.prune, 1.0):g}")
        ways.append("edgeship model distill to a smaller student")
    else:
        ways.append("the float Keras model with --prune, where there is one")
        ways.append("a smaller model")
    return ", ".join(ways)


def _faster(request: Request, nearest: Row) -> str:
    if nearest.latency is None or nearest.latency.p95_us is None:
        return "its latency has to be known: --on DEVICE times it on the board, or a precision that can be timed here"
    ways = _smaller(request)
    elsewhere = nearest.latency.arch != request.profile.hardware.arch
    board = f"; --on DEVICE times it on the board itself, this was {nearest.latency.arch}" if elsewhere else ""
    return f"a faster model: {ways}; or a longer --max-latency{board}"
