"""`stopkit new-policy`: a package of one's own, ready to install, with a policy to change."""

import re
from importlib.resources import files
from pathlib import Path
from shlex import quote
from string import Template

import click

from stopkit import __version__
from stopkit.cli.app import Command, echo
from stopkit.errors import InputError

FILES = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "gitignore.in": ".gitignore",
    "plugin.py.in": "$package/__init__.py",
    "policy.py.in": "$package/policy.py",
    "test_policy.py.in": "tests/test_$kind.py",
}
"""What each file of `stopkit/template` becomes."""
NEXT = ("pip install -e '.[test]'", "stopkit policies", "stopkit check {kind}", "pytest")
"""Commands to install the package, see its policy and check it; its README explains them."""
TAKEN = frozenset({"None", "True", "False", "Tensor", "ClassVar"})
"""Names that mean something else in `policy.py.in`, or in Python."""
KIND = re.compile(r"[a-z](_?[a-z0-9])*")


@click.command("new-policy", cls=Command)
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    default=".",
    metavar="DIR",
    help="Folder to write the package's folder to.  [default: the current one]",
)
def new_policy(name: str, out: Path) -> None:
    """Write a package with a policy of the kind NAME.

    The folder stopkit-NAME, with hyphens for underscores, holds a policy of a few lines, the entry point that registers
    it, a test that runs the conformance kit, and a README. Nothing that exists is overwritten.
    """
    if not KIND.fullmatch(name):
        raise InputError(
            f"NAME: {name!r} cannot be a kind; write lower case letters and digits, a letter first, with single "
            f"underscores between them{_as_in(name)}."
        )
    words = _words(name)
    folder = out / words["distribution"]
    _refuse_taken(name, words["package"])
    written = {
        Template(path).substitute(words): Template(_template(file)).substitute(words) for file, path in FILES.items()
    }
    try:
        folder.mkdir()
    except FileExistsError:
        raise InputError(f"{folder}: exists already; remove it, or name another folder with --out.") from None
    for path, text in written.items():
        place = folder / path
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8", newline="\n")
        echo(place)
    echo("\nNext:")
    for command in (f"cd {quote(str(folder))}", *(step.format(kind=name) for step in NEXT)):
        echo(f"  {command}")


def _words(name: str) -> dict[str, str]:
    """What stands for the placeholders of a template."""
    class_name = name.title().replace("_", "")
    return {
        "kind": name,
        "distribution": f"stopkit-{name.replace('_', '-')}",
        "package": f"stopkit_{name}",
        "class_name": class_name + ("Policy" if class_name in TAKEN else ""),
        "stopkit_version": __version__,
    }


def _template(file: str) -> str:
    return (files("stopkit") / "template" / file).read_text(encoding="utf-8")


def _refuse_taken(name: str, package: str) -> None:
    from importlib.util import find_spec

    from stopkit.kinds import distribution_of
    from stopkit.plugins import registry
    from stopkit.spec import ALIASES

    if cls := registry().policies.get(name):
        raise InputError(f"NAME: the kind {name!r} is offered by {distribution_of(cls)}; choose another.")
    if name in ALIASES:
        raise InputError(f"NAME: {name!r} is another name for {ALIASES[name]['kind']}; choose another.")
    if find_spec(package):
        raise InputError(f"NAME: a package {package} is installed already; choose another.")


def _as_in(name: str) -> str:
    """The closest name that could be a kind, if there is one."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    guess = re.sub(r"^[0-9_]+|_$", "", re.sub(r"[^a-z0-9]+", "_", words))
    return f", such as {guess}" if name.isascii() and KIND.fullmatch(guess) else ""
