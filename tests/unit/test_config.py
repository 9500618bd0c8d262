"""Config files and specs become objects, or an error that names the place and the remedy."""

import json
from pathlib import Path
from typing import Any

import pytest

from stopkit import InputError, load_config, load_engine, load_policy

TOML = """
[policy]
kind = "adaedl"
threshold = 0.6
controller = { epsilon = 0.02 }

[engine]
kind = "eager"
target = "bundled:target"
draft = "bundled:draft"
costs = { draft_step = 0.001, verify = 0.01 }

[generation]
temperature = 0.7
stop = ["\\n\\n"]
"""
YAML = """
policy: {kind: adaedl, threshold: 0.6, controller: {epsilon: 0.02}}
engine: {kind: eager, costs: {draft_step: 0.001, verify: 0.01}}
generation: {temperature: 0.7, stop: ["\\n\\n"]}
"""


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_three_formats_give_one_config(tmp_path: Path) -> None:
    import yaml

    files = [
        write(tmp_path, "a.toml", TOML),
        write(tmp_path, "a.yaml", YAML),
        write(tmp_path, "a.json", json.dumps(yaml.safe_load(YAML))),
    ]
    toml, *others = [load_config(path) for path in files]
    assert toml.policy == load_policy({"kind": "adaedl", "threshold": 0.6, "controller": {"epsilon": 0.02}})
    assert toml.generation.temperature == 0.7
    assert toml.generation.stop == ("\n\n",)
    assert all(other.as_dict() == toml.as_dict() for other in others)


def test_defaults_and_overrides(tmp_path: Path) -> None:
    config = load_config()
    assert (config.policy.kind, config.engine.kind) == ("goodput", "eager")
    path = write(tmp_path, "a.toml", TOML)
    config = load_config(path, {"policy": "static:length=2", "generation": {"temperature": 0.0}})
    assert config.policy == load_policy("static:length=2")
    assert (config.generation.temperature, config.generation.stop) == (0.0, ("\n\n",))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("static", {"kind": "static"}),
        ("static:length=3", {"kind": "static", "length": 3}),
        ("autoregressive", {"kind": "static", "length": 0}),
        ("adaedl:threshold=0.7,stop_token=include", {"kind": "adaedl", "threshold": 0.7, "stop_token": "include"}),
        ("adaedl:controller={alpha=0.8}", {"kind": "adaedl", "controller": {"alpha": 0.8}}),
        (
            "adaedl:controller={alpha=0.8,beta1=0.1},gamma=0.1",
            {"kind": "adaedl", "gamma": 0.1, "controller": {"alpha": 0.8, "beta1": 0.1}},
        ),
        (
            "adaedl:controller.alpha=0.8,controller.beta1=0.1",
            {"kind": "adaedl", "controller": {"alpha": 0.8, "beta1": 0.1}},
        ),
    ],
)
def test_specs(spec: str, expected: dict[str, Any]) -> None:
    policy = load_policy(spec)
    assert policy == load_policy(expected)
    assert load_policy(policy) is policy


def test_a_policy_from_a_file(tmp_path: Path) -> None:
    assert load_policy(str(write(tmp_path, "p.toml", TOML))).threshold == 0.6


BAD_SPECS = [
    (
        "adadel",
        r"^policy\.kind: unknown kind 'adadel'\. Did you mean 'adaedl'\? There is: acceptance_head, adaedl, all_of, ",
    ),
    ("os.system", r"^policy\.kind: unknown kind 'os\.system'\. There is: "),
    ("static:length=-1", r"^policy\.length: input should be greater than or equal to 0; got -1\.$"),
    ("static:length=two", r"^policy\.length: input should be a valid integer.*got 'two'\.$"),
    ("static:lenght=2", r"^policy\.lenght: unknown field\. Did you mean 'length'\? There is: length\.$"),
    ("static:length", r"^policy: 'length' in 'static:length' has no value"),
    ("adaedl:threshold=nan", r"^policy\.threshold: input should be a finite number"),
    ("adaedl:stop_token=maybe", r"^policy\.stop_token: input should be 'exclude' or 'include'; got 'maybe'"),
    ({"length": 2}, r"^policy\.kind: must name a registered kind; got None"),
    ({"kind": "adaedl", "controller": {"alfa": 1}}, r"^policy\.controller\.alfa: unknown field\. Did you mean 'alpha'"),
    ("autoregressive:length=3", r"^policy\.length: autoregressive has no fields; it is static with them set"),
    (3, r"^policy: must be a table of fields; got 3"),
]


@pytest.mark.parametrize(("spec", "message"), BAD_SPECS)
def test_bad_specs(spec: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_policy(spec)


BAD_FILES = [
    ("a.toml", "[policy", "a.toml: is not valid TOML: "),
    ("a.json", "{", "a.json: is not valid JSON: "),
    ("a.yaml", "a: [", "a.yaml: is not valid YAML: "),
    ("a.yaml", "!!python/object/apply:os.system ['true']", "a.yaml: is not valid YAML: "),
    ("a.toml", b"\xff\xfe", "a.toml: is not UTF-8 text"),
    ("a.ini", "", r"a.ini: a config ends in .toml, .json, .yaml, .yml"),
    ("a.json", "[]", r"a.json: must be a table of fields; got \[\]"),
    ("a.toml", "[polcy]", r"a.toml: polcy: unknown section. Did you mean 'policy'\?"),
    ("a.toml", "policy = 3", "a.toml: policy: must be a table of fields; got 3"),
    ("a.toml", "generation = 3", "a.toml: generation: must be a table of fields; got 3"),
    ("a.toml", "engine = 3", "a.toml: engine: must be a table of fields; got 3"),
    ("a.toml", '[policy]\nkind = "my_module:Policy"', "a.toml: policy.kind: unknown kind 'my_module:Policy'"),
    ("a.toml", '[policy]\nkind = "static"\nlength = 2000', "a.toml: policy.length: input should be less than"),
    ("a.toml", "[generation]\ntemperature = -1", "a.toml: generation.temperature: input should be greater than"),
    ("a.toml", '[engine]\nkind = "eager"\ndevice = "tpu"', "a.toml: engine.device: must be auto, or a device"),
    ("a.toml", '[engine]\nkind = "egaer"', r"a.toml: engine.kind: unknown kind 'egaer'. Did you mean 'eager'\?"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_FILES)
def test_bad_files(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_config(write(tmp_path, name, text))
    assert str(tmp_path / name) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: cannot be read: No such file or directory"):
        load_config(tmp_path / "none.toml")


def test_every_mistake_is_named() -> None:
    with pytest.raises(InputError) as caught:
        load_policy({"kind": "adaedl", "gamma": 7, "threshold": -1})
    assert str(caught.value).count("\n") == 1


def test_an_engine_is_checked_before_its_models_are_loaded() -> None:
    assert load_engine("eager").target == "bundled:target"
    with pytest.raises(InputError, match=r"engine\.costs\.verify: input should be greater than 0"):
        load_engine({"kind": "eager", "costs": {"draft_step": 1, "verify": 0}})
