"""`fused` by Triton kernels: logits are read once, and one chunk of each row a second time to draw from it.

`sweep` gives every chunk of a row to a program of its own, which leaves five numbers of it. `settle` puts a row's
chunks together, chooses the chunk that the uniform falls in by their masses, and looks at that one again for the token.
Arithmetic is in float32; only sums along which a token is searched are in float64, so that they never decrease.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from stopkit_engines.kernels.plain import Fused

ROWS_THAT_FILL = 8
"""With fewer rows, chunks are smaller, so that there is work for all of a GPU."""
PARTS = 5
"""Numbers that are kept of a chunk: its largest logit, the second, their sum of weights, that of w·log w, the place."""


def fused(logits: Tensor, temperature: Tensor, uniform: Tensor, with_q: bool = False) -> Fused:
    """Read logits [B, V] and draw a token a row by the inverse CDF, at a `uniform` [B, 1] float64 below 1.

    As `stopkit_engines.kernels.plain.fused`; logits are float32, bfloat16 or float16 with rows of contiguous tokens,
    `temperature` is float32, and all are on one device.
    """
    rows, vocabulary = logits.shape
    chunk = 4096 if rows >= ROWS_THAT_FILL else 1024
    chunks = triton.cdiv(vocabulary, chunk)
    parts = torch.empty(PARTS, rows, chunks, dtype=torch.float32, device=logits.device)
    numbers = torch.empty(5, rows, dtype=torch.float32, device=logits.device)
    tokens = torch.empty(2, rows, dtype=torch.long, device=logits.device)
    sizes = (vocabulary, chunks, logits.stride(0))
    sweep[(rows, chunks)](logits, temperature, parts, rows, *sizes, CHUNK=chunk, num_warps=8)
    most = triton.next_power_of_2(chunks)
    settle[(rows,)](logits, temperature, uniform, parts, numbers, tokens, rows, *sizes, CHUNK=chunk, MOST=most)
    q = None
    if with_q:
        q = torch.empty(rows, vocabulary, dtype=torch.float32, device=logits.device)
        spread[(rows, chunks)](logits, temperature, numbers, tokens, q, *sizes, CHUNK=chunk, num_warps=8)
    log_sum, entropy, largest, margin, probability = numbers.unbind()
    top, token = tokens.unbind()
    return Fused(log_sum, entropy, largest, margin, top, token, probability, q)


@triton.jit
def sweep(logits, temperature, parts, rows, vocabulary, chunks, stride, CHUNK: tl.constexpr):  # type: ignore[no-untyped-def]
    """What is kept of one chunk of one row."""
    row, chunk = tl.program_id(0), tl.program_id(1)
    places = tl.arange(0, CHUNK)
    at = chunk * CHUNK + places
    x = tl.load(logits + row.to(tl.int64) * stride + at, mask=at < vocabulary, other=-float("inf")).to(tl.float32)
    divisor = tl.load(temperature).to(tl.float32)
    divisor = tl.where(divisor > 0, divisor, 1.0)
    largest = tl.max(x, 0)
    best = tl.argmax(x, 0, tie_break_left=True)
    second = tl.max(tl.where(places == best, -float("inf"), x), 0)
    # Forbidden tokens are -inf, and so is the largest of a chunk of nothing else: it weighs nothing, and is no NaN.
    away = (x - tl.where(largest == -float("inf"), 0.0, largest)) / divisor
    weight = tl.exp(away)
    slot = parts + row * chunks + chunk
    step = rows * chunks
    tl.store(slot, largest)
    tl.store(slot + step, second)
    tl.store(slot + 2 * step, tl.sum(weight, 0))
    tl.store(slot + 3 * step, tl.sum(tl.where(weight > 0, weight * away, 0.0), 0))
    tl.store(slot + 4 * step, best.to(tl.float32))


@triton.jit
def settle(  # type: ignore[no-untyped-def]
    logits,
    temperature,
    uniform,
    parts,
    numbers,
    tokens,
    rows,
    vocabulary,
    chunks,
    stride,
    CHUNK: tl.constexpr,
    MOST: tl.constexpr,
):
    """A row's numbers and its token."""
    row = tl.program_id(0)
    each = tl.arange(0, MOST)
    there = each < chunks
    slot = parts + row * chunks + each
    step = rows * chunks
    firsts = tl.load(slot, mask=there, other=-float("inf"))
    seconds = tl.load(slot + step, mask=there, other=-float("inf"))
    sums = tl.load(slot + 2 * step, mask=there, other=0.0)
    logs = tl.load(slot + 3 * step, mask=there, other=0.0)
    bests = tl.load(slot + 4 * step, mask=there, other=0.0)
    given = tl.load(temperature).to(tl.float32)
    divisor = tl.where(given > 0, given, 1.0)

    largest = tl.max(firsts, 0)
    home = tl.argmax(firsts, 0, tie_break_left=True)
    away = (firsts - tl.where(largest == -float("inf"), 0.0, largest)) / divisor
    scale = tl.exp(away)
    # A NaN anywhere makes a chunk's sum NaN, and must reach the row's.
    masses = tl.where((scale == 0) & (sums == sums), 0.0, sums * scale)
    total = tl.sum(masses, 0)
    drift = tl.sum(tl.where(scale > 0, scale * (logs + sums * away), 0.0), 0)
    second = tl.max(tl.where(each == home, seconds, firsts), 0)
    top = home * CHUNK + tl.sum(tl.where(each == home, bests, 0.0), 0).to(tl.int32)

    # The chunk that the uniform falls in, and how far into it, as a share.
    wide = masses.to(tl.float64)
    upto = tl.cumsum(wide, 0)
    goal = tl.load(uniform + row) * tl.sum(wide, 0)
    chosen = tl.min(tl.where((upto > goal) & (masses > 0), each, MOST), 0)
    chosen = tl.where(chosen == MOST, home, chosen)
    mass = tl.sum(tl.where(each == chosen, wide, 0.0), 0)
    before = tl.sum(tl.where(each == chosen, upto, 0.0), 0) - mass
    share = tl.minimum(tl.maximum((goal - before) / mass, 0.0), 1.0)

    places = tl.arange(0, CHUNK)
    at = chosen * CHUNK + places
    x = tl.load(logits + row.to(tl.int64) * stride + at, mask=at < vocabulary, other=-float("inf")).to(tl.float32)
    peak = tl.sum(tl.where(each == chosen, firsts, 0.0), 0)
    weight = tl.exp((x - peak) / divisor)
    summed = tl.cumsum(weight.to(tl.float64), 0)
    last = tl.max(tl.where(weight > 0, places, 0), 0)
    found = tl.min(tl.where((summed > share * tl.sum(weight.to(tl.float64), 0)) & (weight > 0), places, CHUNK), 0)
    found = tl.where(found == CHUNK, last, found)
    own = tl.sum(tl.where(places == found, x, 0.0), 0)
    top = tl.minimum(top, vocabulary - 1)  # where logits are NaN, a place can be any
    token = tl.where(given > 0, tl.minimum(chosen * CHUNK + found, vocabulary - 1), top)

    tl.store(numbers + row, largest / divisor + tl.log(total))
    tl.store(numbers + rows + row, tl.log(total) - drift / total)
    tl.store(numbers + 2 * rows + row, 1.0 / total)
    tl.store(numbers + 3 * rows + row, (1.0 - tl.exp((second - largest) / divisor)) / total)
    tl.store(numbers + 4 * rows + row, tl.where(given > 0, tl.exp((own - largest) / divisor) / total, 1.0))
    tl.store(tokens + row, top.to(tl.int64))
    tl.store(tokens + rows + row, token.to(tl.int64))


@triton.jit
def spread(logits, temperature, numbers, tokens, q, vocabulary, chunks, stride, CHUNK: tl.constexpr):  # type: ignore[no-untyped-def]
    """One chunk of the distribution of one row."""
    row, chunk = tl.program_id(0), tl.program_id(1)
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    x = tl.load(logits + row.to(tl.int64) * stride + at, mask=at < vocabulary, other=-float("inf")).to(tl.float32)
    given = tl.load(temperature).to(tl.float32)
    share = tl.exp(x / tl.where(given > 0, given, 1.0) - tl.load(numbers + row))
    greedy = tl.where(at == tl.load(tokens + row), 1.0, 0.0)
    tl.store(q + row.to(tl.int64) * vocabulary + at, tl.where(given > 0, share, greedy), mask=at < vocabulary)
