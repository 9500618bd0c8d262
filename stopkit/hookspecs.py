"""What a plug-in can offer. A plug-in is a module or object named in the entry-point group `stopkit`."""

import pluggy

from stopkit.kinds import Kind

PROJECT = "stopkit"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks the functions of a plug-in that implement a hook."""


@hookspec
def stopkit_policies() -> list[type[Kind]]:  # type: ignore[empty-body]
    """The policy classes of this plug-in, each a StoppingPolicy with a `kind` that no other plug-in uses."""


@hookspec
def stopkit_engines() -> list[type[Kind]]:  # type: ignore[empty-body]
    """The engine classes of this plug-in, each an Engine with a `kind` that no other plug-in uses."""
