"""Rounds to run a policy through: made from a seed, so that a sequence meets the same whoever is beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from stopkit.costs import Costs
from stopkit.policy import Drawn, RoundContext, StoppingPolicy
from stopkit.sampling import softmax
from stopkit.signals import SIGNALS, Signals, compute

ONE_HOT = 1e4
"""Scale of logits whose softmax is one-hot."""
LARGEST = 6e4
"""Largest logit, within float16."""


@dataclass(frozen=True)
class Rounds:
    """Some rounds of some sequences. Who finishes when, what is drawn and accepted follows from these values."""

    seed: int = 0
    sequences: int = 2
    rounds: int = 2
    vocabulary: int = 3
    longest: int = 3
    """Limits reach up to here."""
    scale: float = 1.0
    """How far the logits are spread; 0 gives a uniform q."""
    accepted: str = "some"
    """Tokens of a block: "none", "some" or "all"."""
    steady: bool = False
    """Every limit is the longest, and no sequence ends within a block or before the last round."""
    dtype: str = "float32"
    """The dtype of the logits."""
    device: str = "cpu"

    def __repr__(self) -> str:
        changed = [
            f"{at.name}={getattr(self, at.name)!r}" for at in fields(self) if getattr(self, at.name) != at.default
        ]
        return f"Rounds({', '.join(changed)})"

    @property
    def everyone(self) -> list[int]:
        """All sequences, in order."""
        return list(range(self.sequences))

    @cached_property
    def met(self) -> dict[str, Tensor]:
        """All that the sequences meet, by name: [sequences, rounds, …] or [sequences, rounds, longest, …]."""
        generator = torch.Generator().manual_seed(self.seed)
        by_round = (self.sequences, self.rounds)
        by_position = (*by_round, self.longest)

        def number(most: int, size: Sequence[int]) -> Tensor:
            drawn = torch.randint(0, most + 1, tuple(size), generator=generator)
            return torch.full_like(drawn, most) if self.steady else drawn

        logits = self.scale * torch.randn(*by_position, self.vocabulary, generator=generator, dtype=torch.float64)
        logits = logits.clamp(-LARGEST, LARGEST).to(getattr(torch, self.dtype))
        q = softmax(logits)
        token = torch.multinomial(q.view(-1, self.vocabulary), 1, generator=generator).view(by_position)
        kept = torch.randint(0, self.longest + 1, by_round, generator=generator)
        tensors = vars(compute(SIGNALS, lambda: q, logits, hidden_state=logits.tanh())) | {
            "token": token,
            "probability": q.gather(-1, token.unsqueeze(-1)).squeeze(-1),
            "kept": {"none": torch.zeros_like(kept), "all": torch.full_like(kept, self.longest)}.get(
                self.accepted, kept
            ),
            "limit": number(self.longest, by_round),
            "end": number(self.longest, by_round),
            "finish": number(self.rounds, by_round[:1]).unsqueeze(1).expand(by_round),
            "last": torch.randint(0, self.vocabulary, by_round, generator=generator),
            "length": torch.randint(1, 64, by_round, generator=generator),
            "entropy of the target": torch.rand(by_round, generator=generator) * math.log(self.vocabulary),
        }
        tensors["entropy of the target"][:, 0] = torch.nan  # nothing has been said yet
        return {name: value.to(self.device) for name, value in tensors.items()}

    def at(self, name: str, who: Tensor, number: int) -> Tensor:
        """The value called `name` of the sequences `who` in round `number`, [B, …]; after the last all are finished."""
        return self.met[name][who, min(number, self.rounds - 1)]

    def context(self, who: Tensor, number: int) -> RoundContext:
        """What the engine knows before a round; it says that all sequences generate, whoever is in `who`."""
        active = self.at("finish", who, number) > number
        seconds = torch.tensor([0.1, 1.0, 0.05], dtype=torch.float64, device=self.device)
        return RoundContext(
            active=active,
            limit=self.at("limit", who, number).where(active, 0),
            costs=Costs(*seconds.unbind()),
            batch_size=torch.tensor(self.sequences, device=self.device),
            last_token=self.at("last", who, number),
            length=self.at("length", who, number),
            entropy=self.at("entropy of the target", who, number),
        )

    def signals(self, policy: StoppingPolicy, who: Tensor, number: int, position: int) -> Signals:
        """The signals that the policy declares, of one position."""
        return Signals(**{name: self.at(name, who, number)[:, position] for name in policy.required_signals})

    def drawn(self, who: Tensor, number: int, position: int) -> Drawn:
        """The tokens that come out at one position."""
        token, probability = (self.at(name, who, number)[:, position] for name in ("token", "probability"))
        return Drawn(token, probability)


def rounds(**fixed: Any) -> st.SearchStrategy[Rounds]:
    """Rounds of every sort; `fixed` are values, or other strategies to draw them from."""
    drawn: dict[str, st.SearchStrategy[Any]] = {
        "seed": st.integers(0, 999),
        "sequences": st.integers(1, 4),
        "rounds": st.sampled_from([1, 2, 3, 4, 16]),
        "vocabulary": st.sampled_from([2, 3, 8]),
        "longest": st.integers(1, 6),
        "scale": st.sampled_from([1.0, 0.3, 3.0]),
        "accepted": st.sampled_from(["some", "all", "none"]),
        "device": st.sampled_from(["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]),
    }
    drawn |= {name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in fixed.items()}
    return st.builds(Rounds, **drawn)
