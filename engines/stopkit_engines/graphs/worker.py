"""Compiles one captured graph, in a process of its own: `python worker.py GRAPH OUT OPTIONS`. Needs torch alone."""

import json
import sys

import torch

if __name__ == "__main__":
    graph, out, options = sys.argv[1:]
    given = json.loads(options)
    torch.set_num_threads(given.pop("threads"))
    torch._inductor.aoti_compile_and_package(torch.export.load(graph), package_path=out, inductor_configs=given)
