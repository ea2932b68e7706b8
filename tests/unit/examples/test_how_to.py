"""Scripts that a how-to has its reader paste: they run, and make what the page says of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeship import wording
from edgeship.targets import registry

HOW_TO = Path(__file__).resolve().parents[3] / "docs" / "how-to"


def script(page: str) -> str:
    """The first block of Python of a page."""
    blocks: list[str] = re.findall(
        r"^```\n(.*?)^```$", (HOW_TO / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return next(block for block in blocks if block.startswith("import "))


@pytest.mark.slow
def test_the_net_of_pruning_and_distilling_is_the_one_whose_figures_are_shown(tmp_path: Path) -> None:
    quick = script("prune.md").replace("epochs=30", "epochs=1")  # what it learns is not looked at here
    subprocess.run([sys.executable, "-c", quick], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    parameters = registry.inspect(tmp_path / "digits.keras").parameters
    assert parameters is not None
    for page in ("prune.md", "distill.md"):
        assert f"parameters  {parameters:,} → " in (HOW_TO / page).read_text(encoding="utf-8")
    text = (HOW_TO / "prune.md").read_text(encoding="utf-8")
    for name in ("training", "evaluation"):
        data = np.load(tmp_path / f"{name}.npz")
        assert data["image"].shape[1:] == (8, 8, 1)
        assert wording.counted(len(data["labels"]), "digit") in text


def test_every_file_that_a_command_takes_is_made_on_the_page_or_by_the_script() -> None:
    made = {"digits.keras", "training.npz", "evaluation.npz"}
    for page in ("prune.md", "distill.md"):
        for command in re.findall(r"^edgeship model .*$", (HOW_TO / page).read_text(encoding="utf-8"), re.MULTILINE):
            made |= set(re.findall(r"--output (\S+)", command))
            assert set(re.findall(r"\S+\.(?:keras|npz|tflite)\b", command)) <= made, f"{page}: {command}"
