"""The command line. Importing it loads no torch; a command imports what it needs when it runs."""

from stopkit.cli.app import App
from stopkit.cli.compare import compare
from stopkit.cli.demo import demo
from stopkit.cli.generate import generate

__all__ = ["main"]

main = App("stopkit", commands=[demo, generate, compare])
