"""Prompts from code that the bundled pair has not seen: unfinished functions of packages that stopkit depends on.

`python benchmarks/other_code.py prompts.jsonl` writes 64 of them, spread over the packages' modules.
"""

import argparse
import json
from itertools import chain, zip_longest
from pathlib import Path

import click
import pluggy
import pydantic
import rich

from stopkit.pair.corpus import function_heads

PACKAGES = (click, pluggy, rich, pydantic)


def main() -> None:
    """Write the prompts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=64)
    arguments = parser.parse_args()
    modules = [path for package in PACKAGES for path in sorted(Path(str(package.__file__)).parent.glob("*.py"))]
    rounds = zip_longest(*(function_heads(module) for module in modules))
    prompts = [prompt for prompt in chain.from_iterable(rounds) if prompt][: arguments.count]
    arguments.out.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))


if __name__ == "__main__":
    main()
