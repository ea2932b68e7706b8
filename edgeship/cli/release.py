"""`edgeship release`: list, inspect, verify."""

from __future__ import annotations

from typing import Any

import click

from edgeship import config
from edgeship.cli import choose
from edgeship.cli.options import with_output
from edgeship.cli.output import Lines, Output, Pairs, Table, human_bytes


@click.group()
def release() -> None:
    """Signed releases of this project."""


@release.command("list")
@with_output
def list_(out: Output) -> None:
    """List the releases within reach, newest first; the current one of each model is marked."""
    repository = choose.repository(config.load())
    data: list[dict[str, Any]] = []
    for name, entry in repository.models().items():
        for counter, sha in entry.history:
            manifest, _ = repository.manifest(name, counter)
            data.append(
                {
                    "model": name,
                    "counter": counter,
                    "current": counter == entry.counter,
                    "created": manifest.created,
                    "checks_skipped": manifest.checks_skipped,
                    "approved_by": manifest.approved_by,
                    "manifest_sha256": sha,
                    "variants": [
                        {
                            "format": v.format,
                            "precision": v.precision,
                            "bytes": v.file.bytes,
                            "profiles": list(v.profiles),
                        }
                        for v in manifest.variants
                    ],
                }
            )
    rows = [
        (
            d["model"],
            d["counter"],
            "current" if d["current"] else "",
            d["created"],
            ", ".join(f"{v['format']} {v['precision']}" for v in d["variants"]),
            "SKIPPED" if d["checks_skipped"] else "passed",
        )
        for d in data
    ]
    columns = ("model", "release", "", "created", "variants", "check")
    out.emit("release.list", data, Table(columns, rows, empty="no release yet; next: edgeship push MODEL"))


@release.command()
@click.argument("model", required=False)
@click.option(
    "--counter", type=click.IntRange(min=1), default=None, help="An earlier release; the current one by default."
)
@with_output
def inspect(out: Output, model: str | None, counter: int | None) -> None:
    """Show the manifest of a release. MODEL may be left out where there is only one."""
    from edgeship.errors import UsageError

    repository = choose.repository(config.load())
    models = sorted(repository.models())
    if model is None and len(models) != 1:
        raise UsageError("which model?", hint=f"one of: {', '.join(models)}" if models else "edgeship push MODEL")
    manifest, sha = repository.manifest(model or models[0], counter)
    head = Pairs(
        [
            ("model", manifest.model),
            ("release", manifest.counter),
            ("created", manifest.created),
            ("check", "skipped" if manifest.checks_skipped else "passed"),
            ("approved by", manifest.approved_by),
            ("manifest", f"sha256:{sha}"),
        ]
    )
    rows = [
        (
            f"{v.format} {v.precision}",
            human_bytes(v.file.bytes),
            ", ".join(v.profiles),
            ", ".join(f"{r.name} {r.arch}" for r in v.runtimes),
            v.golden.samples,
        )
        for v in manifest.variants
    ]
    table = Table(("variant", "size", "profiles", "runtime libraries", "golden samples"), rows)
    out.emit("release.inspect", {"manifest_sha256": sha, "manifest": manifest.encode()}, [head, table])


@release.command()
@with_output
def verify(out: Output) -> int:
    """Verify signatures and hash every file of the release folder again; exit 1 when something is wrong."""
    from edgeship.release.verify import verify as check

    report = check(config.load().releases)
    data = {
        "holds": report.holds,
        "files": report.targets,
        "bytes": report.bytes,
        "releases": report.releases,
        "problems": list(report.problems),
    }
    words = f"{report.targets} signed files, {human_bytes(report.bytes)}: all verify"
    out.emit("release.verify", data, Lines([words] if report.holds else [f"problem: {p}" for p in report.problems]))
    return 0 if report.holds else 1
