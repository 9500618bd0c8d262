"""The nearest settings of a server: those with which the policy that has its rule does best on a trace."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stopkit.kinds import as_block
from stopkit.policy import StoppingPolicy
from stopkit.trace.servers import SERVERS, Block, server_space
from stopkit.trace.tuning import Scores, Tuning


@dataclass(frozen=True)
class Nearest:
    """What to tell the server `name`, and the policy that does the same."""

    name: str
    settings: Block
    policy: StoppingPolicy
    draft: str
    """The name of the draft model."""

    @property
    def text(self) -> str:
        """The settings as the server takes them, to be copied."""
        server = SERVERS[self.name]
        return server.form(server.options(self.settings, self.draft))

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        server = SERVERS[self.name]
        return {
            "settings": self.settings,
            "text": self.text,
            "where": server.where,
            "apart": server.apart,
            "policy": as_block(self.policy),
        }


def nearest(
    name: str,
    tuning: Tuning,
    storage: str,
    seeded: bool,
    trials: int,
    tick: Callable[[int, float], None],
    scores: Scores | None = None,
) -> Nearest:
    """Search the settings of a server as `tuning` searches a policy's fields: on the same sequences, at the same costs.

    The other arguments are those of `Tuning.study` and `Tuning.run`.
    """
    space = server_space(name, tuning.trace)
    search = replace(tuning, space=space)
    study = search.study(storage, seeded)
    search.run(study, trials, tick, scores)
    settings = space.settings_at(study.best_params)
    besides = SERVERS[name].besides(search.parts[0], search.costs, settings)
    draft = str(tuning.trace.metadata.draft["name"])
    return Nearest(name, settings | besides, space.policy_at(study.best_params), draft)
