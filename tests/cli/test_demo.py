"""`stopkit demo`: the bundled pair, at a small size."""

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_demo(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("demo", "--prompts-count", 1, "--max-new-tokens", 6, "--repeats", 1, "--json", out)
    assert done.exit_code == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    names = ["autoregressive", "static", "adaedl", "max_probability"]
    assert [(row["temperature"], row["policy"]) for row in rows] == [(t, name) for t in (0, 0.7) for name in names]
    for part in (
        "temperature 0.7",
        "max_probability",
        "outside the models' forwards",
        "adaedl, temperature 0",
        "bonus",
    ):
        assert part in done.stdout
