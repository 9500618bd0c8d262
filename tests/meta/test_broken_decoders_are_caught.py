"""The tester is tested: every way to break verification, the loop or the cache that we know of fails the exact proof.

Each mutant replaces one function of the engine by a wrong one; the same check on the same models passes unbroken.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import stopkit_engines.batch.decoding as decoding
from stopkit import coupling
from stopkit.decoding import Commitment
from stopkit.sampling import Sampling, softmax
from stopkit.testing import TableModel, assert_distribution_preserved
from stopkit.verification import next_distribution, survival
from stopkit_engines.batch.steps import Steps
from stopkit_engines.hf.cache import RaggedCache
from stopkit_engines.hf.cached_model import CachedModel

BatchDecoding = decoding.BatchDecoding
Patch = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, tuple[Patch, dict[str, Any]]] = {}


def mutant(**sampling: Any) -> Callable[[Patch], Patch]:
    """Register a way to break the engine, and the sampling options under which it must be caught."""

    def register(patch: Patch) -> Patch:
        MUTANTS[patch.__name__] = (patch, {"temperature": 1.0} | sampling)
        return patch

    return register


def check(policy: str = "static:length=3", **sampling: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    target, draft = (TableModel.random(3, generator, scale=1.0) for _ in range(2))
    neighbours = [[2], [1, 1, 2]]
    assert_distribution_preserved(policy, target, draft, [0, 1], 3, neighbours=neighbours, **sampling)


def replace_next(patch: pytest.MonkeyPatch, wrong: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    patch.setattr(coupling, "next_distribution", wrong)


@mutant()
def token_dropped_after_it_was_drawn(patch: pytest.MonkeyPatch) -> None:
    commit, verify = BatchDecoding.commit, BatchDecoding.verify

    def dropping(self: Any, live: Tensor, drafted: Tensor) -> Commitment:
        drawn, more = commit(self, live, drafted)
        self.dropped = self.dropped + (live & (drawn.probability < 0.4)).long()
        return Commitment(drawn, more & (self.dropped == 0))

    def verifying(self: Any, drafted: Tensor) -> Any:
        left, self.dropped = drafted - self.dropped, torch.zeros_like(drafted)
        del self._block[int(left.max()) :]
        return verify(self, left)

    patch.setattr(BatchDecoding, "dropped", 0, raising=False)
    patch.setattr(BatchDecoding, "commit", dropping)
    patch.setattr(BatchDecoding, "verify", verifying)


@mutant()
def residual_missing(patch: pytest.MonkeyPatch) -> None:
    replace_next(patch, lambda p, q, accepted: p[torch.arange(len(p)), accepted])


@mutant()
def residual_of_the_wrong_sign(patch: pytest.MonkeyPatch) -> None:
    def wrong(p: Tensor, q: Tensor, accepted: Tensor) -> Tensor:
        left = (q - p).clamp(min=0)[torch.arange(len(p)), accepted]
        return left.where(left.sum(-1, keepdim=True) > 0, p[torch.arange(len(p)), accepted])

    replace_next(patch, wrong)


@mutant()
def residual_not_clamped_at_zero(patch: pytest.MonkeyPatch) -> None:
    def wrong(p: Tensor, q: Tensor, accepted: Tensor) -> Tensor:
        return (p - q).abs()[torch.arange(len(p)), accepted]

    replace_next(patch, wrong)


@mutant()
def bonus_off_by_one(patch: pytest.MonkeyPatch) -> None:
    def wrong(p: Tensor, q: Tensor, accepted: Tensor) -> Tensor:
        full = q[torch.arange(len(q)), accepted].sum(-1, keepdim=True) == 0
        before = p[torch.arange(len(p)), (accepted - 1).clamp(min=0)]
        return next_distribution(p, q, accepted).where(~full, before)

    replace_next(patch, wrong)


@mutant()
def every_token_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(coupling, "survival", lambda p, q, drawn: survival(p, q, drawn).ceil())


@mutant()
def acceptance_not_multiplied_along_the_block(patch: pytest.MonkeyPatch) -> None:
    def wrong(p: Tensor, q: Tensor, drawn: Tensor) -> Tensor:
        token = drawn.unsqueeze(-1)
        ratio = (p.gather(-1, token) / q.gather(-1, token)).squeeze(-1).clamp(max=1).nan_to_num()
        return ratio.cummin(-1).values

    patch.setattr(coupling, "survival", wrong)


@mutant()
def q_from_another_dtype(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(coupling, "survival", lambda p, q, drawn: survival(p, q.bfloat16().to(q.dtype), drawn))


@mutant(top_k=2)
def q_from_before_truncation(patch: pytest.MonkeyPatch) -> None:
    propose, commit = BatchDecoding.propose, BatchDecoding.commit

    def remembering(self: Any, *args: Any) -> Any:
        offering = self._draft.propose

        def watched(*asked: Any) -> Any:
            offer = offering(*asked)
            self.untruncated = softmax(offer.logits)
            return offer

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self._draft, "propose", watched)
            return propose(self, *args)

    def misrecording(self: Any, *args: Any) -> Commitment:
        commitment = commit(self, *args)
        self._block[-1] = self.untruncated
        return commitment

    patch.setattr(BatchDecoding, "propose", remembering)
    patch.setattr(BatchDecoding, "commit", misrecording)


@mutant()
def drafted_by_argmax_but_verified_against_soft_q(patch: pytest.MonkeyPatch) -> None:
    commit = BatchDecoding.commit

    def greedy(self: Any, *args: Any) -> Commitment:
        soft = self._q
        self._q = torch.zeros_like(soft).scatter_(1, soft.argmax(-1, keepdim=True), 1.0)
        commitment = commit(self, *args)
        self._block[-1] = soft
        return commitment

    patch.setattr(BatchDecoding, "commit", greedy)


@mutant(temperature=0.0)
def greedy_treated_as_softmax(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sampling, "probabilities", lambda self, logits: softmax(logits))


@mutant(top_p=0.6)
def truncation_applied_twice(patch: pytest.MonkeyPatch) -> None:
    once = Sampling.probabilities
    patch.setattr(Sampling, "probabilities", lambda self, logits: once(self, once(self, logits).log()))


@mutant(top_k=2)
def residual_truncated_again(patch: pytest.MonkeyPatch) -> None:
    def wrong(p: Tensor, q: Tensor, accepted: Tensor) -> Tensor:
        left = next_distribution(p, q, accepted)
        return left.where(left >= left.amax(-1, keepdim=True), 0.0)

    replace_next(patch, wrong)


@mutant()
def rejected_tokens_stay_in_the_cache(patch: pytest.MonkeyPatch) -> None:
    # The last token must stay pending, or there is nothing to compute; all before it is claimed to be seen.
    rewind = CachedModel.rewind

    def wrong(self: Any, agreed: Tensor) -> None:
        stale = self._cache.layers[0].values
        kept = stale.clone() if stale is not None else None
        rewind(self, agreed)
        self._cache.layers[0].values = kept if kept is None else kept.roll(1, dims=2)

    patch.setattr(CachedModel, "rewind", wrong)


@mutant()
def stale_entries_visible(patch: pytest.MonkeyPatch) -> None:
    see = CachedModel.see

    def wrong(self: Any, tokens: Tensor, slots: Tensor, positions: Tensor, visible: Tensor, *further: Any) -> Any:
        return see(self, tokens, slots, positions, visible | visible.roll(1, dims=2), *further)

    patch.setattr(CachedModel, "see", wrong)


@mutant()
def positions_count_from_the_batch(patch: pytest.MonkeyPatch) -> None:
    forward = TableModel.forward

    def wrong(self: Any, position_ids: Tensor | None = None, **options: Any) -> Any:
        if position_ids is not None:
            position_ids = position_ids.amax(0, keepdim=True).expand_as(position_ids)
        return forward(self, position_ids=position_ids, **options)

    patch.setattr(TableModel, "forward", wrong)


@mutant()
def rows_write_into_one_slot(patch: pytest.MonkeyPatch) -> None:
    point = RaggedCache.point
    patch.setattr(RaggedCache, "point", lambda self, slots, used: point(self, slots[:1].expand_as(slots), used))


@mutant()
def logits_of_shorter_blocks_not_aligned(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Steps, "_aligned", lambda self, logits, columns, ahead: logits)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, sampling = MUTANTS[name]
    policy = "adaedl:max_draft=3,threshold=0.45"  # blocks of unequal length
    check(policy, **sampling)
    patch(monkeypatch)
    with pytest.raises(AssertionError, match="changes the output"):
        check(policy, **sampling)
