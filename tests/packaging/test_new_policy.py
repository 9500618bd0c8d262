"""What `stopkit new-policy` writes is a package: it builds, installs, is found by its kind and passes the kit."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from stopkit.cli import main

KIND, DISTRIBUTION = "few_choices", "stopkit-few-choices"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated package, a source tree."""
    out = tmp_path_factory.mktemp("source")
    with pytest.raises(SystemExit) as ended:
        main(["new-policy", KIND, "--out", str(out)])
    assert ended.value.code == 0
    return out / DISTRIBUTION


@pytest.fixture(scope="module")
def python(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the package's wheel; of all else it sees what is installed here."""
    dist, fresh = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist, package)
    venv.create(fresh, with_pip=False)
    interpreter = fresh / "bin" / "python"
    site = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    here = sysconfig.get_path("purelib")
    (Path(site) / "of_the_tests.pth").write_text(f"import site; site.addsitedir({here!r})\n")  # torch and stopkit
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", interpreter, "install", "--no-deps", "--no-index", wheel)
    return interpreter


def run(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def stopkit(python: Path, *arguments: str, cwd: Path) -> str:
    """What a command prints in the fresh environment."""
    return run(python, "-c", "from stopkit.cli import main; main()", *arguments, cwd=cwd).stdout


def test_it_is_listed_with_its_distribution(python: Path, tmp_path: Path) -> None:
    rows = json.loads(stopkit(python, "policies", "--json", "-", cwd=tmp_path))["rows"]
    (mine,) = [row for row in rows if row["kind"] == KIND]
    assert mine["distribution"] == f"{DISTRIBUTION} 0.1.0"
    assert KIND in stopkit(python, "policies", cwd=tmp_path)


def test_its_policy_passes_the_kit(python: Path, tmp_path: Path) -> None:
    assert "failed" not in stopkit(python, "check", KIND, cwd=tmp_path)


def test_its_test_passes(python: Path, package: Path, tmp_path: Path) -> None:
    shutil.copytree(package / "tests", tmp_path / "tests")  # away from the source: what is tested is the wheel
    done = run(python, "-m", "pytest", "-p", "no:cacheprovider", cwd=tmp_path)
    assert "passed" in done.stdout
    assert "warning" not in done.stdout


def test_its_code_is_clean(package: Path) -> None:
    pytest.importorskip("ruff", reason="needs the lint extra")
    ruff = [sys.executable, "-m", "ruff"]
    run(*ruff, "check", "--isolated", "--no-cache", "--select", "E,F,I,B,UP", ".", cwd=package)
    run(*ruff, "format", "--isolated", "--no-cache", "--check", ".", cwd=package)
