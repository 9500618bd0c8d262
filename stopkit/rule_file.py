"""A policy from a Python file, for whoever names one on the command line. A config file never gets here.

`FILE.py`, `FILE.py:field=value,field=value`, `FILE.py::ClassName` and `FILE.py::ClassName:field=value`. Running the
file is what its user asks for by that, as `python FILE.py` would.
"""

import difflib
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from stopkit.errors import InputError, line_in, one_line
from stopkit.kinds import DISTRIBUTIONS, FILES
from stopkit.plugins import BASES, registry, require_kind
from stopkit.policy import StoppingPolicy
from stopkit.spec import ALIASES, PYTHON_FILE, READERS, load_policy, parse_fields, parse_spec
from stopkit.validation import did_you_mean, validated


def written_policy(text: str, where: str = "policy") -> StoppingPolicy:
    """What a user names on the command line: a policy in a Python file, or whatever `load_policy` takes.

    Raises InputError, which names the file and the line if the file is at fault.
    """
    if named := PYTHON_FILE.fullmatch(text):
        path, name, fields = named["path"], named["name"], named["fields"] or ""
        cls = _the_one(_module(path), path, name)
        policy: StoppingPolicy = validated(cls, parse_fields(fields, text, where), f"{path}: {where}")
        return policy
    try:
        return load_policy(text, where)
    except InputError as error:
        raise InputError(f"{error}{or_a_file(text)}") from None


def written_policies(*texts: str) -> dict[str, StoppingPolicy]:
    """The policies that a user names, by that text."""
    return {text: written_policy(text) for text in texts}


def with_fields(text: str, values: Mapping[str, Any]) -> str:
    """What names the policy that `text` does, in a Python file, but with these values of its fields."""
    fields = ",".join(f"{name}={json.dumps(value)}" for name, value in values.items())
    named = PYTHON_FILE.fullmatch(text)
    return f"{text}{',' if named and named['fields'] else ':'}{fields}"


def or_a_file(text: str) -> str:
    """What else a user may have meant by a kind that nobody offers; empty if the kind is known."""
    if Path(text).suffix in READERS or (kind := parse_spec(text)["kind"]) in {**registry().policies, **ALIASES}:
        return ""
    files = sorted(path.stem for path in Path().glob("*.py"))
    if close := difflib.get_close_matches(kind[:80], files, n=1):
        return f" Or did you mean the file ./{close[0]}.py?"
    return " A rule in a file is named by its path, ./RULE.py; `stopkit new-policy` begins a package."


def _module(path: str) -> ModuleType:
    """The module in a file, run once a process for every text that the file has had."""
    place = Path(path)
    try:
        source = place.read_bytes()
    except FileNotFoundError:
        beside = {str(place.with_name(file.name)) for file in place.parent.glob("*.py")}
        raise InputError(f"{path}: there is no such file.{did_you_mean(str(place), beside)}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    file = str(place.resolve())
    FILES[path] = hashlib.sha256(source).hexdigest()
    name = f"stopkit_rule_{place.stem}_{hashlib.sha256(file.encode()).hexdigest()[:6]}{FILES[path][:6]}"
    if name not in sys.modules:
        loader = SourceFileLoader(name, file)
        spec = spec_from_loader(name, loader)
        assert spec is not None
        module = sys.modules[name] = module_from_spec(spec)
        try:
            exec(loader.source_to_code(source, file), vars(module))
        except BaseException as error:  # sys.exit in somebody's module, too
            del sys.modules[name]
            if isinstance(error, KeyboardInterrupt):
                raise
            raise InputError(f"{path}{_line(error, file)}: {_reason(error)}.") from None
    return sys.modules[name]


def _the_one(module: ModuleType, path: str, name: str | None) -> type[StoppingPolicy]:
    """The policy class of the file that is called `name`, or the only one; it is what a plug-in may offer."""
    defined = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    rules = {
        key: value
        for key, value in defined.items()
        if inspect.isclass(value) and issubclass(value, StoppingPolicy) and not inspect.isabstract(value)
    }
    # What others derive from may lack a kind.
    policies = {key: value for key, value in rules.items() if hasattr(value, "kind")} or rules
    if name is None and len(policies) != 1:
        there_are = f"has the policies {', '.join(policies)}" if policies else f"defines no {BASES['policy']}"
        remedy = f"name one, {path}::{next(iter(policies))}" if policies else "a rule is a class that derives from it"
        raise InputError(f"{path}: {there_are}; {remedy}.")
    chosen = next(iter(policies)) if name is None else name
    if chosen not in defined:
        raise InputError(f"{path}: defines no class {chosen!r}.{did_you_mean(chosen, policies)}")
    cls: Any = defined[chosen]
    at = f"{path}, line {inspect.getsourcelines(cls)[1]}" if inspect.isclass(cls) else path
    try:
        require_kind(cls, "policy", "defines")
        _refuse_taken(cls.kind, cls)
    except TypeError as error:
        raise InputError(f"{at}: {error}.") from None
    DISTRIBUTIONS[cls] = path
    found: type[StoppingPolicy] = cls
    return found


def _refuse_taken(kind: str, cls: type) -> None:
    """Raise TypeError for the kind of another policy: a result would not tell them apart."""
    other = registry().distributions.get(registry().policies.get(kind, object), "stopkit" if kind in ALIASES else None)
    if other:
        raise TypeError(f"{cls.__name__} has the kind {kind!r}, which {other} offers; give it a kind of its own")


def _line(error: BaseException, file: str) -> str:
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == file else line_in(error, file)
    return f", line {line}" if line else ""


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
    hint = "; a rule is one file, and what it imports must be installed" if isinstance(error, ImportError) else ""
    return one_line(f"{type(error).__name__}: {text}").rstrip(".") + hint
