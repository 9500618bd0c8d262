"""`stopkit policies`, `engines`, `plugins` and `schema`: what is installed, and what can be configured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stopkit import InputError, load_config, load_policy
from stopkit.kinds import as_block
from stopkit.plugins import Plugin, registry
from stopkit.schema import brief
from tests.cli.conftest import Run


def rows(run: Run, *arguments: object) -> list[dict[str, Any]]:
    document = json.loads(run(*arguments, "--json", "-").stdout)
    assert set(document) == {"conditions", "rows"}
    found: list[dict[str, Any]] = document["rows"]
    return found


def test_policies(run: Run) -> None:
    found = {row["kind"]: row for row in rows(run, "policies")}
    assert {"static", "adaedl", "max_probability"} <= set(found)
    assert found["adaedl"]["distribution"].startswith("stopkit ")
    assert "sqrt" in found["adaedl"]["formula"]
    assert "sqrt" in run("policies").stdout


def test_one_policy(run: Run) -> None:
    (row,) = rows(run, "policies", "show", "adaedl")
    assert Path(row["file"]).name == "adaedl.py"
    assert "2410.18351" in row["source"]
    fields = {field["name"]: field for field in row["fields"]}
    assert fields["gamma"] == {
        "name": "gamma",
        "type": "number",
        "default": "0.2",
        "bounds": "> 0, ≤ 1",
        "description": "γ, scale of the entropy, per nat; (0, 1) in the paper",
    }
    assert fields["controller.alpha"]["default"] == "0.9"
    assert fields["controller.initial_acceptance_rate"]["default"] == "unset"
    assert fields["update"]["type"] == "fixed | algorithm1"
    shown = run("policies", "show", "adaedl").stdout
    for part in ("formula:", "source:", "distribution: stopkit", "adaedl.py", "controller.alpha", "≥ 0, ≤ 1"):
        assert part in shown


@pytest.mark.parametrize(
    ("kind", "name", "kind_of_value", "default"),
    [
        ("first_of", "policies", "array of policy", '["drawn_probability", "heuristic"]'),
        ("capped", "policy", "policy", '"adaedl"'),
        (
            "per_position",
            "policies",
            "table of policy",
            '{"0": {"kind": "max_probability", "threshold": 0.3}, "2": "max_probability"}',
        ),
        ("batch_table", "table", "table of integer or table of integer", '{"1": 3, "17": 2, "65": 0}'),
        ("ema_length", "lengths", "array of integer", "[1, 3, 5, 7]"),
    ],
)
def test_fields_that_hold_many_values_are_written_briefly(
    run: Run, kind: str, name: str, kind_of_value: str, default: str
) -> None:
    (row,) = rows(run, "policies", "show", kind)
    (field,) = [field for field in row["fields"] if field["name"] == name]
    assert (field["type"], field["default"]) == (kind_of_value, default)


def test_a_nested_policy_is_written_with_what_differs() -> None:
    spec = {"kind": "first_of", "policies": ["static", {"kind": "capped", "policy": "adaedl:controller.alpha=0.5"}]}
    assert brief(load_policy(spec)) == {
        "kind": "first_of",
        "policies": ["static", {"kind": "capped", "policy": {"kind": "adaedl", "controller": {"alpha": 0.5}}}],
    }


def test_a_policy_that_there_is_not(run: Run) -> None:
    done = run("policies", "show", "adaedle")
    assert done.exit_code == 2
    assert "Did you mean 'adaedl'?" in done.stderr


def test_engines(run: Run) -> None:
    (eager,) = [row for row in rows(run, "engines") if row["kind"] == "eager"]
    assert eager["distribution"].startswith("stopkit ")
    assert "transformers" in run("engines").stdout


def test_plugins(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Plugin("broken", "guesswork 1.0", "guesswork:plugin", "ImportError: no module named 'guess'")
    monkeypatch.setattr(registry(), "plugins", [*registry().plugins, broken])
    states = {row["name"]: row["state"] for row in rows(run, "plugins")}
    assert states.items() >= {"engines": "loaded", "policies": "loaded", "broken": "disabled"}.items()
    assert "no module named 'guess'" in run("plugins").stdout


def test_a_table_can_be_saved_beside_its_display(run: Run, tmp_path: Path) -> None:
    done = run("engines", "--json", tmp_path / "engines.json")
    assert "eager" in done.stdout
    assert json.loads((tmp_path / "engines.json").read_text())["rows"]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    from stopkit.schema import config_schema

    return config_schema(registry())


def test_the_schema_is_what_the_command_prints(run: Run, schema: dict[str, Any]) -> None:
    assert json.loads(run("schema").stdout) == json.loads(json.dumps(schema))


def test_the_schema_is_closed_and_complete(schema: dict[str, Any]) -> None:
    assert set(schema["properties"]) == {"policy", "engine", "generation"}
    blocks, in_one_line = schema["$defs"]["policy"]["anyOf"]
    variants = {block["properties"]["kind"]["const"]: block for block in blocks["oneOf"]}
    assert in_one_line["type"] == "string"
    assert set(variants) == {*registry().policies, "autoregressive"}
    assert set(variants["adaedl"]["properties"]) == {"kind", *registry().policies["adaedl"].model_fields}
    assert variants["adaedl"]["properties"]["gamma"]["exclusiveMinimum"] == 0
    assert variants["static"]["required"] == ["kind"]
    engines = {block["properties"]["kind"]["const"]: block for block in schema["$defs"]["engine"]["oneOf"]}
    assert set(engines) == set(registry().engines)
    assert "required" not in engines["eager"]


def tables(node: Any) -> list[dict[str, Any]]:
    """Every object schema in a tree."""
    inner = [table for child in _children(node) for table in tables(child)]
    return [node, *inner] if isinstance(node, dict) and node.get("type") == "object" else inner


def _children(node: Any) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []


def test_every_table_is_closed_and_every_field_described(schema: dict[str, Any]) -> None:
    found = tables(schema)
    assert len(found) > 5
    for table in found:
        if "properties" in table:
            assert table["additionalProperties"] is False
            for name, field in table["properties"].items():
                assert field.get("description"), name
        else:  # a map: its keys are the user's, and numbers; the schema says what they lead to
            assert table["propertyNames"] == {"pattern": "^[0-9]+$"}
            assert isinstance(table["additionalProperties"], dict)


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    text = json.dumps(schema)
    names = {part.partition('"')[0] for part in text.split("#/$defs/")[1:]}
    assert names <= set(schema["$defs"])


ACCEPTED: list[Any] = [
    {"policy": {"kind": "adaedl", "threshold": 0.7}, "engine": {"target": "x"}, "generation": {"stop": ["\n"]}},
    {"policy": {"kind": "autoregressive"}},
    {"policy": "adaedl:threshold=0.7"},
    {"policy": {"kind": "first_of", "policies": ["svip", {"kind": "capped", "policy": {"kind": "margin"}}]}},
    {"policy": {"kind": "per_position", "policies": {"0": "static:length=2", "2": {"kind": "adaedl"}}}},
    {"policy": {"kind": "batch_table", "table": {"1": 4, "9": 0}}},
]
REFUSED: list[Any] = [
    {"polcy": {}},
    {"policy": {"kind": "adaedl", "gama": 1}},
    {"policy": {"kind": "os.system"}},
    {"policy": "os.system"},
    {"policy": {"kind": "first_of", "policies": []}},
    {"policy": {"kind": "first_of", "policies": [{"kind": "svip", "scal": 1}]}},
    {"policy": {"kind": "capped", "policy": "adaedle"}},
    {"policy": {"kind": "per_position", "policies": {"first": "static"}}},
    {"policy": {"kind": "batch_table", "table": {"1": -1}}},
]


@pytest.fixture(scope="module")
def valid(schema: dict[str, Any]) -> Callable[[Any], bool]:
    """Whether the schema accepts a config."""
    jsonschema = pytest.importorskip("jsonschema", reason="checks the schema where jsonschema is installed")
    validator = jsonschema.Draft202012Validator(schema)
    return lambda config: bool(validator.is_valid(config))


@pytest.mark.parametrize("config", [*ACCEPTED, *REFUSED], ids=json.dumps)
def test_the_schema_accepts_what_is_accepted(valid: Callable[[Any], bool], config: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    if config in ACCEPTED:
        load_config(path)
    else:
        with pytest.raises(InputError):
            load_config(path)
    assert valid(config) == (config in ACCEPTED)


@pytest.mark.parametrize("kind", registry().policies)
def test_the_schema_accepts_every_policy_as_it_is_saved(valid: Callable[[Any], bool], kind: str) -> None:
    policy = load_policy(kind)
    assert valid({"policy": as_block(policy)})
    assert valid({"policy": brief(policy)})
    assert load_policy(brief(policy)) == load_policy(as_block(policy)) == policy
