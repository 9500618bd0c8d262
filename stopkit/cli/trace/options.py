"""The options of commands that replay a trace: what of it, at what costs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stopkit.errors import InputError

if TYPE_CHECKING:
    from stopkit.costs import FixedCosts
    from stopkit.trace.trace import Trace

Function = TypeVar("Function", bound=Callable[..., Any])


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Numbers of at least 0, separated by commas."""
    if value is None:
        return None
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers like 0.02,0.1.", context, parameter) from None
    if wrong := [number for number in numbers if not (math.isfinite(number) and number >= 0)]:
        raise click.BadParameter(f"{wrong[0]:g} is not a finite number of at least 0.", context, parameter)
    return numbers


def cost_options(function: Function) -> Function:
    """The options that say at what costs, and on what part of the trace."""
    decorated: Function = function
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated


OPTIONS = (
    click.option(
        "--draft-cost",
        "draft_costs",
        callback=numbers,
        metavar="C,C,…",
        help="Costs of a draft step, in target-step times.  [default: 0.02,0.05,0.1,0.2,0.4]",
    ),
    click.option(
        "--verify-cost",
        "verify_costs",
        callback=numbers,
        metavar="C,C,…",
        help="Costs of a token to verify, in target-step times.  [default: 0.02]",
    ),
    click.option("--measured-costs", "measured", is_flag=True, help="Take the times that the recording measured."),
    click.option(
        "--max-new-tokens", type=click.IntRange(min=1), metavar="N", help="Only the first N tokens of each sequence."
    ),
    click.option("--sequences", type=click.IntRange(min=1), metavar="N", help="Only the first N sequences."),
)


def opened(path: Path, max_new_tokens: int | None, sequences: int | None) -> "Trace":
    """The part of the trace at `path` that was asked for."""
    from stopkit.trace.trace import Trace

    trace = Trace.open(path)
    try:
        return trace.beginning(sequences, max_new_tokens)
    except InputError as error:
        raise InputError(f"--{error}") from None


def require_one_kind(draft_costs: object, verify_costs: object, measured: bool) -> None:
    """Raise UsageError if costs are both given and to be those measured."""
    if measured and (draft_costs or verify_costs):
        raise click.UsageError("Give either --measured-costs or --draft-cost and --verify-cost.")


def costs_of(
    trace: "Trace", draft_costs: tuple[float, ...] | None, verify_costs: tuple[float, ...] | None, measured: bool
) -> "list[FixedCosts]":
    """Every pair of the costs that were asked for."""
    from stopkit.trace.costs import asked_costs

    require_one_kind(draft_costs, verify_costs, measured)
    return asked_costs(trace.metadata, trace.path, draft_costs, verify_costs, measured)
