"""A policy from a Python file: wherever the command line names one, and nowhere else."""

import json
import shlex
import tomllib
from pathlib import Path

import pytest

import stopkit
from stopkit import InputError
from stopkit.rule_file import written_policy
from tests.cli.conftest import Run
from tests.cli.test_bad_input import refused
from tests.trace.traces import by_chance, write

RULE = """
from stopkit import ThresholdPolicy


class FewChoices(ThresholdPolicy):
    \"\"\"Draft while the draft model wavers between few tokens.\"\"\"

    kind = "few_choices"
    signals = frozenset({"entropy"})

    def score(self, signals):
        return (-signals.entropy).exp()
"""
SEVERAL = (
    RULE
    + """

class Sharper(FewChoices):
    kind = "sharper"


class Nameless(ThresholdPolicy):
    def score(self, signals):
        return signals.entropy


class Taken(FewChoices):
    kind = "adaedl"


class Alias(FewChoices):
    kind = "autoregressive"


limit = 3
"""
)


@pytest.fixture
def rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("my_rule.py")
    path.write_text(RULE)
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write(tmp_path / "t.parquet", by_chance(5, [9, 14, 6]))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("./my_rule.py", {}),
        ("my_rule.py", {}),
        ("./my_rule.py:threshold=0.25,max_draft=3", {"threshold": 0.25, "max_draft": 3}),
        ("./my_rule.py:controller.alpha=0.5", {"controller": {"alpha": 0.5}}),
        ("./my_rule.py::FewChoices", {}),
        ("./my_rule.py::FewChoices:threshold=0.25", {"threshold": 0.25}),
    ],
)
def test_what_names_it(rule: Path, text: str, fields: dict[str, object]) -> None:
    policy = written_policy(text)
    assert policy.kind == "few_choices"
    assert policy == type(policy)(**fields)


def test_one_file_is_one_class_until_it_changes(rule: Path) -> None:
    before = type(written_policy("my_rule.py"))
    assert type(written_policy(str(rule.resolve()))) is before
    rule.write_text(RULE.replace("few_choices", "fewer"))
    assert written_policy("my_rule.py").kind == "fewer"


def test_generate(run: Run, rule: Path, models: list[str], tmp_path: Path) -> None:
    done = run("generate", "for", *models, "--policy", "./my_rule.py:max_draft=2", "--max-new-tokens", 6, "--json", "-")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rows"][0]["policy"] == "./my_rule.py:max_draft=2"
    assert document["conditions"]["config"]["policy"]["kind"] == "few_choices"
    assert len(document["conditions"]["files"]["./my_rule.py"]) == 64


def test_compare(run: Run, rule: Path, models: list[str]) -> None:
    arguments = ["--temperature", 0.7, "--max-new-tokens", 4, "--repeats", 1, "--json", "-"]
    done = run("compare", *models, "--policy", "./my_rule.py", "--policy", "static", *arguments)
    assert done.exit_code == 0, done.stderr
    assert {"autoregressive", "./my_rule.py", "static"} <= {row["policy"] for row in json.loads(done.stdout)["rows"]}


def test_check(run: Run, rule: Path) -> None:
    rule.write_text(RULE.replace("return (-signals.entropy).exp()", "return -signals.entropy.abs()"))
    done = run("check", "./my_rule.py", "--examples", 2)
    assert done.exit_code == 0, done.output
    rule.write_text(RULE.replace(".exp()", ".exp()[:, None]"))
    done = run("check", "./my_rule.py", "--examples", 2)
    assert done.exit_code == 1, done.output
    assert "./my_rule.py: " in done.stderr


def test_replay_and_report(run: Run, rule: Path, trace: Path) -> None:
    arguments = ["--policy", "./my_rule.py:threshold=0.3", "--draft-cost", 0.1]
    done = run("trace", "replay", trace, *arguments, "--json", "-")
    assert done.exit_code == 0, done.stderr
    assert "./my_rule.py:threshold=0.3" in {row["policy"] for row in json.loads(done.stdout)["rows"]}
    done = run("trace", "report", trace, *arguments, "--out", trace.with_suffix(".html"))
    assert done.exit_code == 0, done.stderr
    assert "my_rule.py:threshold=0.3" in trace.with_suffix(".html").read_text()


@pytest.mark.parametrize("given", ["", ":max_draft=2"])
def test_tune_says_how_to_use_what_it_found(run: Run, rule: Path, trace: Path, given: str) -> None:
    out = trace.with_name("tuned.toml")
    search = ["--fields", "threshold,stop_token", "--trials", 3, "--draft-cost", 0.1]
    done = run("tune", f"./my_rule.py{given}", "--trace", trace, "--out", out, *search)
    assert done.exit_code == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("No config can name a rule in a file; "))
    text = shlex.split(line.removesuffix("."))[-1]
    assert line.split("; ", 1)[1] in out.read_text(), "the file says so, too"
    block = tomllib.loads(out.read_text())["policy"]
    tuned = written_policy(text)
    assert block.pop("kind") == tuned.kind
    assert tuned == type(tuned)(**block)
    refused(run, ["generate", "x", "--policy", out], "policy.kind: unknown kind 'few_choices'")


