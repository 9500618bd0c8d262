"""What a user asks for: `--additional-config '{"stopkit": {…}}'`, or the environment variable `STOPKIT_POLICY`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from stopkit.costs import FixedCosts
from stopkit.policy import StoppingPolicy
from stopkit.spec import load_policy, mapping
from stopkit.state import State
from stopkit.state_file import load_state
from stopkit.validation import nested, validated

VARIABLE = "STOPKIT_POLICY"


def _policy(block: Any, where: str) -> StoppingPolicy | None:
    return None if block is None else load_policy(block, where)


class Options(BaseModel):
    """The block `stopkit` of `--additional-config`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    policy: Annotated[StoppingPolicy | None, nested(_policy)] = Field(
        default=None, description="a policy's kind, KIND:field=value, table, or the path of a config file"
    )
    costs: FixedCosts | None = Field(default=None, description="what drafting and verifying cost; measured if unset")
    state: Path | None = Field(default=None, description="file of what such a policy has learned, to go on from")
    strict: bool = Field(default=False, description="whether a policy that fails stops the engine")

    def learned(self, policy: StoppingPolicy) -> State | None:
        """What `state` holds for sequences to come. Raises InputError if it is no state of `policy`."""
        return None if self.state is None else load_state(self.state, policy)


def options_of(config: Any) -> Options | None:
    """What a VllmConfig asks for; None if it says nothing of stopkit. Raises InputError, which names the place."""
    more = getattr(config, "additional_config", None)
    block = more.get("stopkit") if isinstance(more, Mapping) else None
    named = os.environ.get(VARIABLE) or None
    if block is None and named is None:
        return None
    asked = dict(mapping(block or {}, "stopkit"))
    if named is not None:
        asked.setdefault("policy", named)
    return validated(Options, asked, "stopkit")
