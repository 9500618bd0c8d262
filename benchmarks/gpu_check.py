"""Everything worth checking on a machine with a GPU, in one command: `make gpu-check`.

Runs the tests marked gpu, and the conformance kit on every policy, whose examples then use the device; then `stopkit
compare` with the bundled pair in float32 and bfloat16, and writes the results with their conditions to
benchmarks/results/. `python benchmarks/gpu_check.py` works from a checkout that is not installed, too: it needs the
dependencies and pytest, and registers the built-in plug-ins by a dist-info of its own.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
COMPARE = ["--policy", "static:length=2", "--policy", "static:length=5", "--policy", "adaedl", "--policy"]
COMPARE += ["max_probability", "--temperature", "0", "--temperature", "0.7", "--temperature", "1"]
COMPARE += ["--max-new-tokens", "96", "--repeats", "3", "--device", "cuda"]


def environment(scratch: Path) -> dict[str, str]:
    """The environment to run in: as it is where stopkit is installed, else with the checkout made importable."""
    if entry_points(group="stopkit"):
        return dict(os.environ)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [
        line for name, points in groups.items() for line in (f"[{name}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    info = scratch / "stopkit-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stopkit\nVersion: 0\n")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    paths = [scratch, ROOT, ROOT / "policies", ROOT / "engines", os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def main() -> int:
    """Run all of it; the exit status is that of the first step that failed."""
    import torch

    if not torch.cuda.is_available():
        print("gpu-check: torch finds no CUDA device; nothing was run.", file=sys.stderr)
        return 1
    device = torch.cuda.get_device_name().lower().replace(" ", "-")
    stopkit = "from stopkit.cli import main; main()"
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        surroundings = environment(Path(scratch))
        test = [sys.executable, "-m", "pytest", "-q"]
        steps = [[*test, "-m", "gpu", "tests/engines"], [*test, "tests/conformance/test_policies.py"]]
        for dtype in ("float32", "bfloat16"):
            saved = RESULTS / f"compare-{device}-{dtype}.json"
            steps.append([sys.executable, "-c", stopkit, "compare", *COMPARE, "--dtype", dtype, "--json", str(saved)])
        statuses = [subprocess.run(step, cwd=ROOT, env=surroundings, check=False) for step in steps]
    return next((status.returncode for status in statuses if status.returncode), 0)


if __name__ == "__main__":
    sys.exit(main())
