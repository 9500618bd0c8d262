"""Puts what the demo measured on the front page: docs/assets/demo.svg, and the table of the README.

    stopkit demo --json benchmarks/results/demo.json
    python docs/front_page.py

The tables are those of the file, with its conditions. The completion of the picture is generated anew; at temperature 0
it is the one that the demo shows.
"""

import io
import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from stopkit import load_config
from stopkit.cli.measuring import held_out
from stopkit.cli.options import quiet
from stopkit.generation import Piece
from stopkit.origins import OriginStream, legend, paint
from stopkit.tables import COMPARISON, table

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "demo.json"
README = ROOT / "README.md"
PLACE = re.compile(r"(?<=<!-- demo -->\n).*?(?=<!-- /demo -->)", re.DOTALL)
"""Where the table stands in the README."""
PICTURE = Path(__file__).parent / "assets" / "demo.svg"
WIDTH = 122
PROMPT_LINES = 4
POLICY = "goodput"
TOKENS = 96
WEB_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""A picture that fetches nothing falls back to the reader's own monospaced font."""


def draw(result: dict[str, Any], console: Console) -> None:
    """What the demo prints, on `console`."""
    console.print("$ make demo\n", style="bold")
    console.print(table(result["rows"], COMPARISON, "temperature"))
    console.print(f"\n{caption(result)}\n", style="dim")
    draw_completion(console)


def caption(result: dict[str, Any]) -> str:
    """The conditions of the table, in a line."""
    conditions, row = result["conditions"], result["rows"][0]
    hardware, versions, config = conditions["hardware"], conditions["versions"], conditions["config"]
    return (
        f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores, torch {versions['torch']}; engine "
        f"{row['engine']}{_dtype(conditions)}; {config['prompts']} prompts, "
        f"{config['generation']['max_new_tokens']} tokens each, {row['repeats']} repeats"
    )


def _dtype(conditions: dict[str, Any]) -> str:
    loaded = conditions["config"].get("loaded")
    return f" in {loaded['dtype']['target']}" if loaded else ""


def draw_completion(console: Console) -> None:
    """One completion at temperature 0, each token painted by where it came from; of the prompt, its last lines."""
    quiet()
    engine = load_config().engine
    stream = OriginStream(engine.token_texts)
    prompt = str(held_out(1)[0].prompt)
    pieces: list[Piece] = []
    engine.generate(prompt, POLICY, temperature=0, max_new_tokens=TOKENS, on_piece=pieces.append)
    console.print(f"── {POLICY}, temperature 0", style="dim")
    tail = "".join(prompt.splitlines(keepends=True)[-PROMPT_LINES:]).lstrip("\n")
    console.out(tail, style="dim", end="", highlight=False)
    for piece in pieces:
        paint(stream.push(piece), console)
    console.out("\n")
    legend(console)


def front_table(result: dict[str, Any]) -> str:
    """The table of the README: a line a policy, two columns a temperature, and the conditions below it."""
    rows = result["rows"]
    temperatures = sorted({row["temperature"] for row in rows})
    policies = dict.fromkeys(row["policy"] for row in rows)
    found = {(row["policy"], row["temperature"]): row for row in rows}
    titles = [f"{what} at T = {temperature:g}" for temperature in temperatures for what in ("tokens/s", "speed-up")]
    lines = [f"| policy | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    for policy in policies:
        here = [found[policy, temperature] for temperature in temperatures]
        cells = [f"{row['tokens_per_second']:.0f} | {_with_range(row)}" for row in here]
        lines.append(f"| `{policy}` | {' | '.join(cells)} |")
    conditions = f"{caption(result)}. [The whole result](benchmarks/results/demo.json)"
    return "\n".join([*lines, "", f"{conditions}.", ""])


def _with_range(row: dict[str, Any]) -> str:
    low, high = row["speedup_range"]
    return f"{row['speedup']:.2f} ±{(high - low) / 2:.2f}"


def main() -> None:
    """Draw the picture, and write the table, of the result."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    console = Console(record=True, width=WIDTH, force_terminal=True, color_system="truecolor", file=io.StringIO())
    draw(result, console)
    svg = console.export_svg(title="stopkit demo", unique_id="demo")
    PICTURE.write_text(WEB_FONTS.sub("", svg), encoding="utf-8")
    README.write_text(PLACE.sub(lambda _: front_table(result), README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
