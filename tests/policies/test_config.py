"""Policies nested in policies: three file formats, the command line, and errors that name the whole path."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from stopkit import InputError, StoppingPolicy, load_config, load_policy
from stopkit.kinds import as_block
from stopkit.plugins import registry
from stopkit.spec import parse_spec

TREE = {
    "kind": "first_of",
    "policies": [
        {"kind": "adaedl", "threshold": 0.6, "controller": {"epsilon": 0.02}},
        {"kind": "warmup", "first": {"kind": "static", "length": 2}, "then": {"kind": "best_length"}, "rounds": 4},
        {"kind": "capped", "policy": {"kind": "per_position", "policies": {"0": {"kind": "svip"}, "3": "margin"}}},
        {"kind": "batch_table", "table": {"1": 4, "9": 0}},
    ],
}
TOML = """
[policy]
kind = "first_of"

[[policy.policies]]
kind = "adaedl"
threshold = 0.6
controller.epsilon = 0.02

[[policy.policies]]
kind = "warmup"
first = { kind = "static", length = 2 }
then = "best_length"
rounds = 4

[[policy.policies]]
kind = "capped"

[policy.policies.policy]
kind = "per_position"
policies = { 0 = { kind = "svip" }, 3 = { kind = "margin" } }

[[policy.policies]]
kind = "batch_table"
table = { 1 = 4, 9 = 0 }
"""
YAML = """
policy:
  kind: first_of
  policies:
    - {kind: adaedl, threshold: 0.6, controller: {epsilon: 0.02}}
    - kind: warmup
      first: static:length=2
      then: best_length
      rounds: 4
    - {kind: capped, policy: {kind: per_position, policies: {0: svip, 3: {kind: margin}}}}
    - {kind: batch_table, table: {1: 4, 9: 0}}
