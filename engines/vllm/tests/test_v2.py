"""Model runner V2, the default on GPUs, on a CPU by Triton's interpreter: a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from law import law_of
from work import COUNTED, GREEDY, SAMPLED, V2, WORK

pytestmark = pytest.mark.interpreted


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("v2") / "found.json"
    command = [sys.executable, str(Path(__file__).with_name("v2.py")), str(out)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("policy", V2)
def test_tokens_and_counts(found: Any, plain: Any, eager: Any, policy: str) -> None:
    run = found[policy]
    assert run["tokens"] == plain(GREEDY)
    expected = eager(policy, run["tokens"], GREEDY)
    assert {name: run["ours"][name] for name in COUNTED} == expected
    assert (run["theirs"]["drafted"], run["theirs"]["accepted"]) == (expected["drafted"], expected["accepted"])
    assert run["theirs"]["rounds"] == expected["offered_by_position"][0], "vLLM counts rounds with a block"


def test_the_output_has_the_law_of_the_target(found: Any) -> None:
    law = law_of(WORK[SAMPLED][0], found["sampled"]["tokens"])
    assert law.holds, law
