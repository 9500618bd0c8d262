"""What a plug-in can offer. A plug-in is a module or object named in the entry-point group `stopkit`."""

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from stopkit.engine import Engine
    from stopkit.policy import StoppingPolicy

PROJECT = "stopkit"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks the functions of a plug-in that implement a hook."""


@hookspec
def stopkit_policies() -> "list[type[StoppingPolicy]]":  # type: ignore[empty-body]
    """The policy classes of this plug-in; each has a `kind` that no other plug-in uses."""


@hookspec
def stopkit_engines() -> "list[type[Engine]]":  # type: ignore[empty-body]
    """The engine classes of this plug-in; each has a `kind` that no other plug-in uses."""
