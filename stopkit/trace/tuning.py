"""Search a policy's fields on a trace: the geometric mean of its speed-up over the costs, on some of the sequences.

The study lies in a storage, trial by trial, so that an interrupted search goes on and several machines can share one.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from statistics import geometric_mean
from typing import Any, NamedTuple

import optuna
import torch
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.errors import InputError, one_line, shown
from stopkit.intervals import Interval, interval, resampled
from stopkit.kinds import as_block
from stopkit.policy import StoppingPolicy
from stopkit.trace.replay import Replay, replay
from stopkit.trace.space import Choice, Space
from stopkit.trace.trace import Trace

DONE = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


@dataclass(frozen=True)
class Tuning:
    """A search: of what, on what, at what costs. `held_out` is the share of the sequences that it does not see."""

    trace: Trace
    space: Space
    costs: Sequence[FixedCosts]
    held_out: float = 0.5
    seed: int = 0

    @cached_property
    def parts(self) -> tuple[Trace, Trace]:
        """The sequences to tune on, and those held out, each in the order of the trace.

        Raises InputError if one of them would be empty.
        """
        count = len(self.trace.sequences)
        chance = torch.Generator().manual_seed(self.seed)
        order, aside = torch.randperm(count, generator=chance), round(self.held_out * count)
        if not 0 < aside < count:
            raise InputError(
                f"--held-out: {self.held_out:g} of {count} sequences leaves nothing to tune on or nothing to judge by."
            )
        return self.trace.select(order[aside:].sort().values), self.trace.select(order[:aside].sort().values)

    def score(self, policy: StoppingPolicy, part: Trace) -> float:
        """The geometric mean of the speed-up of `policy` over the costs, on a part of the trace."""
        return score(part, policy, self.costs)

    @property
    def name(self) -> str:
        """The name of the study: the same for the same search, wherever it goes on."""
        search = {
            "policy": as_block(self.space.policy),
            "fields": [choice.name for choice in self.space.choices],
            "trace": self.trace.metadata.common,
            "sequences": self.trace.sequences,
            "tokens": self.trace.tokens,
            "costs": [costs.model_dump() for costs in self.costs],
            "held_out": self.held_out,
            "seed": self.seed,
        }
        return f"{self.space.policy.kind} {hashlib.sha256(json.dumps(search).encode()).hexdigest()[:12]}"

    def study(self, storage: str, seeded: bool = True) -> optuna.Study:
        """The study, new or begun before, in an Optuna storage; it begins with the policy as it is.

        `seeded` makes a search repeatable; machines that share a study should not all draw the same. Raises InputError
        if the storage cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(
                study_name=self.name, storage=storage, direction="maximize", load_if_exists=True
            )
            begun = len(study.trials)
        except Exception as error:  # every storage has errors of its own
            reason = one_line(str(error).partition(" (Background")[0]).rstrip(".")
            raise InputError(f"--storage: {shown(storage)} cannot be opened: {reason}.") from None
        study.sampler = optuna.samplers.TPESampler(seed=self.seed + begun if seeded else None)
        defaults = {choice.name: choice.default for choice in self.space.choices}
        tried = study.get_trials(deepcopy=False, states=(*DONE, optuna.trial.TrialState.WAITING))
        if not any({**trial.system_attrs.get("fixed_params", {}), **trial.params} == defaults for trial in tried):
            study.enqueue_trial(defaults)  # it was never begun, or what began it was killed
        return study

    def run(
        self, study: optuna.Study, trials: int, tick: Callable[[int, float], None], scores: "Scores | None" = None
    ) -> None:
        """Go on until `trials` are done, those of all machines together; `tick(done, best)` after every one.

        `scores` may have several scored at a time; without, they are scored here, one after another.
        """
        asked = set[int]()

        def attempts() -> Iterator[Attempt]:
            while done(study) + len(asked) < trials:
                with _quiet():
                    trial = study.ask()
                    values = {choice.name: _suggested(trial, choice) for choice in self.space.choices}
                try:
                    policy = self.space.policy_at(values)
                except InputError:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    continue
                asked.add(trial.number)
                yield Attempt(trial, policy)

        tick(done(study), best_value(study))
        for attempt, value in (scores or self._one_by_one)(attempts()):
            study.tell(attempt.trial, value)
            asked.remove(attempt.trial.number)
            tick(done(study), best_value(study))

    def _one_by_one(self, attempts: "Iterable[Attempt]") -> "Iterator[tuple[Attempt, float]]":
        tuned_on, _ = self.parts
        for attempt in attempts:
            yield attempt, self.score(attempt.policy, tuned_on)


