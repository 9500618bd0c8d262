"""The command line: `stopkit`, and `python -m stopkit`."""

import sys


def main() -> None:
    """Run it. An interrupt while it is being imported is as quiet as any other."""
    try:
        from stopkit.cli import main as command
    except KeyboardInterrupt:
        print("error: interrupted.", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        from stopkit.extras import extra_for  # not before: an interrupt of that import would not be quiet

        if (extra := extra_for(error)) is None:
            raise
        print(f"error: the command line {extra}.", file=sys.stderr)
        sys.exit(1)
    command()


if __name__ == "__main__":
    main()
