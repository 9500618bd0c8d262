"""What requests ask for, and what outlives them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from vllm import SamplingParams
from vllm.sampling_params import StructuredOutputsParams

from stopkit import InputError, load_policy
from stopkit_vllm.options import Options
from stopkit_vllm.rounds import Rounds
from work import WORK, generate, statistics


def test_what_was_learned_outlives_the_engine(llm: Any, use: Any, tmp_path: Path) -> None:
    spec, path = "adaedl:carry_over=true,max_draft=4", tmp_path / "learned.safetensors"
    use(spec)
    generate(llm, "eight")
    llm.collective_rpc("stopkit_save_state", args=(str(path),))
    policy = load_policy(spec)
    learned = Options(policy=policy, state=path).learned(policy)
    rounds = Rounds(policy, torch.device("cpu"), state=learned)
    assert rounds.learned is not None
    assert float(rounds.learned["threshold"]) != 0.7
    assert float(rounds.learned["threshold"]) == float(learned["threshold"])


def test_what_belongs_to_requests_is_not_kept(llm: Any, use: Any, tmp_path: Path) -> None:
    use("adaedl")
    with pytest.raises(InputError, match="nothing is shared between requests"):
        llm.collective_rpc("stopkit_save_state", args=(str(tmp_path / "state"),))


def test_requests_with_a_grammar_are_drafted_for_only_if_that_is_exact(llm: Any, use: Any) -> None:
    def drafted(temperature: float) -> int:
        use("static:length=3")
        grammar = StructuredOutputsParams(regex="[a-z ]{24}")
        asked = SamplingParams(temperature=temperature, max_tokens=24, structured_outputs=grammar)
        (answer,) = llm.generate([{"prompt_token_ids": WORK["eight"][0][0]}], asked, use_tqdm=False)
        assert set(answer.outputs[0].text) <= set("abcdefghijklmnopqrstuvwxyz ")
        return int(statistics(llm)["drafted"])

    assert drafted(0.0) > 0
    assert drafted(1.0) == 0


def test_temperatures_of_one_batch(llm: Any, plain: Any, use: Any) -> None:
    use("max_probability")
    texts = WORK["eight"][0][:4]
    asked = [SamplingParams(temperature=t, max_tokens=64, ignore_eos=True) for t in (0.0, 1.0, 0.0, 0.5)]
    answers = llm.generate([{"prompt_token_ids": text} for text in texts], asked, use_tqdm=False)
    given = [list(answer.outputs[0].token_ids) for answer in answers]
    assert [given[0], given[2]] == [plain("eight")[0], plain("eight")[2]]


def test_a_stop_token_ends_a_block(llm: Any, plain: Any, use: Any) -> None:
    """Nothing is drafted after it, so it is the last of what was accepted or it is the target's own."""
    use("static:length=8")
    stop = plain("eight")[0][20]
    asked = SamplingParams(temperature=0.0, max_tokens=64, stop_token_ids=[stop], ignore_eos=True)
    (answer,) = llm.generate([{"prompt_token_ids": WORK["eight"][0][0]}], asked, use_tqdm=False)
    given = list(answer.outputs[0].token_ids)
    assert given == plain("eight")[0][: plain("eight")[0].index(stop) + 1]
