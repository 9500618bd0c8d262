"""Servers that run without stopkit: what each can be told about draft lengths, and which policy has that rule.

As of vLLM 0.33, SGLang 0.5.23, transformers 5.24 and llama.cpp b11413. Where a server can be told how drafts
are drawn, it is told to draw them from the draft's distribution, as a trace holds them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stopkit.costs import FixedCosts
from stopkit.policy import StoppingPolicy
from stopkit.spec import load_policy
from stopkit.trace.batches import bands
from stopkit.trace.space import Choice, Space, searchable
from stopkit.trace.trace import Trace
from stopkit.validation import validated

Length = Annotated[int, Field(ge=1, le=1024)]
Probability = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda value: round(value, 3))]


class Settings(BaseModel):
    """What a server can be told, under its own names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VLLM(Settings):
    """A constant length, from vLLM's speculative config."""

    num_speculative_tokens: Length = 5


class LlamaCpp(Settings):
    """A longest block, and the least probability of the best token, from llama.cpp's command line."""

    spec_draft_n_max: Length = 3
    spec_draft_p_min: Probability = 0.0


class Transformers(Settings):
    """A length, how it changes, and the least probability of a drawn token, from the draft's generation config."""

    num_assistant_tokens: Length = 20
    assistant_confidence_threshold: Probability = 0.4
    num_assistant_tokens_schedule: Literal["constant", "heuristic", "heuristic_transient"] = "constant"


class SGLang(Settings):
    """A constant length, from SGLang's command line."""

    speculative_num_steps: Length = 3


Block = dict[str, Any]
SCHEDULES: Mapping[str, Block] = {
    "constant": {"increase": 0, "decrease": 0},
    "heuristic": {"carry_over": True},
    "heuristic_transient": {"carry_over": False},
}
"""The schedules of transformers, as fields of `heuristic`."""


class Server(NamedTuple):
    """What is known of a server."""

    settings: type[Settings]
    """What can be searched."""
    policy: Callable[[Any], Block]
    """The policy that has the same rule at some settings."""
    options: Callable[[Any, str], Block]
    """Everything that says so to the server, with the name of the draft model."""
    form: Callable[[Block], str]
    """How that is written, to be copied as it is."""
    where: str
    """Where it goes."""
    apart: str
    """In what the server is not like that policy."""
    besides: Callable[[Trace, Sequence[FixedCosts], Any], Block] = lambda trace, costs, settings: {}
    """Settings that follow from a trace, costs and the others."""


def command_line(options: Block) -> str:
    """A fragment of a command line; tables are JSON."""
    values = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in options.items()}
    return " ".join(f"--{name.replace('_', '-')} {quote(value)}" for name, value in values.items())


SERVERS: Mapping[str, Server] = {
    "vllm": Server(
        settings=VLLM,
        policy=lambda settings: {"kind": "static", "length": settings["num_speculative_tokens"]},
        options=lambda settings, draft: {
            "speculative_config": {
                "method": "draft_model",
                "model": draft,
                "draft_sample_method": "probabilistic",
                **settings,
            }
        },
        form=command_line,
        where="the command line of vllm serve",
        apart="the table by batch size follows from the costs, a token of another sequence as dear as one of a block; "
        "vLLM's newer runner drafts the whole length whatever the table says, unless the draft is a head",
        besides=lambda trace, costs, settings: {
            "num_speculative_tokens_per_batch_size": bands(trace, costs, settings["num_speculative_tokens"])
        },
    ),
    "llama.cpp": Server(
        settings=LlamaCpp,
        policy=lambda settings: {
            "kind": "max_probability",
            "threshold": settings["spec_draft_p_min"],
            "max_draft": settings["spec_draft_n_max"],
            "min_draft": 0,
        },
        options=lambda settings, draft: {
            "spec_type": "draft-simple",
            "spec_draft_model": draft,
            "spec_draft_sampling": "probabilistic",
            **settings,
            "spec_draft_n_min": 0,
        },
        form=command_line,
        where="the command line of llama-server",
        apart="it looks at the probability among the ten best tokens, before the temperature; its least number of "
        "tokens throws shorter blocks away, which no policy does, and stays 0",
    ),
    "transformers": Server(
        settings=Transformers,
        policy=lambda settings: {
            "kind": "first_of",
            "policies": [
                {
                    "kind": "drawn_probability",
                    "threshold": settings["assistant_confidence_threshold"],
                    "max_draft": 1024,
                },
                {
                    "kind": "heuristic",
                    "start": settings["num_assistant_tokens"],
                    **SCHEDULES[settings["num_assistant_tokens_schedule"]],
                },
            ],
        },
        options=lambda settings, draft: settings,
        form=json.dumps,
        where="generation_config.json of the draft model",
        apart="where scikit-learn is installed, transformers moves the threshold as it goes; its schedule heuristic "
        "drafts two tokens more after a sequence whose last round had none left to draft",
    ),
    "sglang": Server(
        settings=SGLang,
        policy=lambda settings: {"kind": "static", "length": settings["speculative_num_steps"]},
        options=lambda settings, draft: {
            "speculative_algorithm": "STANDALONE",
            "speculative_draft_model_path": draft,
            **settings,
            "speculative_eagle_topk": 1,
            "speculative_num_draft_tokens": settings["speculative_num_steps"] + 1,
        },
        form=command_line,
        where="the command line of sglang.launch_server",
        apart="by default it drafts the most probable tokens, of which fewer are accepted at a temperature; among its "
        "draft tokens it counts the one before the block",
    ),
}
"""By the name that a user gives."""


@dataclass(frozen=True)
class ServerSpace(Space):
    """The settings of a server to search; its policies are those that have the same rule."""

    server: Server

    def settings_at(self, values: Mapping[str, Any]) -> Block:
        """The settings with these values, as the server takes them."""
        return validated(self.server.settings, values, "settings").model_dump()

    def policy_at(self, values: Mapping[str, Any]) -> StoppingPolicy:
        return load_policy(self.server.policy(self.settings_at(values)))


def server_space(name: str, trace: Trace) -> ServerSpace:
    """What to search for a server: all that it can be told, with lengths up to the longest rollout of `trace`."""
    server, longest = SERVERS[name], trace.metadata.max_draft
    defaults = server.settings()
    choices = (choice for choice in searchable(defaults).values() if isinstance(choice, Choice))
    fitting = (
        replace(choice, high=longest, default=min(choice.default, longest)) if choice.whole else choice
        for choice in choices
    )
    return ServerSpace(load_policy(server.policy(defaults.model_dump())), tuple(fitting), {}, server)
