"""The map in CONTRIBUTING shows every room of the house."""

import re

from tests.docs.pages import ROOT

PACKAGES = ("stopkit", "policies/stopkit_policies", "engines/stopkit_engines", "engines/vllm/stopkit_vllm")


def test_every_room_is_on_the_map() -> None:
    rooms = set(re.findall(r"(?m)^\| `([\w/]+)/` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    packages = [path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    there = {package.relative_to(ROOT).as_posix() for package in packages}
    assert there <= rooms, f"not on the map: {sorted(there - rooms)}"
    assert all((ROOT / room).is_dir() for room in rooms), "the map shows a room that is not there"
