"""The field of a benchmark: models loaded once for a dtype, and all who run on them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from stopkit.config import load_engine
from stopkit.errors import InputError
from stopkit.spec import load_policy
from stopkit_engines.bench.contest import AUTOREGRESSIVE, Name
from stopkit_engines.bench.contestants import ASSISTED, PLAIN, Contestant, Ours, Peer
from stopkit_engines.eager import EagerEngine


class Field:
    """Contestants on a target and a draft, in one dtype.

    transformers and those engines that need plain weights share one pair of models; the others load their own.
    """

    def __init__(
        self, target: str, draft: str, dtype: str, engines: Iterable[str], policies: Iterable[str], peers: bool
    ) -> None:
        block = {"target": target, "draft": draft, "dtype": dtype}
        plain: Any = load_engine({"kind": "eager", **block, "packed": False})
        if not isinstance(plain, EagerEngine):
            raise InputError(
                "engine.kind: a benchmark loads models with the built-in engine `eager`, which is not there."
            )
        self.models = plain.models
        self.contestants: dict[Name, Contestant] = {}
        if peers:
            for policy in (PLAIN, *ASSISTED) if self.models.one_tokenizer else (PLAIN,):
                self._enter(Peer(self.models.target, self.models.draft, policy))
        for kind in engines:
            engine = self._engine(kind, block)
            for policy in (AUTOREGRESSIVE, *policies):
                self._enter(Ours(engine, policy, load_policy(policy)))

    def _engine(self, kind: str, block: dict[str, str]) -> Any:
        loaded: Any = load_engine({"kind": kind, **block})
        if kind != "compiled":
            return loaded
        return loaded.over(self.models)

    def _enter(self, contestant: Contestant) -> None:
        self.contestants[Name(contestant.engine, contestant.policy)] = contestant

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        device: torch.device = self.models.target.device
        return device

    def of(self, rows: int) -> dict[Name, Contestant]:
        """Those that can run so many prompts side by side."""
        return {name: each for name, each in self.contestants.items() if each.takes(rows)}

    def prompts(self, texts: Sequence[str], length: int | None) -> list[list[int]]:
        """The token ids of `texts`; with a `length`, so many tokens of all of them together, from other places each."""
        tokenizer: Any = self.models.tokenizer
        encoded = [tokenizer(text)["input_ids"] for text in texts]
        if length is None:
            return encoded
        whole = [token for tokens in encoded for token in tokens]
        whole = whole * -(-2 * length // len(whole))
        step = max(1, (len(whole) - length) // len(texts))
        return [whole[at * step : at * step + length] for at in range(len(texts))]
