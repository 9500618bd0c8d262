"""The one door for plug-ins: find them, load them, and know which distribution every kind comes from.

Built-in policies and engines come through it like everybody's. A plug-in that fails is listed as disabled with its
reason and stops nothing else. `STOPKIT_PLUGINS=a,b` loads only these entry points; empty, it loads none.
"""

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from stopkit import hookspecs
from stopkit.errors import InputError, one_line, shown
from stopkit.extras import extra_for
from stopkit.hookspecs import PROJECT
from stopkit.kinds import DISTRIBUTIONS, Kind
from stopkit.validation import did_you_mean

HOOKS = {"policy": "stopkit_policies", "engine": "stopkit_engines"}
"""The hook that offers what each section of a config can hold."""
BASES = {"policy": "StoppingPolicy", "engine": "Engine"}
"""What the classes of each section derive from, by the names that authors know."""


@dataclass(frozen=True)
class Plugin:
    """One entry point and what became of it."""

    name: str
    distribution: str
    """Name and version of the distribution that declares it."""
    reference: str
    """What the entry point points to, `module` or `module:attribute`."""
    problem: str | None = None
    """Why it is disabled; None if it is loaded."""


@dataclass
class Registry:
    """All kinds that can be named, and who they come from."""

    policies: dict[str, type[Any]] = field(default_factory=dict)
    """The policy classes by their kind."""
    engines: dict[str, type[Any]] = field(default_factory=dict)
    """The engine classes by their kind."""
    plugins: list[Plugin] = field(default_factory=list)
    distributions: dict[type, str] = field(default_factory=dict)
    """Name and version of the distribution that offers each class."""

    def classes(self, section: str) -> dict[str, type[Any]]:
        """What a section of a config can hold, by its kind."""
        return {"policy": self.policies, "engine": self.engines}[section]

    def policy(self, kind: str, where: str = "policy") -> type[Any]:
        """The policy class of `kind`; InputError with suggestions if there is none."""
        return self._named("policy", kind, where)

    def engine(self, kind: str, where: str = "engine") -> type[Any]:
        """The engine class of `kind`; InputError with suggestions if there is none."""
        return self._named("engine", kind, where)

    def _named(self, section: str, kind: str, where: str) -> type[Any]:
        classes = self.classes(section)
        if kind not in classes:
            disabled = [f"{plugin.name} ({plugin.problem})" for plugin in self.plugins if plugin.problem]
            hint = f" Disabled plug-ins: {'; '.join(disabled)}." if disabled else ""
            raise InputError(f"{where}.kind: unknown kind {shown(kind)}.{did_you_mean(kind, classes)}{hint}")
        return classes[kind]


@cache
def registry() -> Registry:
    """Every installed plug-in, loaded once a process. `registry.cache_clear()` looks again."""
    built = build_registry(sorted(entry_points(group=PROJECT), key=_rank))
    DISTRIBUTIONS.update(built.distributions)
    return built


def build_registry(entry_points: list[EntryPoint]) -> Registry:
    """Load `entry_points` in order. One that fails in any way, or offers what is there already, is disabled."""
    built = Registry()
    for entry in _chosen(entry_points):
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown distribution"
        offered: list[type[Kind]] = []
        problem = None
        try:
            plugin = entry.load()
            _refuse_unknown_hooks(plugin)
            offered = _offered(plugin, entry.name)
            _refuse_taken_kinds(built, offered)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit in somebody's module, too
            offered, problem = [], extra_for(error) or one_line(f"{type(error).__name__}: {error}")
        built.plugins.append(Plugin(entry.name, distribution, entry.value, problem))
        for cls in offered:
            built.classes(cls.section)[cls.kind] = cls
            built.distributions[cls] = distribution
    return built


def _chosen(entry_points: list[EntryPoint]) -> list[EntryPoint]:
    wanted = os.environ.get("STOPKIT_PLUGINS")
    if wanted is None:
        return entry_points
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if missing := set(names) - {entry.name for entry in entry_points}:
        raise InputError(
            f"STOPKIT_PLUGINS: no plug-in is called {sorted(missing)[0]!r}."
            + did_you_mean(sorted(missing)[0], {entry.name for entry in entry_points})
        )
    return [entry for entry in entry_points if entry.name in names]


def _offered(plugin: object, name: str) -> list[type[Kind]]:
    manager = pluggy.PluginManager(PROJECT)  # one for each plug-in, so that a failing hook is that plug-in's alone
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    if not manager.get_hookcallers(plugin):
        raise TypeError("implements no hook; mark stopkit_policies or stopkit_engines with @stopkit.hookimpl")
    offered = []
    for section, hook in HOOKS.items():
        for cls in (cls for answer in getattr(manager.hook, hook)() for cls in answer):
            require_kind(cls, section, f"{hook} offers")
            offered.append(cls)
    return offered


def _refuse_unknown_hooks(plugin: object) -> None:
    """A misspelled hook would be ignored in silence; it is an error instead."""
    known = {name for name in vars(hookspecs) if name.startswith("stopkit_")}
    for name in sorted(vars(plugin) if hasattr(plugin, "__dict__") else ()):
        if name.startswith("stopkit_") and name not in known and callable(getattr(plugin, name)):
            raise TypeError(f"unknown hook {name!r}.{did_you_mean(name, known)}")


def require_kind(cls: Any, section: str, offered: str) -> None:
    """Raise TypeError unless `cls` is a class that a section of a config can hold; `offered` begins the message."""
    if not (inspect.isclass(cls) and issubclass(cls, Kind) and getattr(cls, "section", None) == section):
        raise TypeError(f"{offered} {cls!r}, which is not a subclass of {BASES[section]}")
    if not isinstance(getattr(cls, "kind", None), str):
        raise TypeError(f"{offered} {cls.__name__}, which has no `kind`; give it a name for config files")
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise TypeError(f"{offered} {cls.__name__}, which lacks {lacking}")


def _refuse_taken_kinds(built: Registry, offered: Sequence[type[Kind]]) -> None:
    seen = {(cls.section, cls.kind): built.distributions[cls] for cls in built.distributions if issubclass(cls, Kind)}
    for cls in offered:
        if other := seen.get((cls.section, cls.kind)):
            raise TypeError(f"{cls.section} kind {cls.kind!r} is offered by {other}, too; see STOPKIT_PLUGINS")
        seen[cls.section, cls.kind] = "this plug-in"


def _rank(entry: EntryPoint) -> tuple[bool, str, str]:
    distribution = entry.dist.name if entry.dist else ""
    return distribution != PROJECT, distribution, entry.name
