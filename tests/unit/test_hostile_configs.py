"""Config files that attack or are plain wrong: short lines, at once, and all mistakes of a file together."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stopkit import InputError
from stopkit.config import load_config
from stopkit.errors import one_line, printable, shown

LEVELS = 10_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

HOSTILE: dict[str, tuple[str, str, str]] = {
    "aliases that explode": ("yaml", f"{BOMB}policy: *i\n", "holds more than 10,000 values"),
    "an alias of itself": ("yaml", "policy: &a [*a]\n", "holds more than 10,000 values"),
    "levels in YAML": ("yaml", "policy: " + "[" * LEVELS + "]" * LEVELS, "is nested too deeply"),
    "levels in JSON": ("json", '{"policy": ' + "[" * LEVELS + "]" * LEVELS + "}", "is nested too deeply"),
    "levels in TOML": ("toml", "policy = " + "[" * LEVELS + "]" * LEVELS, "is nested too deeply"),
    "a long list": ("json", json.dumps({"policy": [0] * 50_000}), "holds more than 10,000 values"),
    "a large file": ("json", '{"policy": "' + "x" * 2_000_000 + '"}', "is larger than 1,000,000 bytes"),
    "a tag that would run code": ("yaml", "policy: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    "an unknown tag": ("yaml", "policy: !mine x\n", "is not valid YAML"),
    "keys that are numbers": ("yaml", "policy: {kind: static, 3: x}\n", "the key 3 is no text"),
    "keys that are lists": ("yaml", "? [a, b]\n: x\n", "is not valid YAML"),
    "keys that are nothing": ("yaml", "~: x\n", "the key None is no text"),
    "a long kind": ("json", json.dumps({"policy": {"kind": "x" * 100_000}}), "unknown kind"),
    "a long key": ("json", json.dumps({"policy": {"kind": "static", "x" * 100_000: 1}}), "unknown field"),
    "a long value": ("json", json.dumps({"policy": {"kind": "static", "length": "x" * 100_000}}), "valid integer"),
    "a long section": ("json", json.dumps({"y" * 100_000: 1}), "unknown section"),
    "a kind of another type": ("json", json.dumps({"policy": {"kind": ["x" * 1000] * 100}}), "must name a registered"),
    "no table": ("json", json.dumps(["x" * 1000] * 100), "must be a table"),
    "control characters": ("json", json.dumps({"policy": {"kind": "\x1b[31mred\x07"}}), r"\x1b[31mred"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once_in_a_short_line(tmp_path: Path, name: str) -> None:
    suffix, content, message = HOSTILE[name]
    path = tmp_path / f"config.{suffix}"
    path.write_text(content)
    began = time.perf_counter()
    with pytest.raises(InputError) as refused:
        load_config(path)
    said = str(refused.value)
    assert message in printable(said)
    assert "\n" not in said
    assert len(said) < 1000 + len(str(path))
    assert time.perf_counter() - began < 5


def test_all_mistakes_of_a_file_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "[policy]\nkind = 'static'\nlength = -1\nwidth = 2\n"
        "[engine]\ndtype = 'int4'\nspeed = 9\n[generation]\ntemperature = -1\ntop_k = 0\n[sampling]\n"
    )
    with pytest.raises(InputError) as refused:
        load_config(path)
    lines = str(refused.value).splitlines()
    places = [line.removeprefix(f"{path}: ").split(":")[0] for line in lines]
    assert sorted(places) == sorted(
        [
            "policy.length",
            "policy.width",
            "engine.dtype",
            "engine.speed",
            "generation.temperature",
            "generation.top_k",
            "sampling",
        ]
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=150)
@given(tree=st.dictionaries(st.sampled_from(["policy", "engine", "generation", "x"]), values, min_size=1))
def test_any_tree_is_a_config_or_lines(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.json"
    path.write_text(json.dumps(tree))
    said = ""
    try:
        load_config(path)
    except InputError as error:
        said = str(error)
    assert all(len(line) < 1000 + len(str(path)) for line in said.splitlines())


def test_what_is_shown_is_short_and_printable() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep] * 3
    assert len(shown(deep)) <= 60
    assert one_line("a\n\tb\x1b]0;title\x07") == r"a b\x1b]0;title\x07"
    assert printable("one\ntwo\t\x9b31m") == "one\ntwo\t\\x9b31m"
    assert printable("mysql://me:secret@host/db failed") == "mysql://me:…@host/db failed"
