"""A server over HTTP: the tokens, and vLLM's metrics, are those of the engine in this process."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from socket import socket
from typing import Any

import pytest

from work import DRAFT, TARGET, WORK

POLICY = "adaedl"
SPECULATIVE = {"method": "draft_model", "model": DRAFT, "num_speculative_tokens": 8}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with processes of its own, whose worker is ours and which loads no plug-in."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", TARGET, "--port", str(port)]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--max-model-len", "256"]
    command += ["--no-async-scheduling", "--speculative-config", json.dumps(SPECULATIVE)]
    command += ["--additional-config", json.dumps({"stopkit": {"policy": POLICY}})]
    command += ["--worker-cls", "stopkit_vllm.CPUWorker"]
    log = tmp_path_factory.mktemp("server") / "log"
    environment = os.environ | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "VLLM_PLUGINS": "",
        "VLLM_SERVER_DEV_MODE": "1",
    }
    with log.open("w") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 240
        while not _answers(f"{address}/health"):
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < until, log.read_text()[-4000:]
            time.sleep(0.5)
        yield address
        process.terminate()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(address: str, **body: Any) -> Any:
    """What the server answers to JSON."""
    asked = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return json.load(answer)


def metrics(address: str) -> dict[str, float]:
    """The counters of speculation by name, and by position."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("vllm:spec_decode_num")]
    values = {}
    for line in lines:
        name, _, value = line.rpartition(" ")
        position = name.partition('position="')[2].partition('"')[0]
        values[name.partition("{")[0].removeprefix("vllm:spec_decode_num_") + position] = float(value)
    return values


def test_tokens_and_metrics(server: str, plain: Any) -> None:
    texts, most = WORK["eight"]

    def complete(row: int) -> list[int]:
        time.sleep(0.1 * row)  # they join one after another
        options = {"max_tokens": most[row], "temperature": 0, "ignore_eos": True, "return_token_ids": True}
        answer = ask(f"{server}/v1/completions", model=TARGET, prompt=texts[row], **options)
        return list(answer["choices"][0]["token_ids"])

    with ThreadPoolExecutor(len(texts)) as threads:
        assert list(threads.map(complete, range(len(texts)))) == plain("eight")
    (counted,) = ask(f"{server}/collective_rpc", method="stopkit_statistics")["results"]
    told = metrics(server)
    assert counted["policy"]["kind"] == POLICY
    assert counted["tokens"] == 8 * 63
    assert told["draft_tokens_total"] == counted["drafted"]
    assert told["accepted_tokens_total"] == counted["accepted"]
    assert told["drafts_total"] == counted["offered_by_position"][0]
    for position, accepted in enumerate(counted["accepted_by_position"]):
        assert told[f"accepted_tokens_per_pos_total{position}"] == accepted
