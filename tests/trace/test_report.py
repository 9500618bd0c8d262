"""The report: one file that fetches nothing, with every section, and with the replay's own numbers in it."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from stopkit import Engine, State, StoppingPolicy, load_policy
from stopkit.cli import main
from stopkit.costs import FixedCosts
from stopkit.generation import GenerationOptions
from stopkit.policy import Drawn, RoundContext, RoundOutcome
from stopkit.signals import Signals
from stopkit.trace.bounds import bounds
from stopkit.trace.comparison import servable
from stopkit.trace.recording import Recording
from stopkit.trace.replay import replay
from stopkit.trace.report.calibration import BINS, Bin, calibration, calibrations
from stopkit.trace.report.estimates import estimates
from stopkit.trace.report.learning import movements
from stopkit.trace.report.lengths import histogram
from stopkit.trace.report.page import CONTENTS, page, steps
from stopkit.trace.report.speed import styles
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import short, spread, ticks
from stopkit.trace.report.thresholds import sweeps, swept
from stopkit.trace.trace import Trace
from tests.trace.conftest import PROMPTS

POLICIES = ["static", "adaedl", "max_probability", "joint_confidence", "ema_length:warmup=0,update_every=1"]
COSTS = [FixedCosts(draft_step=c, verify=1.0, verify_token=v) for v in (0.02, 0.15) for c in (0.05, 0.1, 0.4)]
BOUND_ROWS = {"hindsight", "clairvoyant", "best static length", "autoregressive"}


@pytest.fixture(scope="module")
def trace(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A recording of small models, with all that `stopkit trace record` writes."""
    path = tmp_path_factory.mktemp("trace") / "t.parquet"
    options = GenerationOptions(temperature=0.8, max_new_tokens=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stopkit_engines.hf.timing.REPEATS", 1)
        Recording(engine=engine, prompts=PROMPTS, options=options, max_draft=4, hidden_state=True).run(path)
    return Trace.open(path)


@pytest.fixture(scope="module")
def study(trace: Trace) -> Study:
    return Study.of(trace, {spec: load_policy(spec) for spec in POLICIES}, COSTS)


@pytest.fixture(scope="module")
def html(study: Study) -> str:
    return page(study, {"hardware": {"cpu": "<a & b>"}})


def test_the_heading_names_both_models(html: str, trace: Trace) -> None:
    heading = re.sub(r"<[^>]+>", "", re.search(r"<h1>(.*?)</h1>", html)[1])  # type: ignore[index]
    assert heading == f"{trace.metadata.draft['name']} drafts for {trace.metadata.target['name']}"
    assert "LlamaForCausalLM" in heading


class Reader(HTMLParser):
    """What is in the page: tags with their attributes, and tables by caption, as (row name, exact values)."""

    VOID = {"meta"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[tuple[str, list[float | None]]]] = {}
        self.open: list[str] = []
        self._caption = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr" and self.open[-2] == "tbody":
            self.tables[self._caption].append(("", []))
        if tag == "td":
            value = dict(attrs).get("data-value")
            self.tables[self._caption][-1][1].append(None if value is None else float(value))

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["caption"]:
            self._caption = data
            self.tables[data] = []
        elif self.open[-3:] == ["tbody", "tr", "th"]:
            rows = self.tables[self._caption]
            rows[-1] = (data, rows[-1][1])


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    reader = Reader(html)
    assert reader.open == [], "every element is closed"
    return reader


def test_nothing_is_fetched(html: str, read: Reader) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in read.tags}
    for tag, attributes in read.tags:
        assert not {"src", "srcset", "data", "xlink:href"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith("#"), attributes
    assert not re.search(r"https?:|//|@import|url\(|@font-face", html.replace("<!doctype html>", ""))
    assert len(html) < 2_000_000


def test_every_section_is_there_and_linked(read: Reader) -> None:
    assert [attributes["id"] for tag, attributes in read.tags if tag == "section"] == list(CONTENTS)
    assert [attributes["href"] for tag, attributes in read.tags if tag == "a"] == [f"#{name}" for name in CONTENTS]


def test_pictures_say_what_they_show(html: str, read: Reader) -> None:
    pictures = [attributes for tag, attributes in read.tags if tag == "svg"]
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(pictures) > 20
    for attributes in pictures:
        assert attributes["role"] == "img"
        assert set(str(attributes["aria-labelledby"]).split()) <= set(ids)
    assert not re.search(r'(?:d|x|y|cx|cy|width|height)="[^"]*(?:nan|inf)', html)
    colours = html.partition("</style>")[2]
    assert not re.search(r"#[0-9a-f]{6}|(?:fill|stroke)=", colours), "the style sheet alone has colours"
    assert "prefers-color-scheme: dark" in html


def test_what_it_is_given_is_escaped(html: str) -> None:
    assert "&lt;a &amp; b&gt;" in html


@pytest.mark.parametrize("verify", [0.02, 0.15])
def test_speed_ups_are_those_of_a_replay(trace: Trace, study: Study, read: Reader, verify: float) -> None:
    (rows,) = [rows for caption, rows in read.tables.items() if f"verify cost {verify}" in caption]
    costs = [cost for cost in COSTS if cost.verify_token == verify]
    found = dict(rows)
    assert found.keys() == {*POLICIES, *BOUND_ROWS}
    for spec in POLICIES:
        assert found[spec][: len(costs)] == [one.speedup for one in replay(trace, load_policy(spec), costs)]
    limits = [bounds(trace, cost) for cost in costs]
    for name, shown in (("hindsight", "hindsight"), ("best_static", "best static length")):
        assert found[shown][: len(costs)] == [limit[name].speedup for limit in limits]
    assert found["clairvoyant"][-1] == pytest.approx(1)
    assert found["autoregressive"][: len(costs)] == pytest.approx([1.0] * len(costs))


def test_the_best_constant_length_is_the_bound(trace: Trace, study: Study, read: Reader) -> None:
    found = dict(read.tables["The best constant length, known afterwards, beside the best rule"])
    curves = dict(read.tables["Speed-up by constant length"])
    verify = study.costs[study.reference].verify_cost
    for cost in (cost for cost in COSTS if cost.verify_cost == verify):
        name = f"draft cost {short(cost.draft_cost, 3)}"
        length, speedup, rule, _ = (*found[name], None, None)[:4]
        assert speedup == bounds(trace, cost)["best_static"].speedup == max(curves[name])
        assert curves[name].index(speedup) == length
        assert rule == max(replay(trace, load_policy(spec), [cost])[0].speedup for spec in POLICIES)


def test_prompts_are_sorted_by_their_speed_up(trace: Trace, study: Study, read: Reader) -> None:
    rows = read.tables["Every prompt"]
    assert len(rows) == len(trace.sequences)
    assert sum(cells[0] for _, cells in rows) == trace.tokens
    speedups = [cells[3] for _, cells in rows]
    assert speedups == sorted(speedups, reverse=True)
    cost = study.costs[study.reference]
    alone = replay(trace.select([0]), load_policy(study.ranking[0]), [cost])[0].speedup
    assert dict(rows)[f"sequence {trace.sequences[0]}"][3] == pytest.approx(alone)


def test_lengths_count_every_round(trace: Trace, study: Study, read: Reader) -> None:
    found = dict(read.tables["Rounds by drafted and accepted length"])
    for spec in POLICIES:
        stats = replay(trace, load_policy(spec), [COSTS[study.reference]])[0].stats
        for what, total in (("drafted", stats.drafted), ("accepted", stats.accepted)):
            counts = [int(count) for count in found[f"{spec}, {what}"] if count is not None]
            assert sum(counts) == stats.rounds
            assert sum(length * count for length, count in enumerate(counts)) == total


def test_a_histogram_undoes_the_counts_by_position() -> None:
    assert histogram(10, [7, 7, 2]) == [3, 0, 5, 2]


def test_acceptance_by_position_is_the_traces(trace: Trace, read: Reader) -> None:
    found = dict(read.tables["Share accepted, by position from 1"])
    runs, lengths = trace.run.tolist(), trace.drafted.tolist()
    for at in range(3):
        asked = [run > at for run, length in zip(runs, lengths, strict=True) if length > at and run >= at]
        whole = [run > at for run, length in zip(runs, lengths, strict=True) if length > at]
        assert found["next token accepted"][at] == sum(asked) / len(asked)
        assert found["survived so far"][at] == sum(whole) / len(whole)


def test_a_calibrated_score_has_no_gap() -> None:
    chance = torch.Generator().manual_seed(0)
    score = torch.rand(20_000, generator=chance, dtype=torch.float64)
    accepted = torch.rand(20_000, generator=chance, dtype=torch.float64) < score
    found = calibration(score, score, accepted)
    assert len(found.bins) == BINS
    assert found.gap < 0.015  # each bin's share is off by 0.011 at most, in standard deviation
    assert calibration(score / 2, score, accepted).gap == pytest.approx(0.25, abs=0.01)
    assert sum(found.histogram) == pytest.approx(1)
    assert found.auc == pytest.approx(5 / 6, abs=0.01)  # of a uniform score that is the probability


@pytest.mark.parametrize(
    ("score", "accepted", "auc"),
    [([0.1, 0.9], [0, 1], 1.0), ([0.9, 0.1], [0, 1], 0.0), ([0.5, 0.5, 0.5], [0, 1, 1], 0.5), ([0.5], [1], 0.5)],
)
def test_auc_counts_pairs(score: list[float], accepted: list[int], auc: float) -> None:
    values = torch.tensor(score, dtype=torch.float64)
    assert calibration(values, values, torch.tensor(accepted).bool()).auc == auc


def test_intervals_are_wilsons() -> None:
    low, high = Bin(10, 0, 0, 1.0).interval
    assert (low, high) == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1.0))


