"""`edgeship version`."""

from __future__ import annotations

import click

from edgeship import __version__
from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Pairs

PACKAGES = (
    "click",
    "rich",
    "pydantic",
    "numpy",
    "scipy",
    "paramiko",
    "tuf",
    "SQLAlchemy",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "onnx",
    "onnxsim",
    "onnxruntime",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "tf2onnx",
    "torch",
    "Pillow",
    "asyncssh",
)


@click.command()
@with_output
def version(out: Output) -> None:
    """Print the versions of edgeship and what it uses."""
    import platform
    from importlib import metadata

    from edgeship.runtime import wire

    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    data = {
        "edgeship": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "protocol": wire.PROTOCOL,
        "packages": packages,
    }
    shown: list[tuple[str, object]] = [(name, found or "not installed") for name, found in packages.items()]
    out.emit(
        "version", data, Pairs([*((key, data[key]) for key in ("edgeship", "python", "platform", "protocol")), *shown])
    )
