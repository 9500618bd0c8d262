"""`python -m stopkit`, the command line."""

from stopkit.cli import main

main()
