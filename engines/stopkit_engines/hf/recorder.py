"""Recording: the target samples its outputs, then the draft rolls out from every position of them, coupled to them.

Two loops draw tokens here, and neither is speculative decoding: nothing is decided and nothing is thrown away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stopkit.errors import GenerationError
from stopkit.random import RandomSource, sequence_seeds
from stopkit.signals import compute, entropy
from stopkit.trace.recorder import RecordingRequest, Rollouts
from stopkit.verification import coupled
from stopkit_engines.batch.runner import finite
from stopkit_engines.hf.branches import Branches
from stopkit_engines.hf.cached_model import CachedModel

SIGNALS = frozenset({"entropy", "max_probability", "margin", "top_token"})


@dataclass(frozen=True)
class Output:
    """What the target sampled after one prompt."""

    tokens: Tensor
    """[P + N] long: the prompt, then x."""
    prompt: int
    """How many tokens the prompt has, P."""
    room: int
    """Tokens that could have been generated, N or more."""
    p: Tensor
    """[N, V], the distributions that x was drawn from."""
    entropy: Tensor
    """[N], nats, the entropy of what policies are shown of each."""

    @property
    def count(self) -> int:
        """How many tokens were sampled, N."""
        return len(self.p)


class EagerRecorder:
    """Records with models in eager mode. `ends` are the tokens that end a sequence."""

    def __init__(self, target: Any, draft: Any, ends: Sequence[int], request: RecordingRequest) -> None:
        self._models = target, draft
        self._request = request
        self._vocabulary = target.config.get_text_config().vocab_size
        self._device = target.device
        self._ends = torch.tensor(sorted(ends), dtype=torch.long, device=self._device)

    @torch.inference_mode()
    def record(self, prompts: Sequence[Sequence[int]], rooms: Sequence[int]) -> Iterator[Rollouts]:
        """Record up to `rooms` tokens after each of `prompts`, the request's as token ids, and all rollouts."""
        request = self._request
        for first in range(0, len(prompts), request.batch_size):
            batch = slice(first, first + request.batch_size)
            if request.done.issuperset(request.sequences[batch]):
                continue
            outputs = self._sample(prompts[batch], rooms[batch], request.seeds[batch])
            for sequence, seed, output in zip(request.sequences[batch], request.seeds[batch], outputs, strict=True):
                if sequence not in request.done:
                    yield Rollouts.joined(list(self._rollouts(sequence, seed, output)))

    def _sample(self, prompts: Sequence[Sequence[int]], rooms: Sequence[int], seeds: Sequence[int]) -> list[Output]:
        length = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        last = length + torch.tensor(rooms, device=self._device)
        capacity = int(last.max())
        tokens = torch.zeros(len(prompts), capacity + 1, dtype=torch.long, device=self._device)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        model = CachedModel(self._models[0], self._vocabulary, len(prompts), capacity, self._device)
        random = self._request.source(seeds, self._device)
        active, history, entropies = length < last, [], []
        while bool(active.any()):
            logits = model.forward(tokens, length.where(active, model.filled), keep=1).logits[:, 0]
            if bool((active & ~finite(logits)).any()):
                raise GenerationError("the target's logits are NaN or infinite. A wider dtype (engine.dtype) may help.")
            p = self._request.options.probabilities(logits)
            token = random.categorical(p, active)
            tokens.scatter_(1, length.where(active, capacity).unsqueeze(1), token.unsqueeze(1))
            history.append(p)
            entropies.append(entropy(self._request.options.shown(logits, p)))
            length = length + active
            active = active & (length < last) & (token.unsqueeze(1) != self._ends).all(1)
        outputs = []
        for at, (row, end, prompt, room) in enumerate(zip(tokens, length.tolist(), prompts, rooms, strict=True)):
            drawn = slice(end - len(prompt))
            known = (torch.stack([of_rows[at] for of_rows in each[drawn]]) for each in (history, entropies))
            outputs.append(Output(row[:end], len(prompt), room, *known))
        return outputs

    def _rollouts(self, sequence: int, seed: int, output: Output) -> Iterator[Rollouts]:
        """The rollouts from every start, `request.rollouts` of them at a time."""
        request = self._request
        shape = (request.rollouts, request.max_draft)
        target, draft = (
            Branches(model, self._vocabulary, output.tokens[:-1], output.count, *shape, hidden)
            for model, hidden in zip(self._models, (False, request.hidden_state), strict=True)
        )
        for starts in torch.split(torch.arange(output.count, device=self._device), request.rollouts):
            seeds = [sequence_seeds(seed, 1, start)[0] for start in starts.tolist()]
            rollout = _Rollout(output, starts, request, request.source(seeds, self._device))
            rollout.draft(draft, self._ends)
            rollout.judge(target)
            yield rollout.result(sequence)


