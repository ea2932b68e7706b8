"""A search on the digits net with an empty cache, beside one candidate built and judged on everything.

    python search.py FOLDER

The one candidate goes the same way through the same code: int8 with ranges from the smallest to the largest value, the
first of the plan, from the Keras file to the verdict and the latency on all evaluation data. Prints JSON: processor and
wall-clock seconds of both, each a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path) -> None:
    """The digits net and its data."""
    folder.mkdir(parents=True)
    script = str(ROOT / "examples/digits/train.py")
    subprocess.run([sys.executable, script], cwd=folder, check=True, capture_output=True)


def run(folder: Path, which: str) -> int:
    """Search; returns how many candidates were tried."""
    from edgeship import dataset, profile
    from edgeship.deploy.contact import Agent
    from edgeship.optimize.search import run as searching
    from edgeship.optimize.search.candidate import Wish
    from edgeship.optimize.search.latency import Host
    from edgeship.optimize.search.pick import Budget
    from edgeship.optimize.search.pool import processes
    from edgeship.reporter import Reporter
    from edgeship.targets import registry

    facts = registry.inspect(folder / "digits.keras")
    calibration, judged = (dataset.load(folder / f"{name}.npz", facts) for name in ("calibration", "evaluation"))
    wish = Wish() if which == "search" else Wish(("tflite",), ("int8",))
    cache = folder / which
    request = searching.Request(
        facts, profile.load("raspberry-pi-5"), calibration, judged, Budget(), cache, wish
    )  # fmt: skip
    if which == "one":
        searching.first = _first_alone(searching.first)
    with processes() as pool:
        found = searching.Search(request, pool, Host(judged, Agent.own().zipapp, cache, 1), Reporter()).run()
    return len(found.tried)


def _first_alone(plan: Any) -> Any:
    """The plan cut to its first candidate."""

    def first(*given: Any) -> Any:
        candidates, refused = plan(*given)
        return candidates[:1], refused

    return first


def main() -> None:
    """Measure and print."""
    import os

    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        print(run(folder, sys.argv[2]))
        return
    make(folder)
    out: dict[str, Any] = {}
    for which in ("one", "search"):
        begun = time.monotonic()
        with subprocess.Popen([sys.executable, __file__, str(folder), which], stdout=subprocess.PIPE, text=True) as one:
            assert one.stdout is not None
            said = one.stdout.read()
            _, status, used = os.wait4(one.pid, 0)
            one.returncode = os.waitstatus_to_exitcode(status)
        if one.returncode:
            sys.exit(f"{which}: status {one.returncode}")
        out[which] = {"seconds": used.ru_utime + used.ru_stime, "wall": time.monotonic() - begun}
        if which == "search":
            out["candidates"] = int(said.strip().splitlines()[-1])
    print(json.dumps(out))


if __name__ == "__main__":
    main()
