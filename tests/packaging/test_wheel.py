"""The wheel holds three import packages, the bundled pair, the templates, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stopkit.cli.new_policy import FILES

ROOT = Path(__file__).parents[2]
PAIR_LIMIT = 24 * 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_top_level_names(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    info = {name for name in tops if name.endswith(".dist-info")}
    assert tops - info == {"stopkit", "stopkit_policies", "stopkit_engines"}
    assert len(info) == 1


def test_every_package_is_typed_and_plugged_in(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in ("stopkit", "stopkit_policies", "stopkit_engines")} <= names
    points = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    for line in (
        "[stopkit]",
        "policies = stopkit_policies",
        "engines = stopkit_engines",
        "stopkit = stopkit.__main__:main",
        "[pytest11]",
        "stopkit = stopkit.pytest_plugin",
    ):
        assert line in points.splitlines()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_no_file_is_left_out(wheel: zipfile.ZipFile) -> None:
    packages = [ROOT / "stopkit", ROOT / "policies" / "stopkit_policies", ROOT / "engines" / "stopkit_engines"]
    expected = {
        path.relative_to(package.parent).as_posix()
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_the_templates_are_there(wheel: zipfile.ZipFile) -> None:
    assert {f"stopkit/template/{file}" for file in FILES} <= set(wheel.namelist())


def test_the_bundled_pair_is_small_and_safe(wheel: zipfile.ZipFile) -> None:
    pair = [info for info in wheel.infolist() if "/bundled_pair/" in info.filename]
    assert sum(info.file_size for info in pair) <= PAIR_LIMIT
    weights = [info.filename for info in pair if info.filename.endswith(".safetensors")]
    assert len(weights) == 2
    assert not [info.filename for info in pair if info.filename.endswith((".bin", ".pt", ".pkl"))]
