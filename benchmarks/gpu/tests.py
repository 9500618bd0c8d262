"""The tests that need a GPU, the kernel's among them, and the conformance kit, whose examples then use the device."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gpu.lines import Line, Setting, without_cuda

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 90
RUNS = {
    "tests marked gpu": ["-m", "gpu", "tests/engines"],
    "the kernel and its twin": ["-m", "kernels", "tests/kernels"],
    "kit, every policy": ["tests/conformance/test_policies.py", "-n", "8"],
}


def tests(setting: Setting) -> Iterator[Line]:
    """A line a run."""
    for what, arguments in RUNS.items():
        yield passed(what, arguments, min(MOST_SECONDS, setting.left)) if setting.cuda else without_cuda(what, "pass")


def passed(what: str, arguments: list[str], seconds: float) -> Line:
    """Whether pytest passes within the time."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=seconds, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return Line(what, "pass", f"not done after {seconds:.0f} s", False)
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:], file=sys.stderr)
    last = done.stdout.strip().rpartition("\n")[2].strip("= ") or f"exit status {done.returncode}"
    return Line(what, "pass", last[:50], done.returncode == 0)
