"""What a trace file holds: one Parquet row for every position of every rollout, and how the recording was made.

A sequence is one prompt's continuation, as the target sampled it: tokens x_0 … x_{N−1}. From every start s of it there
is a rollout: draft tokens for the positions s, s + 1, …, coupled to x (`stopkit.verification.coupled`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from stopkit.hashing import hash_of_json
from stopkit.sampling import Sampling
from stopkit.trace.recorder import Timings as Timings

FORMAT = "stopkit trace"
VERSION = 2
"""What is written; earlier ones are read, and lack the columns that came later."""
KEY = b"stopkit"
"""Where the file's metadata holds `Metadata`, as JSON."""


@dataclass(frozen=True)
class FileColumn:
    """A column: its Arrow type, and what it holds, with its unit."""

    name: str
    type: pa.DataType
    meaning: str
    since: int = 1
    """The version that it came with."""


COLUMNS = (
    FileColumn("sequence", pa.int32(), "number of the prompt in the recording, from 0"),
    FileColumn("start", pa.int32(), "tokens of the continuation before the rollout, s"),
    FileColumn("position", pa.int16(), "position in the rollout, j, from 0"),
    FileColumn("last_token", pa.int32(), "the token before the rollout: x_{s−1}, or the prompt's last"),
    FileColumn("output", pa.int32(), "x_s, the token that the target sampled where the rollout starts"),
    FileColumn(
        "limit",
        pa.int32(),
        "most tokens that an engine could draft at this start; 0 also if the draft gave no usable logits",
    ),
    FileColumn("length", pa.int32(), "tokens before the rollout, the prompt's included; −1 if not told", since=2),
    FileColumn(
        "target_entropy",
        pa.float32(),
        "entropy of the target's distribution that x_s was drawn from, nats; null if not told",
        since=2,
    ),
    FileColumn("token", pa.int32(), "drawn draft token; null, like all that follows, where the limit is 0"),
    FileColumn("entropy", pa.float32(), "entropy of the draft's distribution, nats"),
    FileColumn("max_probability", pa.float32(), "largest probability of the draft's distribution"),
    FileColumn("margin", pa.float32(), "largest minus second largest probability of the draft's distribution"),
    FileColumn("top_token", pa.int32(), "the most probable token of the draft's distribution", since=2),
    FileColumn("drawn_probability", pa.float32(), "q(token), in the distribution that it was drawn from"),
    FileColumn("beta", pa.float32(), "acceptance probability of the position, 1 − total variation distance of p and q"),
    FileColumn("acceptance", pa.float32(), "acceptance probability of the drawn token, min(1, p(token) / q(token))"),
    FileColumn("accepted", pa.bool_(), "whether the token and all before it in the rollout are those of the target"),
)
"""The columns of every trace; of the draft's distribution, what policies are shown of it."""

TOP_TOKENS = FileColumn("top_tokens", pa.list_(pa.int32()), "the draft's most probable tokens, best first")
TOP_LOGITS = FileColumn("top_logits", pa.list_(pa.float32()), "their logits, as the draft gave them")
HIDDEN_STATE = FileColumn("hidden_state", pa.list_(pa.float32()), "the draft's last hidden state")
OPTIONAL = (TOP_TOKENS, TOP_LOGITS, HIDDEN_STATE)


class Metadata(BaseModel):
    """How a trace was recorded; shards of one recording differ in `shard` and `timings` alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Mapping[str, Any] = Field(description="the target model: its name, and dtype and hash of its weights")
    draft: Mapping[str, Any] = Field(description="the draft model: likewise")
    tokenizer: str = Field(description="hash of the tokenizer's vocabulary")
    prompts: str = Field(description="hash of all prompts of the recording")
    sequences: int = Field(ge=1, description="prompts of the whole recording, all shards together")
    sampling: Sampling = Field(description="how both models were sampled")
    seed: int = Field(ge=0, description="seed of the recording")
    max_new_tokens: int = Field(ge=1, description="most tokens of a sequence")
    max_draft: int = Field(ge=1, description="most tokens of a rollout")
    top_k_logits: int = Field(default=0, ge=0, description="logits kept a position")
    hidden_state: bool = Field(default=False, description="whether hidden states are kept")
    shard: str = Field(default="1/1", description="which sequences this file is meant to hold: those n ≡ i − 1 mod n")
    conditions: Mapping[str, Any] = Field(default={}, description="hardware and versions")
    timings: Timings | None = Field(default=None, description="measured seconds; unset until they are known")

    @property
    def common(self) -> dict[str, Any]:
        """What files of one recording have in common. A model is its weights, wherever they lie."""
        apart: Any = {"shard": True, "conditions": True, "timings": True, "target": {"name"}, "draft": {"name"}}
        return self.model_dump(mode="json", exclude=apart)


def arrow_schema(metadata: Metadata) -> pa.Schema:
    """The Arrow schema of a file with this metadata in it."""
    chosen = list(COLUMNS)
    chosen += [TOP_TOKENS, TOP_LOGITS] if metadata.top_k_logits else []
    chosen += [HIDDEN_STATE] if metadata.hidden_state else []
    recording = metadata.model_dump(mode="json")
    document = {"format": FORMAT, "version": VERSION, "recording": recording, "hash": hash_of_json(recording)}
    return pa.schema([(column.name, column.type) for column in chosen], metadata={KEY: json.dumps(document).encode()})
