"""`edgeship model`: its commands have files of their own."""

from __future__ import annotations

import click

from edgeship.cli.model_compare import compare
from edgeship.cli.model_convert import convert, quantize
from edgeship.cli.model_distill import distill
from edgeship.cli.model_doctor import doctor
from edgeship.cli.model_inspect import inspect
from edgeship.cli.model_prune import prune


@click.group()
def model() -> None:
    """Look into model files, convert and quantize them."""


model.add_command(inspect)
model.add_command(convert)
model.add_command(quantize)
model.add_command(compare)
model.add_command(doctor)
model.add_command(prune)
model.add_command(distill)
