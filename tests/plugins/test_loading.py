"""Plug-ins of strangers: found, listed, limited, and refused with a reason."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import stopkit
from stopkit.plugins import Plugin, registry

PLUGIN_SITE = Path(__file__).parent.parent / "plugin_site"

POLICY = """
    import stopkit

    class Policy(stopkit.StoppingPolicy):
        kind = "{kind}"

    @stopkit.hookimpl
    def stopkit_policies():
        return [Policy]
"""

Install = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    """The registry is cached; look again in every test and after it."""
    registry.cache_clear()
    yield
    registry.cache_clear()


@pytest.fixture
def plugin_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tutorial's package, as if it were installed."""
    monkeypatch.syspath_prepend(PLUGIN_SITE)
    yield
    _forget("stopkit_patience")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(name, source)` makes a distribution, version 1.0, with one module and one entry point of its name."""
    monkeypatch.syspath_prepend(tmp_path)
    installed = []

    def add(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(dedent(source))
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[stopkit]\n{name} = {name}\n")
        importlib.invalidate_caches()
        installed.append(name)

    yield add
    for name in installed:
        _forget(name)


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def _plugin(name: str) -> Plugin:
    return next(plugin for plugin in registry().plugins if plugin.name == name)


@pytest.mark.usefixtures("plugin_site")
class TestTheTutorialsPackage:
    def test_is_found_by_its_kind(self) -> None:
        policy = stopkit.load_policy("patience:patience=3")
        assert type(policy).__module__ == "stopkit_patience.patience"
        assert policy.model_dump() == {"patience": 3, "unsure_below": 0.5, "max_draft": 8}

    def test_is_found_in_a_config_file(self, tmp_path: Path) -> None:
        path = tmp_path / "stopkit.toml"
        path.write_text('[policy]\nkind = "patience"\nunsure_below = 0.4\n')
        assert stopkit.load_config(path).policy == stopkit.load_policy("patience:unsure_below=0.4")

    def test_is_known_with_its_distribution(self) -> None:
        assert _plugin("patience") == Plugin("patience", "stopkit-patience 1.0", "stopkit_patience")
        assert registry().distributions[registry().policy("patience")] == "stopkit-patience 1.0"

    def test_its_mistakes_are_explained_like_those_of_built_in_policies(self) -> None:
        with pytest.raises(stopkit.InputError, match=r"^policy\.patence: unknown field\. Did you mean 'patience'\?"):
            stopkit.load_policy("patience:patence=3")

    def test_does_not_hide_the_built_in_policies(self) -> None:
        assert {"adaedl", "max_probability", "static", "patience"} <= registry().policies.keys()

    def test_stops_at_the_second_unsure_position(self) -> None:
        from torch import tensor

        controller = stopkit.DraftController(stopkit.load_policy("patience"))
        sure, unsure = tensor([[0.9, 0.1, 0.0]]), tensor([[0.4, 0.3, 0.3]])
        drawn = stopkit.Drawn(tensor([0]), tensor([0.4]))
        for _ in range(2):  # a new round forgets the last one's unsure positions
            assert controller.plan(16)
            for q in (sure, unsure, sure):
                assert controller.admit(q)
                assert controller.extend(drawn)
            assert not controller.admit(unsure)
            controller.learn(accepted=3)
        assert controller.sequences[0].drafted == 6


class TestOnTheCommandLine:
    def test_policies_lists_it(self) -> None:
        listed = _stopkit("policies")
        assert listed.returncode == 0, listed.stderr
        assert "patience" in listed.stdout

    def test_policies_show_names_its_distribution_and_fields(self) -> None:
        shown = _stopkit("policies", "show", "patience")
        assert shown.returncode == 0, shown.stderr
        for text in ("stopkit-patience 1.0", "unsure_below", "max_draft"):
            assert text in shown.stdout

    def test_plugins_lists_it(self) -> None:
        listed = _stopkit("plugins")
        assert listed.returncode == 0, listed.stderr
        assert "stopkit-patience 1.0" in listed.stdout

    def test_generate_runs_it(self) -> None:
        options = ["--policy", "patience:max_draft=3", "--max-new-tokens", "8", "--seed", "1", "--json", "-"]
        done = _stopkit("generate", "def f(", *options)
        assert done.returncode == 0, done.stderr
        assert '"patience:max_draft=3"' in done.stdout


def _stopkit(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN_SITE), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", "from stopkit.cli import main; main()", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


class TestAPlugInThatFails:
    def test_is_disabled_with_its_reason_and_stops_nothing_else(self, install: Install) -> None:
        install("broken", "import a_module_that_nobody_has")
        install("sound", POLICY.format(kind="sound"))
        assert _plugin("broken").problem == "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
        assert {"sound", "adaedl"} <= registry().policies.keys()

    def test_is_named_when_its_kind_is_asked_for(self, install: Install) -> None:
        install("broken", "1 / 0")
        with pytest.raises(stopkit.InputError, match=r"unknown kind 'mine'.*Disabled plug-ins: broken \(ZeroDivision"):
            stopkit.load_policy("mine")

    def test_may_fail_in_its_hook(self, install: Install) -> None:
        install("broken", "import stopkit\n@stopkit.hookimpl\ndef stopkit_policies(): raise RuntimeError('no luck')")
        assert _plugin("broken").problem == "RuntimeError: no luck"

    @pytest.mark.parametrize(
        ("offered", "problem"),
        [
            ("[int]", "not a subclass of StoppingPolicy"),
            ("['adaedl']", "not a subclass of StoppingPolicy"),
            ("[type('Nameless', (stopkit.StoppingPolicy,), {})]", "has no `kind`"),
            ("[type('Half', (stopkit.ThresholdPolicy,), {'kind': 'half'})]", "lacks score"),
        ],
    )
    def test_may_offer_what_is_no_policy(self, install: Install, offered: str, problem: str) -> None:
        install("broken", f"import stopkit\n@stopkit.hookimpl\ndef stopkit_policies(): return {offered}")
        assert problem in str(_plugin("broken").problem)

    def test_may_have_forgotten_the_mark(self, install: Install) -> None:
        install("unmarked", POLICY.format(kind="unmarked").replace("@stopkit.hookimpl", ""))
        assert "mark stopkit_policies or stopkit_engines with @stopkit.hookimpl" in str(_plugin("unmarked").problem)
        assert "unmarked" not in registry().policies

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("import sys\nsys.exit('bye')", "SystemExit: bye"),
            ("raise BaseException('at the root')", "BaseException: at the root"),
            ("import stopkit\nraise stopkit.InputError('not\\nmine')", "InputError: not mine"),
            ("raise GeneratorExit", "GeneratorExit:"),
            ("raise RuntimeError('\\x1b[2J')", r"RuntimeError: \x1b[2J"),
            ("import", "SyntaxError: "),
        ],
    )
    def test_may_fail_in_any_way(self, install: Install, source: str, problem: str) -> None:
        install("broken", source)
        assert str(_plugin("broken").problem).startswith(problem)
        assert "adaedl" in registry().policies


class TestOfTwoWithOneName:
    def test_the_first_plug_in_keeps_its_kind(self, install: Install) -> None:
        install("first", POLICY.format(kind="mine"))
        install("second", POLICY.format(kind="mine"))
        assert "policy kind 'mine' is offered by first 1.0, too" in str(_plugin("second").problem)
        assert registry().distributions[registry().policy("mine")] == "first 1.0"

    def test_a_built_in_kind_stays(self, install: Install) -> None:
        install("a_thief", POLICY.format(kind="adaedl"))
        assert "policy kind 'adaedl' is offered by stopkit" in str(_plugin("a_thief").problem)
        assert registry().distributions[registry().policy("adaedl")].startswith("stopkit ")

    def test_a_plug_in_may_not_offer_a_kind_twice(self, install: Install) -> None:
        install("double", POLICY.format(kind="mine").replace("return [", "return 2 * ["))
        assert "offered by this plug-in, too" in str(_plugin("double").problem)
        assert "mine" not in registry().policies

    def test_a_misspelled_hook(self, install: Install) -> None:
        install("hasty", POLICY.format(kind="mine").replace("stopkit_policies", "stopkit_polices"))
        assert "unknown hook 'stopkit_polices'. Did you mean 'stopkit_policies'?" in str(_plugin("hasty").problem)


class TestTheEnvironmentVariable:
    def test_limits(self, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
        install("one", POLICY.format(kind="one"))
        install("two", POLICY.format(kind="two"))
        monkeypatch.setenv("STOPKIT_PLUGINS", "policies, two")
        assert [plugin.name for plugin in registry().plugins] == ["policies", "two"]
        assert "two" in registry().policies
        assert "one" not in registry().policies
        assert not registry().engines

    def test_empty_disables_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STOPKIT_PLUGINS", "")
        assert not registry().plugins
        with pytest.raises(stopkit.InputError, match=r"unknown kind 'adaedl'\. There is none\."):
            stopkit.load_policy("adaedl")

    def test_keeps_a_refused_plug_in_away(self, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
        install("thief", POLICY.format(kind="adaedl"))
        monkeypatch.setenv("STOPKIT_PLUGINS", "policies,engines")
        assert registry().distributions[registry().policy("adaedl")].startswith("stopkit ")

    def test_an_unknown_name_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STOPKIT_PLUGINS", "policies,engine")
        with pytest.raises(stopkit.InputError, match=r"no plug-in is called 'engine'\. Did you mean 'engines'\?"):
            registry()
