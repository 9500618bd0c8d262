"""`stopkit generate`: what `Engine.generate` gives, shown and saved, whatever happens on the way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor

import stopkit
from stopkit import RoundOutcome, State, StoppingPolicy
from stopkit.kinds import DISTRIBUTIONS
from stopkit.plugins import registry
from stopkit.random import sequence_seeds
from stopkit.statistics import Statistics
from tests.cli.conftest import CONTEXT, Run

REPEATABLE = ("--policy", "static")
"""A policy that looks at measured costs may draft otherwise when it is asked again, and another text comes of it."""
PROMPTS = ["def add(", "for item", "print(items)", "return a", "b):"]


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return path


def test_a_context_that_is_full_is_told(run: Run, models: list[str], prompt_file: Path) -> None:
    long = [0] * (CONTEXT - 4)
    prompt_file.write_text(json.dumps({"token_ids": long}) + "\n" + json.dumps({"prompt": "def add("}) + "\n")
    done = run("generate", "--prompt-file", prompt_file, *models, *REPEATABLE, "--max-new-tokens", 6, "--batch-size", 2)
    assert done.exit_code == 0, done.stderr
    assert "ended because the target's context is full: 1 of 2 texts" in done.stderr


def test_it_prints_what_the_engine_generates(run: Run, models: list[str]) -> None:
    done = run(
        "generate", "def add(", *models, "--policy", "static:length=3", "--seed", 4, "--max-new-tokens", 20,
        "--temperature", 0.7, "--top-k", 50,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    engine = stopkit.load_engine({"kind": "eager", "target": models[1], "draft": models[3]})
    result = engine.generate(
        "def add(", "static:length=3", max_new_tokens=20, temperature=0.7, top_k=50, seeds=sequence_seeds(4, 1)
    )
    assert done.stdout == result.text[0] + "\n"
    assert "20 tokens" in done.stderr
    assert f"{result.stats.accepted} of {result.stats.drafted} drafted" in done.stderr


def test_options_win_over_the_config(run: Run, models: list[str], tmp_path: Path) -> None:
    config = tmp_path / "stopkit.toml"
    config.write_text(
        f'[policy]\nkind = "static"\nlength = 2\n[engine]\ntarget = "{models[1]}"\ndraft = "{models[3]}"\n'
        "[generation]\nmax_new_tokens = 5\ntemperature = 0.5\nseed = 3\n"
    )
    done = run("generate", "x", "--config", config, "--max-new-tokens", 7, "--json", "-")
    used = json.loads(done.stdout)["conditions"]["config"]
    assert used["policy"] == {"kind": "static", "length": 2}
    assert used["engine"]["kind"] == "eager"
    assert used["engine"]["target"] == models[1]
    assert used["generation"]["max_new_tokens"] == 7
    assert used["generation"]["temperature"] == 0.5
    other = run("generate", "x", "--config", config, "--policy", "autoregressive", "--json", "-")
    assert json.loads(other.stdout)["conditions"]["config"]["policy"] == {"kind": "static", "length": 0}
    assert json.loads(other.stdout)["rows"][0]["policy"] == "autoregressive"


def test_json_is_all_there_is_on_standard_output(run: Run, models: list[str]) -> None:
    done = run("generate", "def", *models, "--max-new-tokens", 6, "--json", "-", "--policy", "static:length=2")
    document = json.loads(done.stdout)
    assert set(document) == {"conditions", "rows"}
    assert {"time", "hardware", "versions", "git", "config"} <= set(document["conditions"])
    (row,) = document["rows"]
    assert set(row) == set(Statistics().as_dict()) | {
        "policy", "engine", "temperature", "batch_size", "speedup", "prompt", "text", "token_ids", "finish_reason",
        "sampling", "processors", "undone",
    }  # fmt: skip
    assert (row["policy"], row["engine"], row["batch_size"], row["speedup"]) == ("static:length=2", "eager", 1, None)
    assert (row["prompt"], row["tokens"], row["finish_reason"]) == ("def", 6, "length")
    assert len(row["token_ids"]) == 6
    assert row["tokens_per_second"] > 0


def texts(run: Run, *arguments: object) -> list[str]:
    done = run("generate", *arguments, "--json", "-")
    assert done.exit_code == 0, done.stderr
    return [row["text"] for row in json.loads(done.stdout)["rows"]]


def test_the_batch_size_changes_no_text_where_rows_share_nothing(
    run: Run, models: list[str], prompt_file: Path
) -> None:
    common = ("--policy", "adaedl", "--prompt-file", prompt_file, *models, "--max-new-tokens", 12, "--temperature", 0.8)
    alone = texts(run, *common)
    assert len(set(alone)) == len(PROMPTS)
    assert texts(run, *common, "--batch-size", 2) == alone
    assert texts(run, *common, "--batch-size", 5) == alone
    assert texts(run, *common, "--seed", 1) != alone


@pytest.mark.parametrize("batch_size", [1, 2])
def test_several_completions_follow_each_other(run: Run, models: list[str], prompt_file: Path, batch_size: int) -> None:
    common = (*REPEATABLE, "--prompt-file", prompt_file, *models, "--max-new-tokens", 6, "--batch-size", batch_size)
    expected = [
        f"── {prompt_file}:{line}: {prompt}\n{text}\n"
        for line, (prompt, text) in enumerate(zip(PROMPTS, texts(run, *common), strict=True), start=1)
    ]
    assert run("generate", *common).stdout == "".join(expected)


def test_text_prompts_are_read_a_line_at_a_time(run: Run, models: list[str], tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("one\r\n two \n")
    done = run("generate", "--prompt-file", path, *models, "--max-new-tokens", 2, "--json", tmp_path / "out.json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["prompt"] for row in rows] == ["one", " two "]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_origins_are_marked_without_colour(run: Run, models: list[str], prompt_file: Path, batch_size: int) -> None:
    common = (*REPEATABLE, "--prompt-file", prompt_file, *models, "--max-new-tokens", 10, "--batch-size", batch_size)
    plain = run("generate", *common)
    marked = run("generate", *common, "--show-origin")
    body, _, legend = marked.stdout.rstrip("\n").rpartition("\n")
    assert "⟦residual" in legend
    assert "‹bonus" in legend
    assert "⟦" in body or "‹" in body
    assert body.translate(dict.fromkeys(map(ord, "⟦⟧‹›"))).rstrip() == plain.stdout.rstrip()


def test_a_stop_string_ends_the_text(run: Run, models: list[str]) -> None:
    common = ("generate", "def add(", *models, "--max-new-tokens", 12, "--temperature", 0)
    whole = run(*common).stdout.removesuffix("\n")
    stop = whole[3:5]
    cut = run(*common, "--stop", stop, "--show-origin").stdout
    shown = cut.partition("\n\naccepted")[0].translate(dict.fromkeys(map(ord, "⟦⟧‹›")))
    assert shown.rstrip() == whole[: whole.index(stop)].rstrip()


class Fails(StoppingPolicy):
    """Raises in its third round."""

    kind: ClassVar[str] = "fails"
    error: ClassVar[type[BaseException]] = RuntimeError
    rounds: ClassVar[list[int]] = []

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        self.rounds.append(1)
        if len(self.rounds) == 3:
            raise self.error("out of ideas")
        return state

    def plan(self, state: State, context: Any) -> tuple[Tensor, State]:
        return context.limit.clamp(max=1), state


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[BaseException]], None]:
    def choose(error: type[BaseException]) -> None:
        Fails.rounds.clear()
        monkeypatch.setattr(Fails, "error", error)
        monkeypatch.setitem(registry().policies, "fails", Fails)
        monkeypatch.setitem(DISTRIBUTIONS, Fails, "guesswork 1.0")

    return choose


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_policy_that_raises_costs_no_text(
    run: Run, models: list[str], failing: Callable[[type[BaseException]], None], tmp_path: Path, batch_size: int
) -> None:
    failing(RuntimeError)
    out = tmp_path / "out.json"
    done = run("generate", "for", *models, "--policy", "fails", "--batch-size", batch_size, "--json", out)
    assert done.exit_code == 1
    (row,) = json.loads(out.read_text())["rows"]
    assert row["finish_reason"] is None
    assert row["tokens"] >= 3
    assert done.stdout == row["text"] + "\n"
    statistics, error = done.stderr.splitlines()
    assert f"{row['tokens']} tokens" in statistics
    line = (
        Path(__file__).read_text(encoding="utf-8").splitlines().index('            raise self.error("out of ideas")')
        + 1
    )
    assert error == f"error: policy 'fails' (from guesswork 1.0), learn, line {line}: RuntimeError: out of ideas"


def test_interrupted_it_keeps_what_is_complete(
    run: Run, models: list[str], failing: Callable[[type[BaseException]], None], prompt_file: Path, tmp_path: Path
) -> None:
    failing(KeyboardInterrupt)
    out = tmp_path / "out.json"
    common = ("--prompt-file", prompt_file, *models, "--policy", "fails", "--max-new-tokens", 2)
    done = run("generate", *common, "--json", out)
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "error: interrupted."
    rows = json.loads(out.read_text())["rows"]
    assert [row["finish_reason"] for row in rows][:1] == ["length"]
    assert 1 < len(rows) <= 3
    assert all(row["text"] in done.stdout for row in rows)


def test_chat_asks_through_the_template(
    run: Run, models: list[str], pair: Path, tokenizer: Any, tmp_path: Path, prompt_file: Path
) -> None:
    refused = run("generate", "add", *models, "--chat")
    assert refused.exit_code == 2
    assert "PROMPT: is chat messages, and the target's tokenizer has no chat template" in refused.stderr

    target = tmp_path / "target"
    shutil.copytree(pair / "target", target)
    (target / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}def "
    )
    options = ("--target", target, "--draft", models[3], *REPEATABLE, "--max-new-tokens", 6, "--temperature", 0)
    done = run("generate", "add", *options, "--chat")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == run("generate", "user: add\ndef ", *options).stdout
    assert done.stdout != run("generate", "add", *options).stdout

    prompt_file.write_text('{"turns": ["add", "again"]}\n{"prompt": "user: add\\ndef "}\n')
    talk = json.loads(run("generate", "--prompt-file", prompt_file, *options, "--json", "-").stdout)["rows"]
    first, second, text = (row["prompt"] for row in talk)
    assert first == [{"role": "user", "content": "add"}]
    answer = {"role": "assistant", "content": talk[0]["text"]}
    assert second == [*first, answer, {"role": "user", "content": "again"}]
    assert (text, talk[2]["text"]) == ("user: add\ndef ", talk[0]["text"])

    prompt_file.write_text('{"prompt": "add"}\n{"messages": [{"role": "user", "content": "add"}]}\n')
    rows = json.loads(run("generate", "--prompt-file", prompt_file, *options, "--chat", "--json", "-").stdout)["rows"]
    assert [row["prompt"] for row in rows] == [[{"role": "user", "content": "add"}]] * 2
    assert [row["text"] for row in rows] == [done.stdout.removesuffix("\n")] * 2
    prompt_file.write_text('{"token_ids": [1, 2]}\n')
    refused = run("generate", "--prompt-file", prompt_file, *options, "--chat")
    assert refused.exit_code == 2
    assert "prompts.jsonl:1: is token ids, and a chat is text or messages" in refused.stderr
