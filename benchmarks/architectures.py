"""Which models work: every causal language model that transformers has a class for, tiny and with random weights.

Each decodes greedily with the eager engine: alone and in a ragged batch, with a draft whose tokens are all accepted,
with one whose tokens are rejected, and with one between. Its tokens are compared with those of plain forwards over
whole sequences, without a cache. A model is

* equal: every token is the same, with rows side by side or one row at a time;
* refused: an InputError says why;
* different: some token is another, and nothing said so;
* an exception: anything else was raised;
* not tried: no tiny model of its class can be built, or run by itself.

`python benchmarks/architectures.py` writes benchmarks/results/architectures.json and docs/reference/models.md; with
model types as arguments it tries these, and puts what it finds in the place of what was known of them.
"""

import argparse
import json
import multiprocessing
import queue
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tiny_models import IDS, VARIANTS, random_model, tiny

RESULTS = Path(__file__).parent / "results" / "architectures.json"
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "models.md"
SECONDS = 120
"""A model that takes longer is given up."""
PROMPTS = ([3, 4, 5, 6, 7, 8, 9], [11, 12, 13])
COUNT = 12
"""Tokens to generate: more than the windows of the tiny models hold."""
TIE = 1e-4
"""Where a plain forward's two best logits are this close, relative to its logits' spread, both tokens are right."""


class Finding(NamedTuple):
    """What became of one class."""

    model: str
    model_type: str
    outcome: str
    detail: str
    way: str


