"""A pytest plugin that sums CPU seconds by file: `python -m pytest -p tests.helpers.cpu_times -m "not slow"`.

Processes that a test starts count once they are waited for. `pytest --durations` states the clock, which other
processes slow down. `--cpu-times=PATH` also writes every test's seconds.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_SHOWN = 25
_IMPORT = "import"


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, its threads and the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class CpuTimes:
    """The seconds of each phase of each test, carried to the main process in the tests' reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._last = cpu_seconds()
        self._imports: dict[str, float] = {}
        self._phases: dict[tuple[str, str], float] = defaultdict(float)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, None]:
        before = cpu_seconds()
        yield
        if isinstance(collector, pytest.Module):
            self._imports[collector.nodeid] = cpu_seconds() - before

    def pytest_runtest_logstart(self) -> None:
        self._last = cpu_seconds()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, None]:
        outcome = yield
        report, now = outcome.get_result(), cpu_seconds()
        report.user_properties = [*report.user_properties, ("cpu", now - self._last)]
        self._last = now

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._phases[report.nodeid, report.when or ""] += dict(report.user_properties).get("cpu", 0.0)

    def pytest_sessionfinish(self) -> None:
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["cpu_imports"] = self._imports

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for name, seconds in getattr(node, "workeroutput", {}).get("cpu_imports", {}).items():
            self._imports[name] = self._imports.get(name, 0.0) + seconds

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        files: dict[str, float] = defaultdict(float)
        for (name, _), seconds in self._phases.items():
            files[name.partition("::")[0]] += seconds
        phases = {f"{name} {phase}": seconds for (name, phase), seconds in self._phases.items()}
        imports = {f"{name} {_IMPORT}": seconds for name, seconds in self._imports.items()}
        terminalreporter.section(f"CPU seconds: {cpu_seconds():.1f} in all, {sum(imports.values()):.1f} of imports")
        for table in (files, imports, phases):
            for name, seconds in sorted(table.items(), key=lambda pair: -pair[1])[:_SHOWN]:
                terminalreporter.write_line(f"{seconds:8.2f} {name}")
            terminalreporter.write_line("")
        path = self._config.getoption("--cpu-times")
        if path:
            found = {"imports": self._imports, "phases": phases}
            Path(path).write_text(json.dumps(found, indent=0), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu-times", metavar="PATH", help="write the CPU seconds of every test into a JSON file")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CpuTimes(config), "cpu-times")