def test_scores_are_judged_where_all_before_was_accepted(trace: Trace) -> None:
    found = calibrations(trace, {"adaedl": load_policy("adaedl"), "static": load_policy("static")}, COSTS[0])
    assert list(found) == ["adaedl", "q(x), the drawn token"]
    judged = sum(min(run + 1, length) for run, length in zip(trace.run.tolist(), trace.drafted.tolist(), strict=True))
    score = found["adaedl"]
    assert sum(one.count for one in score.bins) == judged
    assert sum(one.count * one.accepted for one in score.bins) == pytest.approx(int(trace.run.sum()))


class Believing(StoppingPolicy):
    """Drafts two tokens, and believes what it is shown, less the more rounds it has seen."""

    kind = "believing"
    signals = frozenset({"margin"})

    carry_over: bool = False

    def init(self, batch_size: int, device: torch.device) -> State:
        return State.learned(batch_size, device, shared=self.carry_over, rounds=0.0)

    def plan(self, state: State, context: RoundContext) -> tuple[torch.Tensor, State]:
        return context.limit.clamp(max=2), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state.moved(outcome.context.active, rounds=state["rounds"] + 1)

    def estimate(self, state: State, position: torch.Tensor, signals: Signals, drawn: Drawn) -> torch.Tensor:
        return signals.margin * drawn.probability / (1 + state["rounds"])


