"""What a server needs is light, and whatever else is missing is named with what brings it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stopkit.extras import EXTRAS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {"tomli_w": "tomli-w", "yaml": "pyyaml"}
"""Where a module's name is not its distribution's."""

BLOCK = """
import sys
from importlib.abc import MetaPathFinder


class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Missing())
"""
SERVE = """
import torch
import stopkit

for kind in ("adaedl", "goodput", "acceptance_head", "best_length", "bandit", "capped:policy.kind=svip"):
    controller = stopkit.DraftController(stopkit.load_policy(kind), batch_size=2)
    drafting = controller.plan(3)
    while drafting and controller.admit(torch.full((2, 4), 0.25)):
        drafting = controller.extend(stopkit.Drawn(torch.zeros(2, dtype=torch.long), torch.full((2,), 0.25)))
    controller.learn(0)
    assert controller.sequences[0].rounds == 1
"""


def without(absent: set[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where the modules `absent` are not to be found."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(absent=absent) + code, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_policies_work_without_any_extra() -> None:
    done = without({*EXTRAS, "pandas", "scipy", "huggingface_hub"}, SERVE)
    assert done.returncode == 0, done.stderr


def test_the_core_depends_on_four_packages() -> None:
    assert {re.split("[<>=]", name)[0] for name in PROJECT["dependencies"]} == {
        "pluggy",
        "pydantic",
        "safetensors",
        "torch",
    }


@pytest.mark.parametrize("module", EXTRAS)
def test_an_extra_brings_its_modules(module: str) -> None:
    extra = PROJECT["optional-dependencies"][EXTRAS[module]]
    assert DISTRIBUTIONS.get(module, module) in {re.split("[<>=]", name)[0] for name in extra}


MAIN = "from stopkit.__main__ import main; main()"


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("click", "cli", ["demo"]),
        ("pyarrow", "trace", ["trace", "replay", "x", "--policy", "static"]),
        ("transformers", "hf", ["generate", "x"]),
        ("hypothesis", "testing", ["check", "static"]),
    ],
)
def test_commands_name_the_extra_that_is_missing(module: str, extra: str, arguments: list[str]) -> None:
    done = without({module}, MAIN, *arguments)
    assert f"needs {module}, which is not installed: pip install 'stopkit[{extra}]'" in done.stderr
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
