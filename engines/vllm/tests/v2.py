"""Model runner V2 under several policies: `python v2.py FILE`, which becomes JSON, by policy."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import interpreted  # isort: skip
from work import GREEDY, SAMPLED, V2, counters, generate, served, statistics


def run(llm: Any, policy: str, name: str, **sampling: Any) -> dict[str, Any]:
    """Tokens of a workload, and what was counted of it."""
    llm.collective_rpc("stopkit_use", args=(policy,))
    before = counters(llm)
    tokens = generate(llm, name, **sampling)
    now = counters(llm)
    told = {field: now[field] - before[field] for field in ("rounds", "drafted", "accepted")}
    return {"tokens": tokens, "ours": statistics(llm), "theirs": told}


if __name__ == "__main__":
    interpreted.without_libraries()
    llm = served(max_num_seqs=8, max_model_len=64)
    found = {policy: run(llm, policy, GREEDY) for policy in V2}
    found["sampled"] = run(llm, V2[0], SAMPLED, temperature=1.0)
    Path(sys.argv[1]).write_text(json.dumps(found))
