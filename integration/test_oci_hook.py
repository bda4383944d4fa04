# SPDX-License-Identifier: MIT
"""`dragoman hook`, as container runtimes and Podman run it, and with their state in hand."""

import json
import pathlib
import socket
import time

import pytest

from lab.agent import Agent
from lab.bad_server import SilentListener, refusing_address
from lab.command import PROGRAM
from lab.nft import slots, tables
from lab.podman import Podman
from lab.processes import Process
from lab.processes import run as command
from lab.runtimes import Runtime, bundle, hook
from lab.traffic import serve
from lab.waiting import wait_until

_CONFIGURATION = pathlib.Path(__file__).parents[1] / "contrib/oci-hook/dragoman.json"
_WEB = "BACKEND_WEB=web;80"
_LEADS_TO_WEB = [("127.0.0.1:80/tcp", "10.77.0.1:7000")]
# Connects at once; its exit status says whether it could.
_CLIENT = ("nc", "127.0.0.1", "80", "-e", "true")
_REFUSED = "nc: can't connect to remote host (127.0.0.1): Connection refused"


def rules(namespace):
    return [(slot.listen, slot.endpoint) for slot in slots(namespace)]


@pytest.fixture
def web(etcd, hosts):
    """A service that answers."""
    serve(hosts, "10.77.0.1:7000/tcp")
    etcd.endpoint("/services/web/0", "10.77.0.1", "7000")
    return etcd


# Run by a runtime

@pytest.fixture(params=["runc", "crun"])
def runtime(request, tmp_path):
    return Runtime(request.param, tmp_path)


def test_first_connection_of_a_process_reaches_its_endpoint(runtime, container, web, dragoman):
    """Each time, and without the hook never."""
    def connects(*hooks):
        done = runtime.run(container, _CLIENT, env=[_WEB], hooks=hooks)
        dragoman.flush(container)
        return done.stderr.strip() if done.returncode else "connected"

    assert connects() == _REFUSED
    assert [connects(hook("--registry", web.url)) for _ in range(20)] == ["connected"] * 20
    assert connects() == _REFUSED


def test_container_starts_without_a_registry_unless_one_is_required(runtime, container):
    registry = refusing_address()
    done = runtime.run(container, ("true",), env=[_WEB],
                       hooks=[hook("--registry", f"etcd://{registry}")])
    assert done.returncode == 0, done
    done = runtime.run(container, ("true",), env=[_WEB],
                       hooks=[hook("--registry", f"etcd://{registry}", "--required")])
    assert done.returncode != 0 and "hook" in done.stderr, done
    assert "inet dragoman" not in tables(container)


# With a state in hand

class Created:
    """A container that is made, and whose process has not started."""

    def __init__(self, dragoman, process, folder):
        self._dragoman, self._folder, self.pid = dragoman, folder, process.pid

    def hook(self, *arguments, env=(_WEB,), annotations=None, state=None, config="/dev/null"):
        where = bundle(self._folder / "bundle", self._folder, env=env)
        if state is None:
            state = json.dumps({"ociVersion": "1.0.2", "id": "c1", "status": "creating",
                                "pid": self.pid, "bundle": str(where),
                                "annotations": annotations or {}})
        return self._dragoman("hook", "--config", config, *arguments, input=state)


@pytest.fixture
def created(dragoman, container, tmp_path):
    process = container.start("cat")
    path = pathlib.Path(f"/proc/{process.pid}/ns/net")
    wait_until(lambda: path.stat().st_ino == container.inode, what="a process in the namespace")
    return Created(dragoman, process, tmp_path)


def test_hook_with_nothing_to_do_says_nothing_and_asks_nobody(created, container, dragoman,
                                                              tmp_path):
    with SilentListener() as registry, Process("cat") as on_the_host:
        where = ("--registry", f"etcd://{registry.address}", "--required")
        began = time.monotonic()
        for done in (created.hook(*where, env=["HOME=/", "BACKEND_URL=https://example.org"]),
                     created.hook(*where, annotations={"dragoman.enable": "false"}),
                     Created(dragoman, on_the_host, tmp_path).hook(*where)):
            assert (done.code, done.stdout, done.stderr) == (0, "", ""), done
        assert time.monotonic() - began < 3
    assert "inet dragoman" not in tables(container)


def test_hook_gives_up_a_registry_that_hangs_in_its_own_time(created, container):
    with SilentListener() as registry:
        where = ("--registry", f"etcd://{registry.address}", "--timeout", "0.5")
        began = time.monotonic()
        done = created.hook(*where)
        assert time.monotonic() - began < 3
        assert done.code == 0 and done.errors[-1] == (
            "container c1 starts all the same; an agent that runs here makes it good when it can")
        done = created.hook(*where, "--required")
        assert done.code == 1 and done.errors[-1] == (
            "container c1 is kept from starting (--required)")
    assert "inet dragoman" not in tables(container)


def test_what_stands_of_others_stays(created, container, web, dragoman):
    """The one that was there first asked for another port."""
    web.endpoint("/services/db/0", "10.77.0.2", "7000")
    assert dragoman.reconcile(container, "DB=db;3306").code == 0
    assert created.hook("--required").code == 0
    assert rules(container) == [("127.0.0.1:3306/tcp", "10.77.0.2:7000"), *_LEADS_TO_WEB]
    assert dragoman.plan(container, "DB=db;3306", "WEB=web;80").code == 0
    web.endpoint("/services/web/0", "10.77.0.3", "7000")
    assert created.hook("--required").code == 0
    assert rules(container) == [("127.0.0.1:3306/tcp", "10.77.0.2:7000"),
                                ("127.0.0.1:80/tcp", "10.77.0.3:7000")]


