"""What the compiled engine adds to the bare replay of a model's graph, and how often a draft step waits."""

import statistics
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gpu.lines import Line, Setting, at_most, without_cuda
from gpu.pairs import heavy, loaded, pairs, prompt, seconds_of

BLOCK = 4
ROUNDS = 12
REPLAYS = 20
TARGETS = {"draft step / bare replay": 1.05, "verification / bare replay": 1.03}
SYNCS = "waits for the device in a draft step"


def speed(setting: Setting) -> Iterator[Line]:
    """A line a pair of sizes and a phase, and one for the waits."""
    for pair in pairs(setting):
        name = " and ".join(pair)
        engine = loaded("compiled", setting)
        with heavy(engine, pair), torch.inference_mode():
            measured = Round(engine)
            drafting, verifying = zip(*(measured.timed() for _ in range(2 if setting.small else ROUNDS)), strict=True)
            for (what, limit), times, field in zip(
                TARGETS.items(), (drafting, verifying), ("draft", "target"), strict=True
            ):
                bare = last_replay(engine, field)
                if bare is None:
                    yield without_cuda(f"{what}, {name}", f"≤ {limit} ×")
                    continue
                alone = seconds_of(bare, REPLAYS)
                took = statistics.median(times)
                more = f" ({took * 1e3:.2f} / {alone * 1e3:.2f} ms)"
                yield at_most(f"{what}, {name}", limit, took / alone, more=more)
            if not setting.cuda:
                yield without_cuda(f"{SYNCS}, {name}", "0")
                continue
            waits = measured.waits()
            yield Line(f"{SYNCS}, {name}", "0", f"{waits:.2f}", waits == 0, waits)


class Round:
    """Rounds of one sequence, each of a full block, with no policy to decide on it."""

    def __init__(self, engine: Any) -> None:
        self._generation = engine.begin([prompt(engine)], f"static:length={BLOCK}", max_new_tokens=400, temperature=1)
        for _ in range(4):  # prompts are read and graphs captured
            self._generation.step()
        self._draft_in_parts()
        self._generation.step()

    def _draft_in_parts(self) -> None:
        """A block with a graph of its own for each forward, as it is beside whole draft steps."""
        decoding = self._generation.decoding
        live = torch.ones(1, dtype=torch.bool, device=decoding.device)
        for drafted in range(BLOCK):
            decoding.propose(live, live * drafted)
            decoding.commit(live, live * drafted)
        decoding.verify(live * BLOCK)

    def draft(self) -> None:
        """The steps of a block."""
        for _ in range(BLOCK):
            self._generation.draft_step()

    def timed(self) -> tuple[float, float]:
        """Seconds of one draft step and of a verification."""
        decoding, controller = self._generation.decoding, self._generation.controller
        controller.plan(decoding.context())
        step = seconds_of(self.draft) / BLOCK
        verification = []
        took = seconds_of(lambda: verification.append(decoding.verify(controller.drafted)))
        controller.learn(*verification[0])
        return step, took

    def waits(self) -> float:
        """How often torch waits for the device in a draft step."""
        decoding, controller = self._generation.decoding, self._generation.controller
        controller.plan(decoding.context())
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                self.draft()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        controller.learn(*decoding.verify(controller.drafted))
        return sum("synchroniz" in str(each.message) for each in told) / BLOCK


def last_replay(engine: Any, field: str) -> Callable[[], Any] | None:
    """The bare replay of the graph of ordinary steps that a model of `engine` ran last; None if it runs without.

    A draft model sees a token in an ordinary step, a target model several.
    """
    graphs = engine._graphs[field, True]
    wanted = (graph for shape, graph in graphs.items() if shape.one_token == (field == "draft"))
    return next((last for graph in wanted if (last := getattr(graph, "last", None))), None)
