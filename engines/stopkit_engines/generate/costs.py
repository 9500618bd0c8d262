"""What forwards cost, from one call of `generate` to the next."""

import weakref
from typing import Any

from stopkit.costs import CostModel

_known: weakref.WeakKeyDictionary[Any, dict[Any, CostModel]] = weakref.WeakKeyDictionary()
"""By target and then by what drafts, of which neither is kept alive."""


def costs_of(target: Any, draft: Any) -> CostModel:
    """The cost model of this pair; it goes on learning for as long as the target lives."""
    of_target = _known.setdefault(target, {})
    key = weakref.ref(draft) if hasattr(draft, "forward") else repr(draft)
    return of_target.setdefault(key, CostModel(None))
