"""Running the command line in this process, and checking what `--json` prints against the published schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no stubs
from click.testing import CliRunner, Result
from pydantic import BaseModel, RootModel

from edgeship.cli import cli
from edgeship.cli.schemas import SCHEMAS, json_schema


def run(*args: str, exit_code: int = 0, input: str | None = None) -> Result:  # noqa: A002 — as CliRunner's
    """Run `edgeship ARGS`, expecting an exit code; gives click's result with `stdout` and `stderr`."""
    result = CliRunner().invoke(cli, [*args], input=input, prog_name="edgeship")
    assert result.exit_code == exit_code, (
        f"edgeship {' '.join(args)}: exit {result.exit_code}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
    )
    return result


def run_json(name: str, *args: str, exit_code: int = 0) -> Any:
    """Run with `--json`; gives the data, checked to the last key against the schema `name`."""
    result = run(*args, "--json", exit_code=exit_code)
    lines = result.stdout.splitlines()
    assert len(lines) == 1, f"one object was expected on standard output: {result.stdout}"
    return checked(name, json.loads(lines[0]))


def run_error(*args: str, exit_code: int) -> dict[str, Any]:
    """Run with `--json`, expecting a failure; gives the error that is printed on standard error."""
    result = run(*args, "--json", exit_code=exit_code)
    data = checked("error", json.loads(result.stderr.splitlines()[-1]))
    assert isinstance(data, dict)
    return data


def checked(name: str, envelope: dict[str, Any]) -> Any:
    """The data of an output after checking it against its published schema, undeclared keys included."""
    assert envelope["schema"] == f"edgeship.{name}/v1"
    jsonschema.validate(envelope, json_schema(name))
    undeclared = list(_extras(SCHEMAS[name].model_validate(envelope["data"])))
    assert not undeclared, f"the schema {name} does not describe {undeclared}"
    return envelope["data"]


def _extras(value: object, at: str = "data") -> list[str]:
    if isinstance(value, RootModel):
        return _extras(value.root, at)
    if isinstance(value, BaseModel):
        found = [f"{at}.{key}" for key in value.model_extra or {}]
        for key in type(value).model_fields:
            found += _extras(getattr(value, key), f"{at}.{key}")
        return found
    if isinstance(value, list):
        return [extra for index, item in enumerate(value) for extra in _extras(item, f"{at}[{index}]")]
    if isinstance(value, dict):
        return [extra for key, item in value.items() for extra in _extras(item, f"{at}.{key}")]
    return []
