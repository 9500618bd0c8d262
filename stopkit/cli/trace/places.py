"""Which part of a recording this process makes, and the file that it goes to."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stopkit.cli.app import echo
from stopkit.cli.outputs import require_place
from stopkit.trace.shards import WHOLE, Rank, Shard, rank

if TYPE_CHECKING:
    from stopkit.config import Config

HERE = "{shard}"
"""Stands in a file's name for the part."""


@dataclass(frozen=True)
class Part:
    """A part of a recording, and the process of several that it falls to, if nobody said which part it is."""

    shard: Shard = WHOLE
    rank: Rank | None = None

    def announce(self, out: Path) -> None:
        """Say in one line which part goes where, if nobody has asked for that part."""
        if self.rank:
            echo(
                f"{self.rank.launcher} runs {self.shard.count} of these; this one records {self.shard} to {out}.",
                err=True,
            )

    def on_its_device(self, config: "Config", elsewhere: "Callable[[str], Config]") -> "Config":
        """`config`; that of `elsewhere(device)` where all processes of a machine would take the same of its GPUs."""
        from torch.cuda import device_count

        if not self.rank or getattr(config.engine, "device", None) != "auto" or (devices := device_count()) < 2:
            return config
        return elsewhere(f"cuda:{self.rank.local % devices}")


def _part(context: click.Context, parameter: click.Parameter, value: str | None) -> Part:
    if value is not None:
        return Part(Shard.parse(value, "--shard"))
    found = None if context.params.get("ray") else rank(os.environ)
    return Part(found.shard, found) if found else Part()


def _file(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    part: Part = context.params["shard"]
    if part.rank and HERE not in value.name:
        named = value.with_name(f"{value.stem}-{HERE}{value.suffix}")
        raise click.BadParameter(
            f"{value}: {part.rank.launcher} runs {part.shard.count} of these, each with a part; write {named}, or give "
            "--shard 1/1 to record all of it here.",
            context,
            parameter,
        )
    place = value.with_name(value.name.replace(HERE, part.shard.name))
    require_place(place, "trace", context, parameter)
    if place.suffix != ".parquet":
        raise click.BadParameter(f"{place}: a trace's name ends in .parquet.", context, parameter)
    return place


shard_option: Callable[[Any], Any] = click.option(
    "--shard",
    callback=_part,
    is_eager=True,
    metavar="I/N",
    help="Record part I of N; a folder of all parts is the trace. Default: what Slurm or torchrun says, else all.",
)


def ray_options(default: str) -> Callable[[Any], Any]:
    """`--ray ADDRESS` and `--workers N`, of which there are as many as `default` says."""
    ray = click.option(
        "--ray", metavar="ADDRESS", is_eager=True, help="Work on a Ray cluster; auto is the one of this machine."
    )
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        callback=_with_ray,
        metavar="N",
        help=f"Processes of --ray.  [default: {default}]",
    )
    return lambda function: ray(workers(function))


def _with_ray(context: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    if value is not None and not context.params.get("ray"):
        raise click.UsageError("--workers goes with --ray.", context)
    return value


trace_option: Callable[[Any], Any] = click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    callback=_file,
    metavar="FILE",
    help="The trace: FILE.parquet; {shard} in it stands for the part.",
)
