"""Greedy tokens of every workload from vLLM as it is: `python plain.py FILE`."""

import json
import sys
from pathlib import Path

from vllm import LLM

sys.path.insert(0, str(Path(__file__).parent))
from work import TARGET, generate

if __name__ == "__main__":
    llm = LLM(TARGET, dtype="float32", enforce_eager=True, max_model_len=256)
    Path(sys.argv[1]).write_text(json.dumps({name: generate(llm, name) for name in ("eight", "many", "few")}))