def main() -> None:
    """Try them all, a process each, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="model types to try; all, if none is named")
    names = parser.parse_args().names
    found = []
    for model_type in names or sorted(model_types()):
        found.append(apart(model_type))
        print(*found[-1], sep=" | ", flush=True)
    write(found)


def model_types() -> list[str]:
    """All that transformers has a causal language model of."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def apart(model_type: str) -> Finding:
    """What `tried` finds, in a process of its own, which may crash or hang."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=_put, args=(model_type, results))
    process.start()
    try:
        return results.get(timeout=SECONDS)  # type: ignore[no-any-return]
    except queue.Empty:
        return Finding(model_type, model_type, "not tried", f"takes more than {SECONDS} s", "")
    finally:
        process.kill()
        process.join()


def _put(model_type: str, results: Any) -> None:
    results.put(tried(model_type))


def tried(model_type: str) -> Finding:
    """Build it and let it decode."""
    import torch

    from stopkit import InputError

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    name = model_type
    try:
        model, right = first_that_runs(model_type)
        name = type(model).__name__
    except Exception as error:
        return Finding(name, model_type, "not tried", _short(error), "")
    try:
        wrong = next(differences(model, right), None)
    except InputError as error:
        return Finding(name, model_type, "refused", _short(error), "")
    except Exception as error:
        return Finding(name, model_type, "an exception", _short(error), "")
    return Finding(name, model_type, "different" if wrong else "equal", wrong or "", way(model))


def first_that_runs(model_type: str) -> tuple[Any, list[list[list[int]]]]:
    """A tiny model of this type, and what it says after the prompts."""
    errors = []
    for variant in VARIANTS:
        for ids in ({}, IDS):
            try:
                model = tiny(model_type, variant=variant, ids=ids)
                return model, [greedy(model, prompt) for prompt in PROMPTS]
            except Exception as error:
                errors.append(error)
    raise errors[0]


def greedy(model: Any, prompt: list[int]) -> list[list[int]]:
    """The tokens that may follow, place by place: the best by a plain forward, and those that are level with it."""
    import torch

    tokens, allowed = list(prompt), []
    with torch.inference_mode():
        for _ in range(COUNT):
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].double()
            spread = float(logits.max() - logits.min())
            if not spread > 0:
                raise ValueError("its logits are all the same or not finite")
            allowed.append((logits >= logits.max() - TIE * spread).nonzero().flatten().tolist())
            tokens.append(int(logits.argmax()))
    return allowed


def differences(model: Any, right: list[list[list[int]]]) -> Iterator[str]:
    """Where the engine says something else."""
    import torch

    from stopkit_engines.eager import EagerEngine

    torch.manual_seed(1)
    noisy = type(model)(model.config).eval().to(model.dtype)
    noisy.load_state_dict(model.state_dict())
    with torch.no_grad():
        for weight in noisy.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    drafts = {"itself": model, "a noisy copy": noisy, "another": random_model(model.config, seed=2, like=type(model))}
    for name, draft in drafts.items():
        engine = EagerEngine.from_models(model, draft, penalties=False)
        for prompts in ([0], [1], [0, 1]):
            given = [list(PROMPTS[index]) for index in prompts]
            said = engine.generate(given, policy="static:length=3", max_new_tokens=COUNT, temperature=0).tokens
            for index, tokens in zip(prompts, said, strict=True):
                for at, (token, allowed) in enumerate(zip(tokens, right[index], strict=True)):
                    if token not in allowed:
                        yield f"prompt {index + 1} of {len(prompts)}, {name} drafting: token {at}"
                    if token != allowed[0] or len(allowed) > 1:
                        break  # after a tie either way is right


def way(model: Any) -> str:
    """In which way the engine runs it."""
    from stopkit_engines.hf.trial import served

    return served(model, "engine.target").way.name


def _short(error: Exception) -> str:
    from stopkit.errors import one_line

    return one_line(f"{type(error).__name__}: {error}", most=400)


def write(found: list[Finding]) -> None:
    """Write the results, with what was known of other models, and the page."""
    import torch
    import transformers

    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    known = json.loads(RESULTS.read_text())["models"] if RESULTS.is_file() else []
    rows = {row["model_type"]: row for row in (*known, *(finding._asdict() for finding in found))}
    models = [rows[model_type] for model_type in sorted(rows)]
    counts = Counter(row["outcome"] for row in models)
    print(dict(counts))
    results = {"conditions": versions, "counts": counts, "models": models}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(results))


def page(results: dict[str, Any]) -> str:
    """The page of the documentation."""
    models, counts = results["models"], results["counts"]
    versions = " and ".join(f"{name} {version}" for name, version in results["conditions"].items())
    lines = [PREFACE.format(versions=versions, **{name.replace(" ", "_"): counts.get(name, 0) for name in OUTCOMES})]
    lines += ["| model type | class | runs as |", "|---|---|---|"]
    lines += [
        f"| `{row['model_type']}` | `{row['model']}` | {row['way']} |" for row in models if row["outcome"] == "equal"
    ]
    for outcome, title in (("different", "Different"), ("an exception", "An exception"), ("refused", "Refused")):
        if chosen := [row for row in models if row["outcome"] == outcome]:
            lines += ["", f"## {title}", "", "| model type | class | why |", "|---|---|---|"]
            lines += [f"| `{row['model_type']}` | `{row['model']}` | {_cell(row['detail'])} |" for row in chosen]
    untried = ", ".join(f"`{row['model_type']}`" for row in models if row["outcome"] == "not tried")
    lines += ["", "## Not tried", "", f"No tiny model of these was built: {untried}." if untried else "None."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    reason = text.partition("without one: ")[2] or text.partition("cannot be used: ")[2] or text
    return reason.replace("|", "\\|").replace("<", "&lt;")


OUTCOMES = ("equal", "refused", "different", "an exception", "not tried")
PREFACE = """# Which models work

The engine `eager` tries every model when it gets it, by a few short forwards: does it say with its cache what it says
without, with rows of different length, with blocks that are rejected and rolled back? It is then run in the fastest way
in which it does:

* **ragged rows**: any number of sequences beside each other. Full attention, sliding windows and chunks.
* **one row**: one sequence at a time, with the model's own cache; further prompts wait. Models that make their own
  masks or positions (alibi, GPT-Neo, decoders of BART's kind), and recurrent or hybrid ones, whose state is kept from
  before the block and which see accepted tokens again after a rejection.
* **one row, token by token**: recurrent models that go on from a state by single tokens only. Exact, and no faster than
  without drafting.

A model that is exact in none of these is refused, in one line. `stopkit check eager --target MODEL` tells in advance.
A recording needs models that run with ragged rows.

This table is made by `python benchmarks/architectures.py`, with {versions}:
each class of causal language models, tiny and with random weights, decodes greedily alone and in a ragged batch, with
blocks that are accepted, rejected and partly accepted, and every token is compared with that of plain forwards over
whole sequences. {equal} are equal, {refused} refused, {different} silently different, {an_exception} raised another
exception; of {not_tried} no tiny model was built.

## Equal
"""


if __name__ == "__main__":
    main()
