"""What `engine.draft` can be: a model's name, or a block whose kind is one of these. The set is closed."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from stopkit.errors import InputError, shown
from stopkit.spec import kind_of, mapping, parse_spec
from stopkit.validation import did_you_mean, nested, validated
from stopkit_engines.batch.draft_block import DraftBlock
from stopkit_engines.batch.early_exit import EarlyExit
from stopkit_engines.batch.prompt_lookup import PromptLookup

DRAFTS: Mapping[str, type[DraftBlock]] = {"prompt_lookup": PromptLookup, "early_exit": EarlyExit}
"""The blocks by their kind."""


def load_draft(spec: Any, where: str) -> str | DraftBlock | None:
    """A draft from a model's name, a table with its kind, `KIND:field=value,field=value`, or itself.

    Raises InputError for anything else, and for a bare kind that is the name of a file or folder here, too.
    """
    if spec is None or isinstance(spec, DraftBlock):
        return spec
    if isinstance(spec, str):
        name = spec.partition(":")[0]
        if name not in DRAFTS:
            if get_close_matches(name, DRAFTS, cutoff=0.8) and not Path(spec).exists():
                raise InputError(f"{where}: no draft is called {shown(name)}.{did_you_mean(name, DRAFTS)}")
            return spec
        if Path(spec).exists():
            raise InputError(
                f"{where}: {spec} is a way to draft, and there is a file or folder of that name; write ./{spec} for "
                f"that, or {spec}: for the way to draft."
            )
        spec = parse_spec(spec, where)
    kind, _ = kind_of(mapping(spec, where), where)
    if kind not in DRAFTS:
        raise InputError(f"{where}.kind: no draft is called {kind!r}.{did_you_mean(kind, DRAFTS)}")
    return validated(DRAFTS[kind], spec, where)


DraftSpec = Annotated[str | PromptLookup | EarlyExit | None, nested(load_draft)]
"""The type of the field `draft` of an engine."""
