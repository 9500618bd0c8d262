"""`drawn_probability`: stop after a token that the draft itself found improbable.

Rule: once a token x is drawn, with probability q(x) below the threshold λ, it is the last of its block. It stays in
the block: a drawn token that is dropped because it came out improbable would change the output.

Three sources, one rule:
* `update = "fixed"`, λ = 0.4, at most 20 tokens: `assistant_confidence_threshold` of Hugging Face transformers.
* `update = "algorithm1"`: Draft & Verify (Zhang et al., arXiv 2309.08168), with `distribution = "untempered"` (the
  softmax of the raw logits), `threshold` 0.8 for greedy decoding and 0.5 for sampling, `max_draft = 8`, and in
  `controller` `full = "drafted"` and `initial_acceptance_rate = 0`.
* `update = "roc"`: transformers where scikit-learn is installed. With more than five judged tokens in its history,
  and of both outcomes, λ = the q(x) in it that minimises fpr + 3·fnr, had "q(x) ≥ λ" predicted acceptance.

What the sources leave open: at temperature 0, where q is one-hot, q(x) is the probability of the most probable token in
the softmax of the processed logits. The history holds the latest `history` judged tokens, all that transformers would
keep of a generation of ordinary length; the block's rejected token counts, what follows it does not. Of equally good
thresholds the largest is taken, and counts are compared as whole numbers, so that no rounding decides.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from stopkit import Drawn, RoundOutcome, Signals, State
from stopkit.threshold import MovingThreshold

EMPTY = -1.0
"""Stands in the history where there is no token."""


class DrawnProbability(MovingThreshold):
    """A threshold on the probability of the drawn token."""

    kind: ClassVar[str] = "drawn_probability"
    formula: ClassVar[str] = "stop after the token when q(x) < λ; λ fixed, by Draft & Verify's update or by ROC"
    source: ClassVar[str] = "transformers; Draft & Verify, arXiv 2309.08168"

    threshold: float = Field(default=0.4, ge=0, le=1, description="λ, a probability; the initial one if it moves")
    max_draft: int = Field(default=20, ge=0, le=1024, description="most tokens a round, L")
    distribution: Literal["sampled", "untempered"] = Field(
        default="sampled", description="q as it is sampled, or the softmax of the draft's raw logits"
    )
    update: Literal["fixed", "algorithm1", "roc"] = Field(  # type: ignore[assignment]
        default="fixed", description="keep λ, move it by Algorithm 1, or set it from the ROC curve of past tokens"
    )
    history: int = Field(default=512, ge=6, le=65536, description="judged tokens to remember; read when update is roc")

    @property
    def required_signals(self) -> frozenset[str]:
        return frozenset({"max_probability" if self.distribution == "sampled" else "logits"})

    def init(self, batch_size: int, device: torch.device) -> State:
        state = super().init(batch_size, device)
        if self.update != "roc":
            return state
        none = [EMPTY] * self.history
        return state | State.learned(batch_size, device, shared=self.carry_over, score=none, match=none)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        return self.passes(state, position + 1, self.confidence(signals, drawn)), state

    def confidence(self, signals: Signals, drawn: Drawn) -> Tensor:
        """q(x), [B]."""
        if self.distribution == "sampled":
            return drawn.confidence(signals)
        token = drawn.token.unsqueeze(1)
        return (signals.logits.gather(1, token).squeeze(1) - signals.logits.logsumexp(1)).exp()

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        if self.update != "roc":
            return super().learn(state, outcome)
        if not outcome.drawn:
            return state
        score = torch.stack([self.confidence(*seen) for seen in zip(outcome.signals, outcome.drawn, strict=False)], 1)
        judged, match = outcome.judged(len(outcome.drawn))
        scores, matches = state["score"], state["match"]
        rows = len(scores)  # 1 where all sequences share one history
        scores = _latest(scores, score.double().where(judged, EMPTY).reshape(rows, -1))
        matches = _latest(matches, match.double().where(judged, EMPTY).reshape(rows, -1))
        return state.put(score=scores, match=matches, threshold=roc_threshold(scores, matches, state["threshold"]))


def _latest(history: Tensor, new: Tensor) -> Tensor:
    """The last entries of `history` [R, N] and `new` [R, M] that are not empty, in order and after the empty ones."""
    both = torch.cat([history, new], 1)
    order = (both != EMPTY).to(torch.uint8).argsort(dim=1, stable=True)
    return both.gather(1, order)[:, -history.shape[1] :]


def roc_threshold(scores: Tensor, matches: Tensor, otherwise: Tensor) -> Tensor:
    """argmin over the `scores` [R, N] of fpr + 3·fnr; `otherwise` [R] while there are too few."""
    scores, order = scores.sort(1, descending=True)
    matches = matches.gather(1, order)
    hits, misses = (matches == 1).cumsum(1), (matches == 0).cumsum(1)
    all_hits, all_misses = hits[:, -1:], misses[:, -1:]
    cost = misses * all_hits + 3 * (all_hits - hits) * all_misses  # (fpr + 3·fnr) · all_misses · all_hits
    below = torch.cat([scores[:, 1:], torch.full_like(scores[:, :1], EMPTY)], 1)
    possible = (scores > below) & (scores != EMPTY)  # the last of equal scores counts them all
    best = cost.where(possible, 4 * scores.shape[1] ** 2).argmin(1, keepdim=True)
    enough = (all_hits + all_misses > 5) & (all_hits > 0) & (all_misses > 0)
    return scores.gather(1, best).squeeze(1).where(enough.squeeze(1), otherwise)
