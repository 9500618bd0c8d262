"""Draws docs/assets/demo.svg, the picture of the demo, from a result of the demo itself.

    stopkit demo --json demo.json
    python docs/demo_picture.py demo.json

The table is that of the file, with its conditions. The completion below it is generated anew; at temperature 0 it is
the one that the demo shows.
"""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from stopkit import load_config
from stopkit.cli.measuring import held_out
from stopkit.cli.options import quiet
from stopkit.generation import Piece
from stopkit.origins import OriginStream, legend, paint
from stopkit.tables import COMPARISON, table

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
        f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores, torch {versions['torch']}; "
        f"{config['prompts']} prompts, {config['generation']['max_new_tokens']} tokens each, {row['repeats']} repeats"
    )


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


def main(source: str) -> None:
    """Write the picture of the result in `source`."""
    console = Console(record=True, width=WIDTH, force_terminal=True, color_system="truecolor", file=io.StringIO())
    draw(json.loads(Path(source).read_text(encoding="utf-8")), console)
    svg = console.export_svg(title="stopkit demo", unique_id="demo")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(WEB_FONTS.sub("", svg), encoding="utf-8")
    print(f"{PICTURE}: {len(svg)} characters")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/demo_picture.py RESULT.json")
    main(sys.argv[1])
