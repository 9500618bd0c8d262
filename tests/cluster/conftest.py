"""A Ray cluster of two machines, both of them this one."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import models, pair, run, tokenizer  # noqa: F401

os.environ["RAY_AUTH_MODE"] = "disabled"  # nobody else is to reach it, and no token is made in the home folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two machines with two cores each; the second, `cluster.other`, can be taken away, and is to be given back."""
    from ray.cluster_utils import Cluster  # a missing Ray fails here

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    made.other = made.add_node(num_cpus=2)
    made.wait_for_nodes()
    yield made
    made.shutdown()
