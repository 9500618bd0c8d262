"""`stopkit trace record`: what the target says, and what the draft would have proposed from everywhere in it."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from stopkit.cli.app import Command
from stopkit.cli.options import PROMPTS_HELP, drawing_options, load, model_options
from stopkit.cli.trace.places import Part, ray_options, shard_option, trace_option

FILE = click.Path(path_type=Path)
DEFAULT_PROMPTS = 4


@click.command(cls=Command)
@trace_option
@click.option("--prompts", "prompt_file", type=FILE, help=f"{PROMPTS_HELP}  [default: held-out Python code]")
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="Held-out prompts, without --prompts; 4 if unset."
)
@click.option("-t", "--temperature", type=float, metavar="T", help="0 is greedy decoding.  [default: 1]")
@drawing_options
@model_options
@click.option("--max-draft", type=click.IntRange(1, 1024), default=16, show_default=True, help="Tokens of a rollout.")
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts at a time.")
@click.option(
    "--rollouts", type=click.IntRange(min=1), default=64, show_default=True, help="Rollouts at a time; bounds memory."
)
@click.option(
    "--top-k-logits", type=click.IntRange(min=0), default=0, metavar="N", help="Keep the draft's N largest logits."
)
@click.option("--hidden-state", is_flag=True, help="Keep the draft's last hidden state.")
@shard_option
@ray_options("one a GPU, or one a machine if there are none")
@click.option("--resume", is_flag=True, help="Go on with the recording in --out, if there is one.")
def record(
    out: Path,
    prompt_file: Path | None,
    count: int | None,
    config: Path | None,
    shard: Part,
    ray: str | None,
    workers: int | None,
    resume: bool,
    max_draft: int,
    batch_size: int,
    rollouts: int,
    top_k_logits: int,
    hidden_state: bool,
    **options: Any,
) -> None:
    """Record a trace.

    The target continues every prompt. From every position of what it says the draft rolls out, as it would have drafted
    there. Any policy can be replayed on that, exactly. Interrupted, the trace holds the sequences that are complete;
    --resume records the others. Started many times by Slurm or torchrun, each process records a part.
    """
    if prompt_file and count:
        raise click.UsageError("Give either --prompts or --count.")
    chosen = load(config, options)
    chosen = shard.on_its_device(chosen, lambda device: load(config, options | {"device": device}))
    shard.announce(out)

    from stopkit.cli.measuring import held_out
    from stopkit.cli.trace.watching import watch
    from stopkit.completions import every_turn
    from stopkit.errors import InputError
    from stopkit.kinds import as_block
    from stopkit.prompts import batches, read_prompts
    from stopkit.trace.fleet import Fleet
    from stopkit.trace.recording import Recording

    written = read_prompts(prompt_file) if prompt_file else held_out(count or DEFAULT_PROMPTS)
    prompts = every_turn(chosen.engine, chosen.policy, written, chosen.generation, batch_size)
    (whole,) = batches(prompts, len(prompts), chosen.generation.seed)
    fleet = Fleet.connected(ray, as_block(chosen.engine), workers) if ray else nullcontext()
    try:
        with fleet as recorder, watch(out) as (begin, tick):
            recording = Recording(
                engine=chosen.engine,
                prompts=whole.contents,
                options=chosen.generation,
                max_draft=max_draft,
                batch_size=batch_size,
                rollouts=rollouts,
                top_k_logits=top_k_logits,
                hidden_state=hidden_state,
                shard=shard.shard,
                recorder=recorder,
            )
            recording.run(out, resume, begin, tick)
    except InputError as error:
        raise whole.place(error) from None
