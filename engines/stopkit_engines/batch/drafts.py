"""What `engine.draft` can be: a model's name, or a block whose kind is one of these. The set is closed."""

from typing import Annotated, Any

from stopkit.errors import InputError
from stopkit.spec import kind_of, mapping
from stopkit.validation import did_you_mean, nested, validated
from stopkit_engines.batch.prompt_lookup import PromptLookup

DRAFTS = {"prompt_lookup": PromptLookup}
"""The blocks by their kind."""


def load_draft(spec: Any, where: str) -> str | PromptLookup | None:
    """A draft from a model's name, a table with its kind, or itself. Raises InputError for anything else."""
    if spec is None or isinstance(spec, (str, PromptLookup)):
        return spec
    kind, _ = kind_of(mapping(spec, where), where)
    if kind not in DRAFTS:
        raise InputError(f"{where}.kind: no draft is called {kind!r}.{did_you_mean(kind, DRAFTS)}")
    return validated(DRAFTS[kind], spec, where)


DraftSpec = Annotated[str | PromptLookup | None, nested(load_draft)]
"""The type of the field `draft` of an engine."""
