"""How long `edgeship --help` takes beside `python -c "import click"`: processor time, interleaved runs, medians.

    python benchmarks/cli_start.py [--runs N] [--limit RATIO]

Prints one JSON object. Exits 1 when the ratio of the medians is above the limit.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

LIMIT = 1.5
PEER = [sys.executable, "-c", "import click"]
OURS = [sys.executable, "-c", "import sys; from edgeship.cli import main; sys.argv = ['edgeship', '--help']; main()"]


def processor_seconds(argv: list[str]) -> float:
    """User and system time of one run of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Start-up of the command line beside importing click.")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--limit", type=float, default=LIMIT)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"peer": [], "ours": []}
    for argv in (PEER, OURS):
        processor_seconds(argv)  # warm-up: byte code, page cache
    for _ in range(options.runs):
        times["peer"].append(processor_seconds(PEER))
        times["ours"].append(processor_seconds(OURS))
    peer, ours = (statistics.median(times[name]) for name in ("peer", "ours"))
    ratio = ours / peer
    report = {
        "benchmark": "cli_start", "unit": "seconds of processor time", "runs": options.runs,
        "peer": {"command": 'python -c "import click"', "median": peer},
        "ours": {"command": "edgeship --help", "median": ours},
        "ratio": round(ratio, 3), "limit": options.limit, "holds": ratio <= options.limit,
    }  # fmt: skip
    print(json.dumps(report))
    return 0 if report["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