def test_what_is_wrong_with_one_descriptor_does_not_stop_the_others(created, container, web):
    done = created.hook(env=[_WEB, "BACKEND_BAD=web;99999"])
    assert done.code == 0 and rules(container) == _LEADS_TO_WEB
    assert done.errors[0].startswith("BACKEND_BAD: container c1: column 5: "), done
    assert created.hook("--required", env=[_WEB, "BACKEND_BAD=web;99999"]).code == 1


@pytest.mark.parametrize("state,reason", [
    ("", "no state on standard input: a container runtime is to run this"),
    ("{", "the state on standard input is no JSON: "),
    ("[]", "the state on standard input is no JSON object"),
    ("{}", 'the state has no "id"'),
    ('{"id": "a\\u001b"}', 'container a\\x1b: the state has no "bundle" that is a path'),
    ('{"id": "a", "bundle": "/none"}',
     'container a: the state has no "pid": this is a hook for the stage createRuntime'),
    ('{"id": "a", "bundle": "/none", "pid": 1}',
     "container a: /none/config.json: No such file or directory"),
])
def test_state_that_is_none_is_told(created, state, reason):
    done = created.hook("--required", state=state)
    assert done.code == 1 and done.errors[0].startswith(reason), done
    assert created.hook(state=state).code == 0


def test_hook_takes_the_settings_of_the_agent(created, container, web, dragoman, tmp_path):
    settings = tmp_path / "settings"

    def with_settings(*lines):
        settings.write_text("\n".join(lines) + "\n")
        del dragoman.environment["DRAGOMAN_REGISTRY"]
        done = created.hook("--required", config=settings)
        dragoman.environment["DRAGOMAN_REGISTRY"] = web.url
        return done

    assert with_settings("# of the agent", f"DRAGOMAN_REGISTRY={web.url}",
                         "DRAGOMAN_OPTIONS=--metrics 127.0.0.1:1 --allow-endpoints=10.77.0.2 "
                         "--flush-on-exit -b X=y").code == 0
    assert rules(container) == []
    assert with_settings(f"DRAGOMAN_REGISTRY='etcd://{refusing_address()}'",
                         f'DRAGOMAN_OPTIONS="--registry {web.url} --timeout 0.001"').code == 0
    assert rules(container) == _LEADS_TO_WEB
    done = with_settings(f"DRAGOMAN_REGISTRY={web.url}", "DRAGOMAN_BALANCE=both")
    assert done.code == 1 and done.errors[0] == (
        f"container c1: {settings}: DRAGOMAN_BALANCE: 'both' is neither random nor nth")


def test_hook_tells_the_system_log(created, dragoman, tmp_path):
    """A runtime has no ear for a hook that did not fail."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(10)
        bundle(tmp_path / "bundle", tmp_path, env=[_WEB])
        state = json.dumps({"id": "c1", "pid": created.pid, "bundle": str(tmp_path / "bundle")})
        inside = (f"mount -t tmpfs dev /dev && touch /dev/null && ln -s {tmp_path}/log /dev/log && "
                  f"exec {PROGRAM} hook --registry etcd://{refusing_address()}")
        done = command("unshare", "--mount", "sh", "-c", inside, input=state)
        said = [log.recv(4096).decode() for _ in done.stderr.splitlines()]
    assert len(said) == 2 and said[0].startswith("<27>") and said[1].startswith("<28>"), said
    assert "dragoman[" in said[1] and "container c1 starts all the same" in said[1]


# Run by Podman, beside an agent

def _install(folder, *arguments):
    """The hook as contrib/oci-hook has it, but of this program, and with its own registry."""
    document = json.loads(_CONFIGURATION.read_text())
    document["hook"]["path"] = PROGRAM
    document["hook"]["args"] += ["--config", "/dev/null", "--required", *map(str, arguments)]
    (folder / "dragoman.json").write_text(json.dumps(document))


def _backends(agent, container):
    """States, and each endpoint's connections."""
    namespace = agent.namespace(container.inode) or {"backends": []}
    return [(backend["state"], [each["connections"] for each in backend["endpoints"]])
            for backend in namespace["backends"]]


def test_agent_takes_over_what_the_hook_has_made(container, web, tmp_path):
    """Both agree: nothing is written again, not by either of them."""
    with (Podman("--hooks-dir", str(tmp_path)) as podman,
          Agent("--docker", podman.url, registry=web.url) as agent):
        _install(tmp_path, "--registry", web.url, "--socket", agent.socket)
        one = podman.create("one", env=[_WEB], network=f"ns:{container.path}",
                            command=("sh", "-c", f"{' '.join(_CLIENT)} || exit 1; sleep 86400"))
        one.start()
        wait_until(lambda: _backends(agent, container) == [("ready", [1])],
                   what="the agent to know of the first connection")
        assert one.inspect()["State"]["Running"]
        assert agent.metric("commits_total") == agent.metric("drift_repairs_total") == 0
        # A second one asks for another port, of a namespace that the agent keeps.
        web.endpoint("/services/db/0", "10.77.0.2", "7000")
        podman.run("two", env=["BACKEND_DB=db;3306"], network=f"container:{one.id}")
        wait_until(lambda: rules(container) == [("127.0.0.1:3306/tcp", "10.77.0.2:7000"),
                                                *_LEADS_TO_WEB], what="its rules")
        assert agent.metric("drift_repairs_total") == 0
