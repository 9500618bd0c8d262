"""The conditions of a measurement: a number never stands without them."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import stopkit
from stopkit.kinds import FILES


def conditions(**config: Any) -> dict[str, Any]:
    """Hardware, versions, `config`, and hashes of the files that policies came from, ready for JSON. No host names."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(),
        "git": git_hash(),
        "config": config,
        **({"files": dict(FILES)} if FILES else {}),
    }


def hardware() -> dict[str, Any]:
    """What computes: processor, cores, threads that torch uses, GPU if there is one."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def versions() -> dict[str, str | None]:
    """Versions of what a result depends on."""
    return {
        "stopkit": stopkit.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": _version("transformers"),
        "cuda": torch.version.cuda,
        "system": f"{platform.system()} {platform.machine()}",
    }


def git_hash() -> str | None:
    """The commit that stopkit runs from, with `-dirty` if files differ from it; None outside its own checkout."""
    folder = Path(__file__).parent
    tracked = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if tracked else None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
