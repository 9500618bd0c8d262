"""Who records what: parts by what a launcher says, and workers by what a cluster has."""

import sys

import pytest

from stopkit import InputError
from stopkit.trace.fleet import Fleet
from stopkit.trace.pool import Share
from stopkit.trace.recorder import replaced
from stopkit.trace.shards import Shard, rank

SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
TORCHRUN = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}


def test_a_launcher_says_which_part() -> None:
    assert rank(SLURM) == ("Slurm", Shard(3, 4), 1)
    assert rank(TORCHRUN) == ("torchrun", Shard(1, 3), 0)
    assert rank({**SLURM, **TORCHRUN}) == rank(SLURM)
    assert rank({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", **TORCHRUN}) == rank(TORCHRUN), "srun -n1 torchrun"
    assert (str(Shard(3, 4)), Shard(3, 4).name) == ("3/4", "3-of-4")


@pytest.mark.parametrize("environment", [{}, {"RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "1"}])
def test_alone_a_process_makes_all(environment: dict[str, str]) -> None:
    assert rank(environment) is None


@pytest.mark.parametrize(("number", "size"), [("3", "3"), ("-1", "3"), ("x", "3"), ("0", "many")])
def test_what_cannot_be_is_said(number: str, size: str) -> None:
    with pytest.raises(
        InputError, match=f"^RANK: is '{number}', and WORLD_SIZE is '{size}'; give --shard i/n yourself"
    ):
        rank({"RANK": number, "WORLD_SIZE": size})


@pytest.mark.parametrize(
    ("machines", "workers", "on_cpu", "share"),
    [
        ([{"CPU": 16, "GPU": 4}, {"CPU": 8, "GPU": 1}], None, False, (5, 1, 1)),
        ([{"CPU": 16, "GPU": 4}], 2, False, (2, 1, 1)),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 8}], None, True, (2, 0, 8)),
        ([{"CPU": 16}, {"CPU": 5}], None, False, (2, 0, 5)),
        ([{"CPU": 16}, {"CPU": 5}], 3, False, (3, 0, 2)),
        ([{"CPU": 1}], 4, False, (4, 0, 1)),
    ],
)
def test_workers_fit(machines: list[dict[str, float]], workers: int | None, on_cpu: bool, share: Share) -> None:
    assert Share.of(machines, workers, on_cpu) == share


def test_more_workers_than_gpus() -> None:
    with pytest.raises(InputError, match="--workers: are 3, and the cluster has 2 GPUs"):
        Share.of([{"CPU": 4, "GPU": 2}], 3, False)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--ray: Ray is not installed; `pip install 'stopkit\[ray\]'`"):
        Fleet.connected("auto", {}).__enter__()


def test_a_prompt_of_a_part_is_named_by_its_place() -> None:
    assert str(replaced(InputError("prompts[1]: is empty."), [4, 7])) == "prompts[7]: is empty."
    assert str(replaced(InputError("engine.draft: prompts[1]"), [4, 7])) == "engine.draft: prompts[1]"
