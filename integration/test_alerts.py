# SPDX-License-Identifier: MIT
"""What contrib/prometheus asks for, put to agents that are well, and to one that is not."""

import operator
import pathlib
import re
import sys

from lab.agent import Agent
from lab.bad_server import refusing_address
from lab.engine import Engine
from lab.nft import load
from lab.processes import run as command
from lab.waiting import wait_until

_ROOT = pathlib.Path(__file__).parents[1]
_RULES = (_ROOT / "contrib/prometheus/dragoman.rules.yml").read_text()
_TERM = re.compile(r"(\w+)(?:\{([^}]*)\})? (==|>) (\d+)")
_OPERATORS = {"==": operator.eq, ">": operator.gt}


def _holds(term, samples):
    """Whether a sample is so: `name{label="value"} > 0`."""
    name, labels, comparison, number = _TERM.fullmatch(term).groups()
    key = f"{name}{{{labels}}}" if labels else name
    return key in samples and _OPERATORS[comparison](samples[key], float(number))


def raised(samples):
    """Alerts whose expressions need one look, those terms joined by `and`; without their time."""
    found = set()
    for name, expression in re.findall(r"- alert: (\w+)\n +expr: (.*)\n", _RULES):
        terms = expression.split(" and ")
        if all(_TERM.fullmatch(term) for term in terms):
            found |= {name} if all(_holds(term, samples) for term in terms) else set()
    return found


def test_agent_has_just_the_metrics_that_the_check_knows(etcd, container):
    """Names and labels, which alerts, dashboard and manual are held against."""
    known = command(sys.executable, "-B", _ROOT / "contrib/check-metrics", "--list", _ROOT)
    with (Engine() as engine,
          Agent("--docker", engine.url, "--netns", container, "-b", "WEB=web;80",
                registry=etcd.url) as agent):
        samples = agent.metrics()
    found = {re.sub(r'="(?:[^"\\]|\\.)*"', "", sample) for sample in samples}
    assert found == set(known.stdout.split())
    assert 2 ** 20 < samples["process_resident_memory_bytes"] < 2 ** 28
    assert samples['dragoman_backends{state="empty"}'] == 1


def test_alerts_are_raised_by_an_agent_that_is_ill_and_not_by_one_that_is_well(etcd, namespaces):
    etcd.endpoint("/services/web/0", "10.77.0.1", 7000)
    well, ill = namespaces.new("well"), namespaces.new("ill")
    with Agent("--netns", well, "-b", "WEB=web;80", registry=etcd.url) as agent:
        wait_until(lambda: agent.metric('backends{state="ready"}') == 1, what="it to be well")
        assert raised(agent.metrics()) == set()
    etcd.endpoint("/services/bad/0", "127.0.0.1", 7000)
    with Agent("--netns", ill, "-b", "NONE=none;80", "-b", "BAD=bad;81",
               registry=etcd.url) as agent:
        wait_until(lambda: raised(agent.metrics()) == {"DragomanServiceEmpty",
                                                       "DragomanDocumentsUnusable"},
                   what="the alerts of services")
        etcd.delete("/services/bad/0")
        etcd.endpoint("/services/none/0", "10.77.0.1", 7000)
        etcd.endpoint("/services/bad/1", "10.77.0.1", 7000)
        wait_until(lambda: raised(agent.metrics()) == set(), what="them to be over")
        repairs = agent.metric("drift_repairs_total")
        load(ill, "flush ruleset\n")
        wait_until(lambda: agent.metric("drift_repairs_total") > repairs, what="a repair")
    with Agent("--netns", ill, "-b", "WEB=web;80", registry=f"etcd://{refusing_address()}",
               ready=False) as agent:
        wait_until(lambda: agent.socket.exists(), what="its socket")
        wait_until(lambda: raised(agent.metrics()) == {
            "DragomanNotReady", "DragomanRegistryLost", "DragomanServicesHeld"},
            what="the alerts of a registry that is not there")
