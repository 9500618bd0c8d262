"""`Call`: what `generate` hands to stopkit, in the words of an engine, and the answer in the words of `generate`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.generation import (
    EosTokenCriteria,
    GenerateDecoderOnlyOutput,
    LogitsProcessor,
    MaxLengthCriteria,
    MaxTimeCriteria,
)

from stopkit.decode import Generation
from stopkit.errors import InputError
from stopkit.generation import GenerationOptions, Request
from stopkit.policy import StoppingPolicy
from stopkit.validation import validated
from stopkit_engines.batch.sequences import BatchSequence
from stopkit_engines.batch.steps import MakeSteps
from stopkit_engines.batch.text import TextStream
from stopkit_engines.generate.caller import arguments_of_generate
from stopkit_engines.generate.law import RowProcessor, law
from stopkit_engines.generate.lockstep import Lockstep
from stopkit_engines.generate.records import RecordingSteps, Records
from stopkit_engines.generate.refusals import require_served

RECORDS = {"scores": "output_scores", "logits": "output_logits"}
"""What can be told of every step, and the settings that ask for it."""


class Call:
    """One call of `generate`. Raises InputError for what cannot be served.

    input_ids [B, L] are the prompts as the user padded them; everything is as transformers' own decoding gets it.
    """

    def __init__(
        self,
        model: Any,
        input_ids: Tensor,
        processors: Sequence[LogitsProcessor],
        criteria: Any,
        config: Any,
        streamer: Any | None,
        inputs: Mapping[str, Any],
    ) -> None:
        caller = arguments_of_generate()
        mask = inputs.get("attention_mask")
        shown = torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask.to(input_ids.device).bool()
        require_served(model, config, processors, shown, inputs, caller)
        self.prompts = [row[seen].tolist() for row, seen in zip(input_ids, shown, strict=True)]
        """Token ids, padding left out."""
        self._ids, self._criteria, self._config = input_ids, criteria, config
        self._streamer = caller.get("streamer") if streamer is None else streamer
        self._law = law(processors, bool(config.do_sample), whole=bool(self._kept))
        self._records = Records([[] for _ in input_ids], [[] for _ in input_ids]) if self._kept else None

    @property
    def ends(self) -> list[int]:
        """The tokens that end a sequence."""
        ends = [each.eos_token_id for each in self._criteria if isinstance(each, EosTokenCriteria)]
        return [token for each in ends for token in torch.as_tensor(each).flatten().tolist()]

    @property
    def steps(self) -> MakeSteps | None:
        """What makes the steps of the decoding, if they are to be recorded."""
        return None if self._records is None else partial(RecordingSteps, self._records)

    @property
    def _kept(self) -> list[str]:
        if not self._config.return_dict_in_generate:
            return []
        return [name for name, setting in RECORDS.items() if getattr(self._config, setting)]

    def request(self, policy: StoppingPolicy, coupling: str) -> Request:
        """What is asked of an engine. Its seed comes from torch's generator, which `generate` draws with, too."""
        drawn = int(torch.randint(2**62, ())) if self._config.do_sample else 0
        options = {"max_new_tokens": self._room, "coupling": coupling, "seed": drawn} | self._law.sampling
        self._lockstep = Lockstep(
            self._ids,
            self._criteria,
            self._config._pad_token_tensor,
            self._streamer,
            self._records,
            self._kept,
            self._end,
        )
        return Request(
            prompts=self.prompts,
            options=validated(GenerationOptions, options, "generate"),
            signals=policy.required_signals,
            on_piece=self._lockstep.hear,
        )

    def sequences(self, prompts: Sequence[Sequence[int]], context: int) -> list[BatchSequence]:
        """The host's side of every row. Raises InputError if one might outgrow the `context` of the target."""
        longest = max(map(len, prompts))
        if longest + self._room > context:
            raise InputError(
                f"generate.max_new_tokens: a prompt of {longest} tokens and {self._room} new ones may exceed the "
                f"target's context of {context}, where stopkit stops; ask for at most {context - longest}."
            )
        self._sequences = [
            BatchSequence(
                index=row,
                prompt=prompt,
                room=self._room,
                cramped=False,
                stream=TextStream(None),
                processors=[RowProcessor(each, self._ids, row, len(prompt)) for each in self._law.processors],
            )
            for row, prompt in enumerate(prompts)
        ]
        return self._sequences

    def answer(self, generation: Generation) -> Tensor | GenerateDecoderOnlyOutput:
        """Run the generation, and give what `generate` is to return."""
        seated = generation.decoding.seated
        if len(seated) < len(self.prompts) and any(isinstance(each, MaxTimeCriteria) for each in self._criteria):
            raise InputError(
                "generate.max_time: this model runs a row at a time, and the last row would get no time; generate row "
                "by row, or call generate without custom_generate."
            )
        lockstep = self._lockstep
        while not (lockstep.over or generation.finished):
            if self._records is not None:
                self._records.seated = [*generation.decoding.seated]
            generation.step()
            lockstep.go_on()
        if self._streamer is not None:
            self._streamer.end()
        if not self._config.return_dict_in_generate:
            return lockstep.ids
        output = GenerateDecoderOnlyOutput(sequences=lockstep.ids, **lockstep.kept)
        output.stats = replace(generation.result().stats, tokens=lockstep.tokens)
        return output

    @property
    def _room(self) -> int:
        """Most tokens to generate for a row."""
        ends = [each.max_length for each in self._criteria if isinstance(each, MaxLengthCriteria)]
        longest: int = min(ends, default=self._config.max_length)
        return max(1, longest - self._ids.shape[1])

    def _end(self, row: int) -> None:
        self._sequences[row].continuation.finish_reason = "stop"