class _Rollout:
    """Rollouts from `starts` [R] of one output, side by side."""

    def __init__(self, output: Output, starts: Tensor, request: RecordingRequest, random: RandomSource) -> None:
        self._output, self._starts, self._request, self._random = output, starts, request, random
        self._length = output.prompt + starts
        self._limit = output.room - starts - 1
        self._drafted = torch.zeros_like(starts)
        self._q: list[Tensor] = []
        self._on_path: list[Tensor] = [torch.ones_like(starts, dtype=torch.bool)]
        self._columns: list[dict[str, Tensor]] = []

    def draft(self, model: Branches, ends: Tensor) -> None:
        """Draw the tokens, until every row is at its limit or has ended."""
        self._limit = torch.minimum(self._limit, model.context - self._length).clamp(min=0)
        most = self._limit.clamp(max=self._request.max_draft)
        live, scores = most > 0, model.leave(self._length)
        while True:
            usable = finite(scores.logits)
            live = live & usable
            if not bool(live.any()):
                return
            token = self._draw(scores.logits.where(usable.unsqueeze(1), 0.0), scores.hidden_state, live)
            self._drafted = self._drafted + live
            live = live & (self._drafted < most) & (token.unsqueeze(1) != ends).all(1)
            if bool(live.any()):
                scores = model.forward(token.unsqueeze(1)).last

    def _draw(self, logits: Tensor, hidden_state: Tensor | None, live: Tensor) -> Tensor:
        options, on_path, request = self._request.options, self._on_path[-1], self._request
        q = options.probabilities(logits)
        p, x = self._path(len(self._q))
        token = self._random.categorical(coupled(p, q, x).where(on_path.unsqueeze(1), q), live)
        shown = options.shown(logits, q)
        signals = compute(SIGNALS, lambda: shown, logits)
        columns = {name: getattr(signals, name) for name in SIGNALS}
        columns |= {"token": token, "drawn_probability": _at(q, token), "accepted": on_path & live & (token == x)}
        if request.top_k_logits:
            top = logits.topk(min(request.top_k_logits, logits.shape[-1]))
            columns |= {"top_tokens": top.indices, "top_logits": top.values.float()}
        if hidden_state is not None:
            columns["hidden_state"] = hidden_state.float()
        self._q.append(q)
        self._on_path.append(columns["accepted"])
        self._columns.append(columns)
        return token

    def _path(self, position: int) -> tuple[Tensor, Tensor]:
        """p and x at a position of rollouts that have not left the path; past the output's end the last."""
        at = (self._starts + position).clamp(max=self._output.count - 1)
        return self._output.p[at], self._output.tokens[self._output.prompt + at]

    def judge(self, model: Branches) -> None:
        """Find what the target thinks of every position. On the path that is known, and all begin on it."""
        options, tokens = self._request.options, [column["token"] for column in self._columns]
        model.leave(self._length)
        off_path = model.forward(torch.stack(tokens[:-1], 1)).logits.unbind(1) if tokens[1:] else ()
        for position, (q, column) in enumerate(zip(self._q, self._columns, strict=True)):
            p, _ = self._path(position)
            if position:
                other = options.probabilities(off_path[position - 1])
                p = p.where(self._on_path[position].unsqueeze(1), other)
            column["beta"] = torch.minimum(p, q).sum(-1)
            column["acceptance"] = (_at(p, column["token"]) / _at(q, column["token"])).clamp(max=1)

    def result(self, sequence: int) -> Rollouts:
        """Everything, on the CPU."""
        names = self._columns[0] if self._columns else {}
        columns = {name: torch.stack([column[name] for column in self._columns], 1).cpu() for name in names}
        last, own = (self._output.tokens[self._length - back].cpu() for back in (1, 0))
        limit = self._limit.where(self._drafted > 0, 0)
        told = self._length.cpu(), self._output.entropy[self._starts].float().cpu()
        return Rollouts(sequence, last, own, limit.cpu(), self._drafted.cpu(), columns, *told)


def _at(distribution: Tensor, token: Tensor) -> Tensor:
    return distribution.gather(1, token.unsqueeze(1)).squeeze(1)