class Attempt(NamedTuple):
    """A policy to be scored, and the trial of the study that it is."""

    trial: optuna.Trial
    policy: StoppingPolicy

    def __str__(self) -> str:
        return f"trial {self.trial.number}"


Scores = Callable[[Iterable[Attempt]], Iterator[tuple[Attempt, float]]]
"""Gives each attempt with its score, in any order; takes the next one whenever there is room for it."""


def score(part: Trace, policy: StoppingPolicy, costs: Sequence[FixedCosts]) -> float:
    """The geometric mean of the speed-up of `policy` over the costs, on a part of a trace."""
    return geometric_mean([result.speedup for result in replay(part, policy, costs)])


def gain(tuned: Sequence[Replay], before: Sequence[Replay]) -> Interval | None:
    """How much faster a policy is than another on the same sequences, as an interval of the ratio of geometric means.

    Each is replayed at the same costs. None for a single sequence, which tells nothing of others.
    """
    if len(tuned[0].sequences) < 2:
        return None
    pairs = zip(tuned, before, strict=True)
    ratios = torch.stack([resampled(new.work, 1.0) / resampled(old.work, 1.0) for new, old in pairs])
    return interval(ratios.log().mean(0).exp())


def kept(part: Sequence[Replay], whole: Sequence[Replay]) -> tuple[float | None, Interval | None]:
    """Which share one policy has of another's gain over autoregressive decoding, and an interval of it.

    A gain is the geometric mean of the speed-ups over the costs, less 1. Each is replayed on the same sequences at the
    same costs. Both are None where the other gains nothing; the interval is if it may gain nothing, or if there is only
    one sequence.
    """
    ours, theirs = (geometric_mean([each.speedup for each in replays]) - 1 for replays in (part, whole))
    if theirs <= 0:
        return None, None
    if len(part[0].sequences) < 2:
        return ours / theirs, None
    drawn, of = _gains(part), _gains(whole)
    return ours / theirs, interval(drawn / of) if interval(of)[0] > 0 else None


def _gains(replays: Sequence[Replay]) -> Tensor:
    """The gain over autoregressive decoding in every resample, [RESAMPLES]."""
    return torch.stack([resampled(each.work, 1 / each.costs.verify) for each in replays]).log().mean(0).exp() - 1


def done(study: optuna.Study) -> int:
    """Trials that came to an end; those of machines that were killed are not among them."""
    return len(study.get_trials(deepcopy=False, states=DONE))


def best_value(study: optuna.Study) -> float:
    """The best score so far; 0 before there is one."""
    finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return max((trial.value for trial in finished if trial.value is not None), default=0.0)


def best_policy(tuning: Tuning, study: optuna.Study) -> StoppingPolicy | None:
    """The policy of the best trial so far; None before there is one."""
    return tuning.space.policy_at(study.best_params) if best_value(study) else None


def _suggested(trial: optuna.Trial, choice: Choice) -> Any:
    if choice.options:
        return trial.suggest_categorical(choice.name, choice.options)
    if choice.whole:
        return trial.suggest_int(choice.name, int(choice.low), int(choice.high), log=choice.logarithmic)
    return trial.suggest_float(choice.name, choice.low, choice.high, log=choice.logarithmic)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
