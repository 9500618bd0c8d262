"""Everything worth checking on a machine with a GPU, in one command: `make gpu-check`, under eight minutes.

A step that fails is told and stops no other. The summary at the end fits a screen; the results are written with their
conditions to benchmarks/results/gpu/. Without a GPU, or with --small, everything is small and runs to the end, and
lines that only a GPU can measure say so. `python benchmarks/gpu_check.py` works from a checkout that is not installed,
too: it needs the dependencies and pytest, and registers the built-in plug-ins by a dist-info of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
STEPS = ("tests", "kit", "speed", "bandwidth", "assisted", "deciding")
SECONDS = 450


def environment(scratch: Path) -> dict[str, str]:
    """The environment in which a checkout that is not installed can be imported."""
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
    """Run all of it; 1 if a line is not met."""
    if not entry_points(group="stopkit"):
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, *sys.argv]
            return subprocess.run(command, env=environment(Path(scratch)), check=False).returncode
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="tiny ballast and few tokens, as without a GPU")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="only these")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return checked(parser.parse_args())


def checked(arguments: argparse.Namespace) -> int:
    """Run the steps, save and show."""
    from gpu.bandwidth import bandwidth
    from gpu.generation import assisted, deciding
    from gpu.kit import kit
    from gpu.lines import Line, Setting, Step, show
    from gpu.speed import speed
    from gpu.tests import tests
    from stopkit.cli.options import quiet
    from stopkit.conditions import conditions

    quiet()
    setting = Setting(small=arguments.small or not Setting(True, 0).cuda, seconds=SECONDS)
    several: tuple[Step, ...] = (tests, kit, speed, bandwidth, assisted, deciding)
    lines: list[Line] = []
    for step in several:
        if step.__name__ in arguments.steps:
            print(f"{step.__name__} …", file=sys.stderr, flush=True)
            lines += outcome(step, setting)
    described = conditions(small=setting.small, steps=list(arguments.steps))
    name = "small" if setting.small else str(described["hardware"]["gpu"]).lower().replace(" ", "-")
    arguments.out.mkdir(parents=True, exist_ok=True)
    saved = {"conditions": described, "rows": [line._asdict() for line in lines]}
    (arguments.out / f"{name}.json").write_text(json.dumps(saved, indent=1) + "\n")
    show(lines)
    return int(any(line.met is False for line in lines))


def outcome(step: "Step", setting: "Setting") -> list["Line"]:  # noqa: F821 (they load torch, and --help does not)
    """The lines of a step, with one more if it fails or there is no time for it."""
    from gpu.lines import Line

    if setting.left <= 0:
        return [Line(step.__name__, "runs", "no time was left", False)]
    lines = []
    try:
        for line in step(setting):
            lines.append(line)  # noqa: PERF402 (what there is when a step fails is kept)
    except Exception as error:  # whatever it is, the others go on
        import traceback

        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:60]
        lines.append(Line(step.__name__, "runs", reason, False))
    return lines


if __name__ == "__main__":
    sys.exit(main())
