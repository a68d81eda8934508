"""Rules and dashboards against a real Prometheus that asks real exporters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from metric_scrapes import PROCESSES, scrape, served_by_all
from prometheus_server import PrometheusServer, promtool
from waiting import eventually

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.M)


def expressions(dashboard: Path) -> dict[str, list[str]]:
    """What the panels of a dashboard ask, by title, with its variables replaced."""
    board = json.loads(dashboard.read_text())
    found: dict[str, list[str]] = {}
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$model", "credit").replace("$__rate_interval", "1m")
            found.setdefault(panel["title"], []).append(text)
    return found


def named(expression: str) -> set[str]:
    """Metrics that an expression names; of a histogram, the series."""
    return set(re.findall(r"\bredistill[a-z0-9_:]+", expression))


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, prometheus_tools: None
) -> Iterator[PrometheusServer]:
    folder = tmp_path_factory.mktemp("prometheus")
    with served_by_all(folder) as urls:
        targets = {f"redistill-{p}": u.split("/")[2] for p, u in urls.items()}
        server = PrometheusServer(folder, targets, RULES)
        try:
            server.start()
            up = 'sum(count_over_time(up{job=~"redistill-.*"}[1h]) > 4)'
            eventually(lambda: server.query(up), "every process was asked some times")
            eventually(
                lambda: (
                    {f"redistill-{p}" for p in PROCESSES}
                    == {x["metric"]["job"] for x in server.query("up == 1")}
                ),
                "every process answers",
            )
            yield server
        finally:
            server.stop()


def test_rules_are_evaluated_without_error_and_name_only_what_there_is(
    prometheus: PrometheusServer,
) -> None:
    def rules() -> list[Any]:
        return [r for group in prometheus.ask("rules")["groups"] for r in group["rules"]]

    eventually(lambda: all(r["health"] != "unknown" for r in rules()), "all were evaluated")
    assert {r["name"]: r.get("lastError") for r in rules() if r["health"] != "ok"} == {}
    assert {r["name"] for r in rules() if r["type"] == "alerting"} == set(ALERTS)
    names = prometheus.names()
    unknown = {r["name"]: named(r["query"]) - names for r in rules()}
    assert {rule: missing for rule, missing in unknown.items() if missing} == {}
    recorded = {r["name"] for r in rules() if r["type"] == "recording"}
    eventually(lambda: recorded <= prometheus.names(), "all recording rules have recorded")


def test_what_is_amiss_raises_its_alert_and_nothing_else_does(
    prometheus: PrometheusServer,
) -> None:
    raised = 'ALERTS{alertname=~"Redistill.*"}'  # pending ones too
    eventually(lambda: prometheus.query(raised), "the watchdog fires")
    assert {x["metric"]["alertname"] for x in prometheus.query(raised)} == {
        "RedistillWatchdog",
        "RedistillIncidentWaits",  # one that awaits a person
        "RedistillOutboxStands",  # what its finding announced, long ago
    }


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda p: p.stem)
def test_every_panel_shows_something(prometheus: PrometheusServer, dashboard: Path) -> None:
    asked = expressions(dashboard)
    assert len(asked) > 5
    for title, texts in asked.items():
        for text in texts:
            assert named(text) <= prometheus.names(), title
            eventually(
                lambda text=text: prometheus.query(text), f"{title}: {text} yields something"
            )


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda p: p.stem)
def test_variables_of_a_dashboard_are_labels_that_there_are(
    prometheus: PrometheusServer, dashboard: Path
) -> None:
    for variable in json.loads(dashboard.read_text())["templating"]["list"]:
        if variable["type"] != "query":
            continue
        metric, label = re.fullmatch(
            r"label_values\((\w+), (\w+)\)", variable["definition"]
        ).groups()  # type: ignore[union-attr]
        assert prometheus.ask(f"label/{label}/values", **{"match[]": metric}) == ["credit"]


def test_each_alert_is_shown_to_fire_and_to_stay_quiet(prometheus_tools: None) -> None:
    done = promtool("test", "rules", str(RULES.with_name("rules_test.yml")))
    assert done.returncode == 0, done.stdout + done.stderr
    cases = set(
        re.findall(r"^  - name: (.+)$", RULES.with_name("rules_test.yml").read_text(), re.M)
    )
    assert cases == {f"{a} fires" for a in ALERTS} | {
        f"{a} stays quiet" for a in ALERTS if a != "RedistillWatchdog"
    }


def test_example_of_a_configuration_is_one(prometheus_tools: None) -> None:
    done = promtool("check", "config", str(RULES.with_name("prometheus.yml")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_its_line_in_the_runbook() -> None:
    runbook = (DEPLOY / "RUNBOOK.md").read_text().partition("## Alerts of Prometheus")[2]
    assert re.findall(r"^\| `(Redistill\w+)` \|", runbook, re.M) == ALERTS
    pointed = re.findall(r'runbook: "deploy/RUNBOOK.md, Alerts of Prometheus: (\w+)"', RULES.read_text())  # fmt: skip
    assert pointed == ALERTS


def test_names_are_as_prometheus_would_have_them(prometheus_tools: None, tmp_path: Path) -> None:
    with served_by_all(tmp_path) as urls:
        said = {
            p: promtool("check", "metrics", given=scrape(url)).stderr for p, url in urls.items()
        }
    told = {line.split()[0] for text in said.values() for line in text.splitlines() if line}
    assert {name for name in told if not name.endswith("_created")} == set()
