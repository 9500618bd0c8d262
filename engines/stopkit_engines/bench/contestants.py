"""Who meets in a benchmark: stopkit's engines with a policy each, and transformers' own `generate`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from transformers.generation.streamers import BaseStreamer

from stopkit.engine import Engine
from stopkit.generation import GenerationOptions, Piece
from stopkit.policy import StoppingPolicy
from stopkit.state import State
from stopkit.statistics import Statistics
from stopkit_engines.hf.loading import end_of_sequence

PEER = "transformers"
PLAIN = "plain"
ASSISTED: Mapping[str, Mapping[str, Any]] = {
    "assisted": {},
    "assisted:3": {"num_assistant_tokens": 3},
    "assisted:5": {"num_assistant_tokens": 5},
    "assisted:8": {"num_assistant_tokens": 8},
    "assisted:heuristic": {"num_assistant_tokens": 5, "num_assistant_tokens_schedule": "heuristic"},
}
"""transformers' assisted generation: its defaults, constants, and its schedule."""
WITHOUT_THRESHOLD = {"num_assistant_tokens_schedule": "constant", "assistant_confidence_threshold": 0.0}
"""What makes a constant of a number of tokens."""


@dataclass(frozen=True)
class Done:
    """What came of some prompts."""

    tokens: Sequence[Sequence[int]]
    """New tokens of each prompt, the one that ended it included."""
    seconds: float
    """Wall time of the whole call."""
    first: float
    """Seconds until there were the first tokens, those of the prompt's reading included."""
    stats: Statistics
    """What was counted; a peer counts its tokens only."""


class Contestant(Protocol):
    """One that generates."""

    @property
    def engine(self) -> str:
        """What it runs on."""

    @property
    def policy(self) -> str:
        """How it drafts."""

    def takes(self, rows: int) -> bool:
        """Whether it can run so many prompts side by side."""

    def begin(self) -> None:
        """A new pass over the prompts begins, in which nothing is known of the one before."""

    def run(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> Done:
        """Continue `prompts`, token ids, side by side."""


@dataclass
class Ours:
    """An engine with a policy. What the policy carries over it keeps during a pass."""

    runs_on: Engine
    policy: str
    rule: StoppingPolicy
    _learned: State | None = field(default=None, init=False)

    @property
    def engine(self) -> str:
        return self.runs_on.kind

    def takes(self, rows: int) -> bool:
        return True

    def begin(self) -> None:
        self._learned = None

    def run(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> Done:
        first: list[float] = []

        def heard(piece: Piece) -> None:
            if not first:
                first.append(time.perf_counter())

        began = time.perf_counter()
        result = self.runs_on.generate(
            prompts, self.rule, on_piece=heard, state=self._learned, **options.model_dump(exclude_unset=True)
        )
        ended = time.perf_counter()
        self._learned = result.state.outlived()
        return Done(result.tokens, ended - began, first[0] - began, result.stats)


class Moments(BaseStreamer):  # type: ignore[misc]
    """When there was something new: the prompt, then tokens."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


@dataclass
class Peer:
    """transformers' `generate`, plain or with a draft model as its assistant."""

    target: Any
    draft: Any | None
    policy: str
    engine: str = PEER

    def takes(self, rows: int) -> bool:
        return self.policy == PLAIN or rows == 1

    def begin(self) -> None:
        pass

    def run(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> Done:
        ends = [*end_of_sequence(self.target)]
        pad, longest = ends[0] if ends else 0, max(map(len, prompts))
        missing = [longest - len(prompt) for prompt in prompts]
        rows = [[pad] * some + [*prompt] for some, prompt in zip(missing, prompts, strict=True)]
        device, moments = self.target.device, Moments()
        asked = torch.tensor(rows, device=device)
        seen = torch.arange(longest, device=device) >= torch.tensor(missing, device=device).unsqueeze(1)
        sampled = {"do_sample": True, "temperature": options.temperature, "top_k": 0, "top_p": 1.0}
        given: dict[str, Any] = sampled if options.temperature else {"do_sample": False}
        if self.policy != PLAIN:
            given["assistant_model"] = self._assistant()
        torch.manual_seed(options.seed)
        began = time.perf_counter()
        said = self.target.generate(
            asked,
            attention_mask=seen.long(),
            max_new_tokens=options.max_new_tokens,
            pad_token_id=pad,
            streamer=moments,
            **given,
        )
        whole = said[:, longest:].tolist()
        ended = time.perf_counter()
        tokens = [_until_end(row, ends) for row in whole]
        stats = Statistics(tokens=sum(map(len, tokens)))
        stats.seconds["other"] = ended - began
        return Done(tokens, ended - began, moments.times[1] - began, stats)

    def _assistant(self) -> Any:
        """The draft, which transformers asks how it is to draft."""
        draft: Any = self.draft
        asked = ASSISTED[self.policy]
        constant = WITHOUT_THRESHOLD if asked else dict.fromkeys(WITHOUT_THRESHOLD)
        settings = {"num_assistant_tokens": None, **constant, **asked}
        for name, value in settings.items():
            setattr(draft.generation_config, name, value)
        return draft


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Tokens up to the first that ends a sequence: what follows is padding."""
    place = next((at + 1 for at, token in enumerate(tokens) if token in ends), None)
    return tokens[:place]