@pytest.mark.parametrize("carry_over", [False, True])
def test_estimates_are_those_of_a_replay(trace: Trace, carry_over: bool) -> None:
    """Worked out start by start: the belief at both positions, the second only if the first was accepted."""
    expected, rounds = [], 0
    for first, end in zip(trace.first[:-1].tolist(), trace.first[1:].tolist(), strict=True):
        start, rounds = first, rounds if carry_over else 0
        while start < end:
            length, run = min(2, int(trace.limit[start])), int(trace.run[start])
            for position in range(min(length, run + 1)):
                margin, drawn = (
                    float(trace.columns[name][start, position]) for name in ("margin", "drawn_probability")
                )
                expected.append((start, position, margin * drawn / (1 + rounds)))
            start, rounds = start + min(length, run) + 1, rounds + 1
    policy = Believing(carry_over=carry_over)
    score, start, position = estimates(trace, policy, COSTS[0])
    found = sorted(zip(start.tolist(), position.tolist(), score.tolist(), strict=True))
    assert found == [(*place, pytest.approx(belief)) for *place, belief in sorted(expected)]
    shown = calibrations(trace, {"believing": policy}, COSTS[0])["believing's estimate"]
    assert sum(one.count for one in shown.bins) == len(expected)


def test_goodput_shows_its_estimate(trace: Trace) -> None:
    assert "goodput's estimate" in calibrations(trace, {"goodput": load_policy("goodput")}, COSTS[0])


def test_sweeps_are_replays(trace: Trace, study: Study) -> None:
    assert swept(study) == ["adaedl", "max_probability", "joint_confidence"]
    (sweep,) = [one for one in sweeps(study) if one.policy == "max_probability"]
    assert sweep.default == 0.6
    assert sweep.values == tuple(step / 10 for step in range(11))
    at = sweep.values.index(0.9)
    expected = replay(trace, load_policy("max_probability:threshold=0.9"), COSTS)
    assert [row[at] for row in sweep.speedups] == [one.speedup for one in expected]
    row = sweep.speedups[0]
    assert row[sweep.values.index(sweep.best(0))] == max(row)


class Rising(StoppingPolicy):
    """Drafts one more every round, up to three, then one again; counts the rounds, and notes what it was asked."""

    kind = "rising"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State.learned(batch_size, device, shared=False, length=1.0, rounds=0.0, note=0.0)

    def plan(self, state: State, context: RoundContext) -> tuple[torch.Tensor, State]:
        return torch.minimum(state["length"].long(), context.limit), state.put(note=context.limit.double())

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        active = outcome.context.active
        return state.moved(active, length=state["length"] % 3 + 1, rounds=state["rounds"] + 1)


