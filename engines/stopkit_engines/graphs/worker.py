"""Compiles a captured graph, in a process of its own, by torch alone: `python worker.py GRAPH OUT OPTIONS THREADS`."""

import json
import sys

import torch

if __name__ == "__main__":
    graph, out, options, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    program = torch.export.load(graph)
    torch._inductor.aoti_compile_and_package(program, package_path=out, inductor_configs=json.loads(options))
