"""Recording a trace: from an engine and prompts to a file, and on where an earlier recording was cut off."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import GenerationOptions
from stopkit.hashing import hash_of_json
from stopkit.kinds import as_block
from stopkit.prompt_kinds import Prompt
from stopkit.random import sequence_seeds
from stopkit.sampling import Sampling
from stopkit.trace.format import Metadata
from stopkit.trace.recorder import Recorder, RecordingRequest, Rollouts, as_recorder, replaced
from stopkit.trace.shards import WHOLE, Shard
from stopkit.trace.writing import TraceWriter, recorded_files


@dataclass(frozen=True)
class Recording:
    """What to record, on which engine. What is recorded depends on neither `batch_size`, `rollouts` nor `shard`."""

    engine: Engine
    prompts: Sequence[Prompt]
    """All prompts, those of other shards included."""
    options: GenerationOptions
    max_draft: int = 16
    """Most tokens of a rollout."""
    batch_size: int = 8
    """Prompts that are sampled side by side."""
    rollouts: int = 64
    """Rollouts side by side; bounds memory."""
    top_k_logits: int = 0
    """Logits to keep at every position; 0 keeps none."""
    hidden_state: bool = False
    """Whether to keep the draft's last hidden state."""
    shard: Shard = WHOLE
    recorder: Recorder | None = None
    """What records in the engine's place, with the same result."""

    def run(
        self,
        path: Path,
        resume: bool = False,
        begin: Callable[[int], None] = lambda left: None,
        tick: Callable[[Rollouts], None] = lambda rollouts: None,
    ) -> None:
        """Write the trace to `path`; with `resume`, what is missing there.

        `begin(left)` is called when everything is loaded and measured and `left` sequences are to be recorded, `tick`
        after each of them. Whatever stops a recording, an interrupt included, leaves a valid shorter trace. Raises
        InputError if `path` exists and `resume` is false, if it is another recording, or for a prompt or an option
        that is wrong.
        """
        if self.options.coupling != "maximal":
            raise InputError("generate.coupling: a trace records the maximal coupling; leave it unset.")
        if self.options.sampling != "given":
            raise InputError("generate.sampling: a trace says how it was sampled; give temperature, top_k and top_p.")
        mine = range(self.shard.number - 1, len(self.prompts), self.shard.count)
        if self.options.stop:
            raise InputError("generation.stop: a recording has no stop strings; leave them out.")
        if not mine:
            raise InputError(f"shard: {self.shard} of {len(self.prompts)} prompts has none; use fewer shards.")
        recorded_files(path, resume)  # before models are loaded
        with TraceWriter(path, self._metadata(), resume) as writer:
            left = [sequence for sequence in mine if sequence not in writer.done]
            if left and writer.metadata.timings is None:
                measured = self._recorder.timings(self.max_draft)
                writer.metadata = writer.metadata.model_copy(update={"timings": measured})
            begin(len(left))
            for rollouts in self._record(mine, frozenset(writer.done)):
                writer.write(rollouts)
                tick(rollouts)

    def _record(self, sequences: Sequence[int], done: frozenset[int]) -> Iterator[Rollouts]:
        request = RecordingRequest(
            prompts=[self.prompts[sequence] for sequence in sequences],
            sequences=sequences,
            seeds=[sequence_seeds(self.options.seed, 1, sequence)[0] for sequence in sequences],
            options=self.options,
            max_draft=self.max_draft,
            batch_size=self.batch_size,
            rollouts=self.rollouts,
            top_k_logits=self.top_k_logits,
            hidden_state=self.hidden_state,
            done=done,
        )
        try:
            yield from self._recorder.record(request)
        except InputError as error:  # it counts the prompts of this shard
            raise replaced(error, sequences) from None

    @property
    def _recorder(self) -> Recorder:
        return self.recorder or as_recorder(self.engine)

    def _metadata(self) -> Metadata:
        target, draft, tokenizer = self._recorder.identity()
        prompts = [prompt if isinstance(prompt, str) else list(prompt) for prompt in self.prompts]
        return Metadata(
            target=target,
            draft=draft,
            tokenizer=tokenizer,
            prompts=hash_of_json(prompts),
            sequences=len(self.prompts),
            sampling=Sampling(**{name: getattr(self.options, name) for name in Sampling.model_fields}),
            seed=self.options.seed,
            max_new_tokens=self.options.max_new_tokens,
            max_draft=self.max_draft,
            top_k_logits=self.top_k_logits,
            hidden_state=self.hidden_state,
            shard=str(self.shard),
            conditions=self._recorder.conditions(
                engine=as_block(self.engine), batch_size=self.batch_size, rollouts=self.rollouts
            ),
        )