"""


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", TOML), ("a.yaml", YAML), ("a.json", json.dumps({"policy": TREE}))]
)
def test_nesting_in_every_format(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert load_config(path).policy == load_policy(TREE) == load_policy(str(path))


@pytest.mark.parametrize(
    "spec",
    [
        "first_of:policies=[{kind='adaedl',gamma=0.1},{kind='static',length=4}]",
        "first_of:policies=['adaedl:gamma=0.1','static:length=4']",
        'first_of:policies=["adaedl:gamma=0.1", {kind="static", length=4}]',
    ],
)
def test_several_on_the_command_line(spec: str) -> None:
    wanted = {"kind": "first_of", "policies": [{"kind": "adaedl", "gamma": 0.1}, {"kind": "static", "length": 4}]}
    assert load_policy(spec) == load_policy(wanted)


@pytest.mark.parametrize(
    ("spec", "block"),
    [
        ("capped:policy=static,max_draft=2", {"policy": "static", "max_draft": 2}),
        ("capped:policy.kind=static,policy.length=9", {"policy": {"kind": "static", "length": 9}}),
        ("capped:policy={kind='static',length=9}", {"policy": {"kind": "static", "length": 9}}),
        ("capped:policy=static:length=9", {"policy": "static:length=9"}),
        ("capped:policy=autoregressive", {"policy": "autoregressive"}),
        ("per_position:policies.0=static,policies.3=svip", {"policies": {"0": "static", "3": "svip"}}),
        ("capped:policy='adaedl:threshold=0.5,gamma=0.1'", {"policy": "adaedl:threshold=0.5,gamma=0.1"}),
        ("first_of:policies=[svip,adaedl:gamma=0.1]", {"policies": ["svip", "adaedl:gamma=0.1"]}),
        ("first_of:policies=[svip, {kind='static'}]", {"policies": ["svip", {"kind": "static"}]}),
    ],
)
def test_one_on_the_command_line(spec: str, block: dict[str, Any]) -> None:
    kind = spec.partition(":")[0]
    assert parse_spec(spec) == {"kind": kind, **block}
    assert isinstance(load_policy(spec), StoppingPolicy)


def two(second: Any) -> dict[str, Any]:
    return {"kind": "first_of", "policies": ["static", second]}


def capped(policy: Any) -> dict[str, Any]:
    return {"kind": "capped", "policy": policy}


WRONG = [
    (two({"kind": "adaedl", "threshold": 7}), "policy.policies.1.threshold: input should be less than or equal to 1"),
    (
        two({"kind": "adaedl", "threshhold": 1}),
        "policy.policies.1.threshhold: unknown field. Did you mean 'threshold'? There is: carry_over, ",
    ),
    (two({"kind": "adadel"}), "policy.policies.1.kind: unknown kind 'adadel'. Did you mean 'adaedl'? There is: "),
    (two({"length": 3}), "policy.policies.1.kind: must name a registered kind; got None."),
    (two(3), "policy.policies.1: must be a table of fields; got 3."),
    (two("static:lenght=2"), "policy.policies.1.lenght: unknown field. Did you mean 'length'? There is: length."),
    (
        two({"kind": "adaedl", "controller": {"alfa": 1}}),
        "policy.policies.1.controller.alfa: unknown field. Did you me",
    ),
    (two(capped(two({"kind": "svip", "scale": -1}))), "policy.policies.1.policy.policies.1.scale: input should be gre"),
    (capped({"kind": "warmup", "frist": "static"}), "policy.policy.frist: unknown field. Did you mean 'first'?"),
    ("capped:policy.kind=static,policy.lenght=9", "policy.policy.lenght: unknown field. Did you mean 'length'?"),
    ({"kind": "warmup", "first": "sttic"}, "policy.first.kind: unknown kind 'sttic'. Did you mean 'static'?"),
    ({"kind": "per_position", "policies": {"2": {"kind": "static", "length": -1}}}, "policy.policies.2.length: input "),
    ({"kind": "first_of", "policies": []}, "policy.policies: "),
    ({"kind": "per_position", "policies": {}}, "policy.policies: "),
    ({"kind": "batch_table", "table": {"1": 5000}}, "policy.table.1: input should be less than or equal to 1024; got "),
    ({"kind": "batch_table", "table": {"1": {"5": 5000}}}, "policy.table.1.5: input should be less than or equal to"),
    ({"kind": "batch_table", "table": {"1": "x"}}, "policy.table.1: input should be a valid integer"),
]


@pytest.mark.parametrize(("spec", "message"), WRONG)
def test_errors_name_the_whole_path(spec: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_policy(spec)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value), "one mistake, one line"


def test_every_nested_mistake_has_a_line() -> None:
    wrong = {"kind": "warmup", "first": {"kind": "svip", "scale": -1, "threshold": "x"}, "then": "no", "rounds": -1}
    with pytest.raises(InputError) as caught:
        load_policy(wrong)
    places = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert sorted(places) == ["policy.first.scale", "policy.first.threshold", "policy.rounds", "policy.then.kind"]


def test_a_lone_mistaken_member_is_one_mistake() -> None:
    with pytest.raises(InputError) as caught:
        load_policy({"kind": "first_of", "policies": ["sttic"]})
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("policy.policies.0.kind: unknown kind 'sttic'")


def test_an_empty_list_and_a_bad_key_are_told_in_words() -> None:
    with pytest.raises(InputError, match=r"^policy\.policies: needs at least 1; got 0\.$"):
        load_policy({"kind": "first_of", "policies": []})
    with pytest.raises(InputError, match=r"^policy\.policies\.x: input should be a valid integer"):
        load_policy({"kind": "per_position", "policies": {"x": "static"}})


def test_a_field_inside_a_plain_value() -> None:
    with pytest.raises(InputError, match=r"'policy.length=9' in .* reaches into a value; write policy.kind=static"):
        load_policy("capped:policy=static,policy.length=9")


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"policy": two({"kind": "adaedl", "gama": 1})}))
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: policy.policies.1.gama: unknown field. Did you mean 'gamma'?")


@pytest.mark.parametrize("spec", [*sorted(registry().policies), pytest.param(TREE, id="nested")])
def test_round_trip(spec: Any) -> None:
    policy = load_policy(spec)
    block = as_block(policy)
    assert load_policy(json.loads(json.dumps(block))) == policy
    assert load_policy(yaml.safe_load(yaml.safe_dump(block))) == policy
