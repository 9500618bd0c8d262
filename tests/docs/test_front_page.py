"""The front page shows what the demo measured, and its picture is the one of that measurement."""

import json

from tests.docs.pages import ROOT
from tests.docs.test_measured import loaded


def test_the_table_is_that_of_the_result() -> None:
    page = loaded("docs/front_page.py")
    (shown,) = page.PLACE.findall(page.README.read_text(encoding="utf-8"))
    assert shown == page.front_table(json.loads(page.RESULT.read_text(encoding="utf-8")))


def test_every_policy_of_the_demo_is_in_it() -> None:
    page = loaded("docs/front_page.py")
    result = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text(encoding="utf-8"))
    table = page.front_table(result)
    assert all(f"| `{row['policy']}` |" in table for row in result["rows"])
    assert result["conditions"]["versions"]["torch"] in table