@pytest.mark.parametrize(
    ("source", "text", "line"),
    [
        (RULE, "./my_rul.py", "./my_rul.py: there is no such file. Did you mean 'my_rule.py'? There is: my_rule.py."),
        (RULE, "my_rul", "policy.kind: unknown kind 'my_rul'."),
        (RULE, "my_rul", "Or did you mean the file ./my_rule.py?"),
        (RULE, "unheard_of", "A rule in a file is named by its path, ./RULE.py; `stopkit new-policy`"),
        (RULE, "my_rule.py::Few", "my_rule.py: defines no class 'Few'. There is: FewChoices."),
        (RULE, "./my_rule.py:treshold=1", "./my_rule.py: policy.treshold: unknown field. Did you mean 'threshold'?"),
        (RULE, "my_rule.py:threshold=2", "policy.threshold: input should be less than or equal to 1; got 2"),
        (RULE, "my_rule.py:threshold", "policy: 'threshold' in 'my_rule.py:threshold' has no value"),
        (SEVERAL, "my_rule.py", "my_rule.py: has the policies FewChoices, Sharper, Taken, Alias; name one, "),
        (SEVERAL, "my_rule.py::Nameless", "line 19: defines Nameless, which has no `kind`; give it a name"),
        (SEVERAL, "my_rule.py::Taken", "line 24: Taken has the kind 'adaedl', which stopkit "),
        (SEVERAL, "my_rule.py::Alias", "line 28: Alias has the kind 'autoregressive', which stopkit offers"),
        (SEVERAL, "my_rule.py::limit", "my_rule.py: defines no class 'limit'."),
        ("x = 1\n", "my_rule.py", "my_rule.py: defines no StoppingPolicy; a rule is a class that derives from it."),
        ("x = (\n", "my_rule.py", "my_rule.py, line 1: SyntaxError: '(' was never closed."),
        ("\nx = unknown\n", "my_rule.py", "my_rule.py, line 2: NameError: name 'unknown' is not defined."),
        ("\n\nimport sys\nsys.exit(3)\n", "my_rule.py", "my_rule.py, line 4: SystemExit: 3."),
        ("import no_such\n", "my_rule.py", "line 1: ModuleNotFoundError: No module named 'no_such'; a rule is one"),
        ("import stopkit\n\nclass A(stopkit.StoppingPolicy):\n    size = 3\n", "my_rule.py", "line 3: Pydantic"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_place(run: Run, rule: Path, source: str, text: str, line: str) -> None:
    rule.write_text(source)
    refused(run, ["generate", "x", "--policy", text], line)


def test_a_file_that_cannot_be_read(run: Run, rule: Path) -> None:
    Path("folder.py").mkdir()
    refused(run, ["generate", "x", "--policy", "folder.py"], "folder.py: cannot be read: Is a directory.")


def test_check_suggests_files_too(run: Run, rule: Path) -> None:
    refused(run, ["check", "my_rul"], "KIND: there is no policy or engine 'my_rul'.", "the file ./my_rule.py?")


def test_a_rule_that_fails_names_its_line(run: Run, rule: Path, models: list[str]) -> None:
    rule.write_text(RULE.replace("(-signals.entropy).exp()", "signals.margin"))
    done = run("generate", "for", *models, "--policy", "./my_rule.py")
    assert done.exit_code == 1
    assert "policy 'few_choices' (from ./my_rule.py), admit, line 12: AttributeError: signal 'margin'" in done.stderr


REFUSED = "is a Python file, which --policy alone can name: a config cannot import code."


@pytest.mark.parametrize(
    "policy",
    ["'./my_rule.py'", "{kind: './my_rule.py'}", "{kind: capped, policy: './my_rule.py'}"],
)
def test_a_config_imports_no_code(run: Run, rule: Path, policy: str) -> None:
    rule.write_text("raise SystemExit('it was run')\n")
    path = Path("config.yaml")
    path.write_text(f"policy: {policy}\n")
    done = run("generate", "x", "--config", path)
    assert done.exit_code == 2
    assert "it was run" not in done.output
    assert "./my_rule.py" in done.stderr


@pytest.mark.parametrize("spec", ["./my_rule.py", "./my_rule.py::FewChoices", "capped:policy=./my_rule.py"])
def test_nor_does_load_policy(rule: Path, spec: str) -> None:
    with pytest.raises(InputError, match=REFUSED):
        stopkit.load_policy(spec)


def test_nor_does_a_policy_inside_one_that_the_command_line_names(run: Run, rule: Path) -> None:
    refused(run, ["generate", "x", "--policy", "capped:policy=./my_rule.py"], "policy.policy: ", REFUSED)