def test_what_is_learned_is_what_the_replay_learns(trace: Trace) -> None:
    found = movements(trace, "rising", Rising(), COSTS[0])
    assert [one.value for one in found] == ["length"], "a counter only grows, and a note is not learned"
    rounds = [stats.rounds for stats in replay(trace, Rising(), COSTS[:1])[0].sequences]
    assert [len(line) for line in found[0].lines] == rounds
    assert found[0].lines[0][:4] == (2.0, 3.0, 1.0, 2.0)
    (adaedl, _) = movements(trace, "adaedl", load_policy("adaedl"), COSTS[0])
    assert adaedl.value == "threshold"
    assert adaedl.lines[0][0] in (pytest.approx(0.701), pytest.approx(0.699), pytest.approx(0.7))


def test_a_shared_value_is_one_line(trace: Trace) -> None:
    found = movements(trace, "ema", load_policy("ema_length"), COSTS[0])
    rounds = [stats.rounds for stats in replay(trace, load_policy("ema_length"), COSTS[:1])[0].sequences]
    assert all(len(one.lines) == 1 and len(one.lines[0]) == sum(rounds) for one in found)
    assert found[0].begins == tuple(sum(rounds[:at]) for at in range(len(rounds)))


def test_a_policy_without_its_file_is_left_out(trace: Trace) -> None:
    chosen, left_out = servable(trace)
    assert left_out["acceptance_head"] == "weights names no file"
    assert {"static", "adaedl", "goodput"} <= chosen.keys()
    assert {"bandit", "first_of"} <= left_out.keys()


def test_progress_is_told(trace: Trace) -> None:
    done: list[tuple[str, float]] = []
    small = Study.of(trace, {"adaedl": load_policy("adaedl")}, COSTS[:1], lambda *tick: done.append(tick))
    assert sum(part for _, part in done) == pytest.approx(2)
    assert {name for name, _ in done} == {"adaedl", "bounds"}
    page(small, {}, lambda *tick: done.append(tick))
    assert sum(part for _, part in done) == pytest.approx(2 + steps(small))


def test_colours_go_to_the_best(study: Study) -> None:
    style = styles(study)
    assert [style[name] for name in study.ranking] == [f"s{place}" for place in range(len(POLICIES))]
    means = [torch.tensor(study.speedups(name)).log().mean() for name in study.ranking]
    assert means == sorted(means, reverse=True)


def test_ticks_are_round() -> None:
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(0.63, 2.1) == [0.75, 1, 1.25, 1.5, 1.75, 2]
    assert ticks(0, 3, 5, whole=True) == [0, 1, 2, 3]


def test_labels_do_not_touch() -> None:
    assert spread([10, 11, 50], 10, 0, 100) == [5.5, 15.5, 50]
    assert spread([98, 99], 10, 0, 100) == [90, 100]


def test_labels_do_not_touch_when_crowded() -> None:
    places = spread([20, 20, 20, 27, 39], 10, 0, 100)
    assert all(after - before >= 10 - 1e-9 for before, after in pairwise(places))


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["trace", "report", *map(str, arguments)])


def test_the_command_writes_the_page(trace: Trace, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    options = ["--policy", "static", "--policy", "margin:threshold=0.2", "--draft-cost", "0.1"]
    done = command(trace.path, "--out", out, *options)
    assert done.exit_code == 0, done.stderr
    assert "3 policies on 200 tokens" in done.stdout
    found = Reader(out.read_text())
    (rows,) = [rows for caption, rows in found.tables.items() if caption.startswith("Speed-up by draft cost")]
    assert {name for name, _ in rows} - BOUND_ROWS == {"static", "margin:threshold=0.2", "static:length=2"}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--draft-cost", "0.1,cheap"], "is not a list of numbers"),
        (["--verify-cost", "-1"], "is not a finite number of at least 0"),
        (["--policy", "statik"], "Did you mean 'static'?"),
    ],
)
def test_wrong_input_is_one_line(trace: Trace, tmp_path: Path, options: list[str], line: str) -> None:
    done = command(trace.path, "--out", tmp_path / "r.html", *options)
    assert done.exit_code == 2
    assert line in done.stderr


def test_no_trace(tmp_path: Path) -> None:
    done = command(tmp_path / "none.parquet", "--out", tmp_path / "r.html")
    assert done.exit_code == 2
    assert "there is no trace" in done.stderr
