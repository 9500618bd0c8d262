"""A policy and what it learned can be written down and read back."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomli_w
import yaml
from hypothesis import strategies as st

from stopkit.kinds import as_block, without_unset
from stopkit.policy import StoppingPolicy
from stopkit.spec import read_tree
from stopkit.state_file import load_state, save_state
from stopkit.testing.checks import Draw
from stopkit.testing.for_policies.playing import Play, assert_same
from stopkit.testing.rounds import rounds
from stopkit.validation import validated


def config_survives_a_file(policy: StoppingPolicy, draw: Draw) -> None:
    """Written as TOML, JSON or YAML and read back it is the same policy. TOML leaves out what is unset."""
    suffix = draw(st.sampled_from(sorted(WRITERS)))
    block = as_block(policy)
    with TemporaryDirectory() as folder:
        path = Path(folder, f"policy{suffix}")
        path.write_text(WRITERS[suffix]({"policy": block}), encoding="utf-8")
        read = dict(read_tree(path)["policy"])
    kind = read.pop("kind", None)
    assert kind == policy.kind, f"the kind {policy.kind!r} comes back as {kind!r}"
    reread = validated(type(policy), read, "policy")
    assert as_block(reread) == block, f"{block} comes back as {as_block(reread)}"
    assert reread == policy, f"{policy!r} comes back as {reread!r}"


def state_survives_a_file(policy: StoppingPolicy, draw: Draw) -> None:
    """A state that was saved and loaded again goes on as it would have."""
    world = draw(rounds())
    pause = draw(st.integers(0, world.rounds))
    play = Play(policy, world).through(0, pause)
    with TemporaryDirectory() as folder:
        path = Path(folder, "state.safetensors")
        save_state(path, policy, play.state)
        resumed = Play(policy, world, state=load_state(path, policy))
    resumed.turns = [list(turns) for turns in play.turns]
    resumed.through(pause)
    assert_same(resumed, play.through(pause), world.everyone, f"from a file after {pause} rounds", "without a pause")


def _toml(tree: Mapping[str, Any]) -> str:
    return tomli_w.dumps(without_unset(tree))


WRITERS: dict[str, Callable[[Any], str]] = {".toml": _toml, ".json": json.dumps, ".yaml": yaml.safe_dump}
