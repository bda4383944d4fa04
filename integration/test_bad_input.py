# SPDX-License-Identifier: MIT
"""Bad input: a clear message that names what and where, and nothing lost.

From environments, files, registries and flags. Every message is one line,
"dragoman: what: why"; what is good beside the bad is programmed; a read that
failed changes nothing; --json is one document whatever happens.
"""

import json
import os
import re
import shutil
import subprocess
import threading
import time
import types

import pytest

from lab import nft
from lab.bad_server import BadServer, answer, drip, flood, refusing_address, silence, then_close
from lab.command import PROGRAM, Dragoman
from lab.namespaces import Namespaces
from lab.processes import run

MIB = 1 << 20
# AddressSanitizer keeps what was freed for a while.
MEMORY_MAX = (600 if "ASAN_OPTIONS" in os.environ else 200) * MIB


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A namespace, and a registry in a file that holds one service."""
    folder = tmp_path_factory.mktemp("bad-input")
    registry = folder / "registry.json"
    registry.write_text(json.dumps({"/services/web/a": "10.77.0.1:8080",
                                    "/services/web/b": "10.77.0.2:8080"}))
    with Namespaces() as namespaces:
        yield types.SimpleNamespace(container=namespaces.new("input"), namespaces=namespaces,
                                    dragoman=Dragoman(f"file://{registry}"))


@pytest.fixture
def container(scene):
    yield scene.container
    assert scene.dragoman.flush(scene.container).code == 0


@pytest.fixture
def dragoman(scene):
    return scene.dragoman


@pytest.fixture
def env_file(tmp_path):
    def write(content):
        file = tmp_path / "env"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file
    return write


def assert_clean(done):
    """One line for each message, nothing raw, one JSON document, the same messages in it."""
    for text in (done.stdout, done.stderr):
        assert not re.search(r"[^\n -~\u00a0-\U0010ffff]", text), repr(text[:2000])
    assert all(line.startswith("dragoman: ") for line in done.stderr.splitlines()), done
    told = [f"{entry['variable']}: {entry['message']}" if entry.get("variable")
            else entry["message"] for entry in done.json["errors"]]
    assert [line for line in done.errors if line in told] == told, done
    assert (done.code == 1) == bool(told), done


def listens(namespace):
    return {slot.listen for slot in nft.slots(namespace)}


# Descriptors

# name: (value, column or None, what the reason says)
INVALID = {
    "NO_PORT": (b"web;", 4, "no port"),
    "NO_SERVICE": (b";80", None, "no service"),
    "PORT_0": (b"web;0", 5, "1..65535"),
    "PORT_BIG": (b"web;65536", 5, "1..65535"),
    "PORT_HUGE": (b"web;" + b"9" * 100, 5, "1..65535"),
    "PORT_TEXT": (b"web;http", 5, "not a digit"),
    "PORT_SIGN": (b"web;+80", 5, "not a digit"),
    "PORT_HEX": (b"web;0x50", 6, "not a digit"),
    "PROTO": (b"web;80/sctp", 8, "not tcp or udp"),
    "PROTO_EMPTY": (b"web;80/", 7, "no protocol"),
    "TWO": (b"web;80;81", 7, "second ';'"),
    "PERCENT": (b"mysql.master.%p;3306", 14, "'%'"),
    "SLASH": (b"a/b;80", 2, "'/'"),
    "TOP": (b"/;80", 1, "no service"),
    "DOUBLE": (b"/a//b;80", None, "empty segment"),
    "DOTS": (b"/a/../b;80", None, "'..'"),
    "DOT": (b"/a/./b;80", None, "'.'"),
    "OPEN": (b"web[prod;80", 4, "without ']'"),
    "CLOSE": (b"web];80", 4, "']'"),
    "BEHIND": (b"web[a]b;80", 7, "after ']'"),
    "TAG_EMPTY": (b"web[a,,b];80", None, "empty tag"),
    "QUOTED": (b'"web;80"', 1, "quotes"),
    "BLANK": (b"we b;80", 3, "blank"),
    "LONG": (b"web;80" + b" " * 5000, None, "at most 4096"),
    "MIB": (b"web;" + b"8" * MIB, None, "at most 4096"),
    "NUL": (b"we\0b;80", 3, "NUL"),
    "ESCAPE": (b"we\x1b[31mb;80", 3, "\\x1b"),
    "BELL": (b"web;\x0780", 5, "\\x07"),
    "DELETE": (b"web\x7f;80", 4, "\\x7f"),
    "UTF8": ("wéb;80".encode(), 2, "'é'"),
    "NOT_UTF8": (b"we\xff\xfeb;80", 3, "\\xff"),
    "OVERLONG": (b"we\xc0\xafb;80", 3, "\\xc0"),
    "SURROGATE": (b"we\xed\xa0\x80b;80", 3, "\\xed"),
    "C1": ("we\u009bb;80".encode(), 3, "\\x9b"),
    "BIDI": ("we\u202eb;80".encode(), 3, ""),
}


def reported(done):
    return {entry["variable"].removeprefix("BACKEND_"): entry["message"]
            for entry in done.json["errors"]}


def test_bad_input_invalid_descriptors_do_not_stop_the_others(dragoman, container, env_file):
    lines = [b"BACKEND_%s=%s" % (name.encode(), value) for name, (value, _, _) in INVALID.items()]
    file = env_file(b"\n".join([b"BACKEND_A=web;1", *lines, b"BACKEND_Z=web;2"]))
    done = dragoman("reconcile", "--json", "--netns", container, "--env-file", file)
    assert_clean(done)
    assert listens(container) == {"127.0.0.1:1/tcp", "127.0.0.1:2/tcp"}
    messages = reported(done)
    assert messages.keys() == INVALID.keys()
    wrong = {name: messages[name] for name, (_, column, said) in INVALID.items()
             if said not in messages[name]
             or (column and not messages[name].startswith(f"column {column}: "))}
    assert wrong == {}
    assert max(map(len, done.errors)) < 400


def test_bad_input_invalid_descriptors_with_b(dragoman, container):
    values = {name: value for name, (value, _, _) in INVALID.items()
              if len(value) < 100000 and b"\0" not in value}
    words = [word for name, value in values.items()
             for word in ("-b", f"{name}=".encode() + value)]
    command = [PROGRAM, "reconcile", "--json", "--netns", str(container), "-b", "A=web;1", *words]
    done = subprocess.run(command, env=dragoman.environment, capture_output=True, timeout=30)
    result = types.SimpleNamespace(
        code=done.returncode, stdout=done.stdout.decode(), stderr=done.stderr.decode(),
        json=json.loads(done.stdout),
        errors=[line.removeprefix("dragoman: ") for line in done.stderr.decode().splitlines()])
    assert_clean(result)
    assert reported(result).keys() == values.keys()
    assert listens(container) == {"127.0.0.1:1/tcp"}


def test_bad_input_invalid_descriptors_from_the_environment(dragoman, container):
    environment = {**{key.encode(): value.encode() for key, value in dragoman.environment.items()},
                   **{b"BACKEND_" + name.encode(): value for name, (value, _, _) in INVALID.items()
                      if b"\0" not in value and len(value) < 100000},
                   b"BACKEND_GOOD": b"web;1", b"BACKEND_URL": b"https://example.org",
                   b"BACKEND_\x1b[31mRED": b"web;0"}
    done = subprocess.run([PROGRAM, "reconcile", "--json", "--netns", str(container)],
                          env=environment, capture_output=True, timeout=30)
    assert done.returncode == 1
    assert b"\x1b" not in done.stdout + done.stderr
    variables = {entry["variable"] for entry in json.loads(done.stdout)["errors"]}
    assert "BACKEND_URL" not in variables and "BACKEND_GOOD" not in variables
    assert "BACKEND_\\x1b[31mRED" in variables
    assert listens(container) == {"127.0.0.1:1/tcp"}


@pytest.mark.parametrize("name", INVALID)
def test_bad_input_invalid_descriptor_of_resolve(dragoman, name):
    value = INVALID[name][0]
    if b"\0" in value or len(value) > 100000:
        value = value.replace(b"\0", b"\x01")[:100000]
    done = subprocess.run([PROGRAM, "resolve", "--json", value], env=dragoman.environment,
                          capture_output=True, timeout=30)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and b"\x1b" not in done.stderr
    assert len(done.stderr) < 500
    assert len(json.loads(done.stdout)["errors"]) == 1


def test_bad_input_good_descriptors_of_all_kinds(dragoman, container, env_file):
    """What looks odd and is none the less right."""
    file = env_file(b"\xef\xbb\xbf# a comment\r\n\r\nBACKEND_A= web ; 1 / TCP \r\n"
                    b"  BACKEND_B=/services/web/;2\nBACKEND_C=web[];3\nBACKEND_D=web;0004\n"
                    b"OTHER=web;5\nPATH=/bin;6\n#BACKEND_E=web;7\nBACKEND_URL=https://example.org\n"
                    b"BACKEND_F=web;8/udp")
    done = dragoman("reconcile", "--json", "--netns", container, "--env-file", file)
    assert done.code == 0, done
    assert listens(container) == {f"127.0.0.1:{port}/{proto}" for port, proto in (
        (1, "tcp"), (2, "tcp"), (3, "tcp"), (4, "tcp"), (8, "udp"))}


def test_bad_input_ten_thousand_good_descriptors(dragoman, container, env_file):
    file = env_file("".join(f"BACKEND_{port}=web;{port}\n" for port in range(1, 10001)))
    done = dragoman("reconcile", "--json", "--netns", container, "--env-file", file)
    assert done.code == 0 and done.stderr == "", done.stderr
    assert len(nft.slots(container)) == 20000
    done = dragoman("plan", "--json", "--netns", container, "--env-file", file)
    assert done.code == 0 and done.json["in_sync"]


def test_bad_input_ten_thousand_bad_descriptors(dragoman, container, env_file):
    bad = "".join(f"BACKEND_{number}=web;{number}x\n" for number in range(10000))
    done = dragoman("reconcile", "--json", "--netns", container, "--env-file",
                    env_file(bad + "BACKEND_GOOD=web;80"))
    assert done.code == 1
    assert len(done.errors) == 10000 == len(done.json["errors"])
    assert listens(container) == {"127.0.0.1:80/tcp"}


def test_bad_input_conflicts_and_merges(dragoman, container):
    done = dragoman.reconcile(
        container, "C=web;80", "B=other;80", "A=web;80", "D=/services/web;80/TCP", "E=web[x];80",
        "F=other;80/udp", "BACKEND_G=web;81", "G=other;82", "H=web[b,a];83", "I=web[ a,b,a ];83")
    assert_clean(done)
    messages = reported(done)
    assert messages.keys() == {"B", "E", "G"}
    assert "BACKEND_A" in messages["B"] and messages["B"].startswith("conflict: ")
    assert "BACKEND_A" in messages["E"]
    assert "twice" in messages["G"]
    assert listens(container) == {"127.0.0.1:80/tcp", "127.0.0.1:81/tcp"}


def test_bad_input_names_of_variables(dragoman, container, env_file):
    long = "N" * 300
    done = dragoman("reconcile", "--json", "--netns", container, "-b", f"{long}=web;80",
                    "-b", "A\x1b[1mB=web;82", "-b", "é=web;83")
    assert "\x1b" not in done.stdout + done.stderr
    assert done.code == 1 and len(done.json["errors"]) == 1, done
    assert listens(container) == {"127.0.0.1:82/tcp", "127.0.0.1:83/tcp"}
    for wrong in ("=web;80", "web;80", ""):
        done = dragoman("plan", "--netns", container, "-b", wrong)
        assert done.code == 2 and len(done.errors) == 1, done


@pytest.fixture(scope="module")
def as_nobody(tmp_path_factory):
    """A copy of the program that nobody can run, and the words to run it so."""
    folder = tmp_path_factory.mktemp("public")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    program = shutil.copy(PROGRAM, folder)
    os.chmod(program, 0o755)
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program]


def bad_files(folder):
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "empty").touch()
    os.truncate(os.open(folder / "sparse", os.O_CREAT | os.O_WRONLY), 100 * MIB)
    if not (folder / "fifo").exists():
        os.mkfifo(folder / "fifo")
    return folder


@pytest.mark.parametrize(("name", "said"), [
    ("missing", "No such file"), ("folder", "directory"), ("sparse", "more than 8 MiB"),
    ("/dev/zero", "more than 8 MiB"), ("missing/below", "No such file"),
    ("\x1b[31mred", "\\x1b[31mred")])
def test_bad_input_env_file_is_named(dragoman, container, tmp_path, name, said):
    path = bad_files(tmp_path) / name
    done = dragoman("reconcile", "--json", "--netns", container, "--env-file", path,
                    "-b", "GOOD=web;80", timeout=20)
    assert_clean(done)
    assert done.code == 1 and len(done.errors) == 1, done
    assert "--env-file" in done.errors[0] and said in done.errors[0]
    assert nft.tables(container) == set()


def test_bad_input_env_file_that_only_others_may_read(dragoman, as_nobody, container, env_file):
    file = env_file("BACKEND_A=web;80")
    file.chmod(0o600)
    # All that a plan needs, but for the right to read what is root's.
    allowed = "+net_admin,+sys_admin"
    done = run(*as_nobody[:-1], f"--inh-caps={allowed}", f"--ambient-caps={allowed}",
               as_nobody[-1], "plan", "--json", "--netns", container, "--env-file", file,
               check=False, env=dragoman.environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(file) in done.stderr and "Permission denied" in done.stderr
    assert len(json.loads(done.stdout)["errors"]) == 1


def test_bad_input_env_file_is_a_pipe(dragoman, container):
    done = dragoman("plan", "--json", "--netns", container, "--env-file", "/dev/stdin",
                    input="BACKEND_A=web;80\n")
    assert done.code == 3 and ("add", "127.0.0.1:80/tcp", "10.77.0.1:8080") in done.changes, done


# Registries

def nested(depth):
    inner = '{"key":"/services/web/x","value":"10.9.9.9:9"}'
    for _ in range(depth):
        inner = '{"key":"/services/web","dir":true,"nodes":[%s]}' % inner
    return '{"action":"get","node":%s}' % inner


def kv(**more):
    return json.dumps({"header": {"revision": "5"}, "succeeded": True, "responses": [
        {"response_range": {"header": {"revision": "5"}, **more}}] * 64})


INDEX = ("X-Etcd-Index: 7",)

BAD_ANSWERS = {
    "404-html": answer("<html>Not Found</html>", "404 Not Found"),
    "404-json": answer('{"errorCode": 1, "message": "\x1b[31m"}', "404 Not Found"),
    "404-empty": answer("", "404 Not Found"),
    "500": answer("<html>oops</html>", "500 Internal Server Error"),
    "500-json": answer('{"error":"etcdserver: \\u001b[31mno leader","code":14}',
                       "500 Internal Server Error"),
    "503-empty": answer("", "503 Service Unavailable"),
    "401": answer('{"message":"Insufficient credentials"}', "401 Unauthorized"),
    "302": answer("", "302 Found", ["Location: /elsewhere"]),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "status-999": answer("{}", "999 What"),
    "html": answer("<html><body>Welcome to nginx!</body></html>"),
    "empty": answer(""),
    "half-json": answer('{"header": {"revision": "5"}, "responses": [{"response_ra'),
    "half-node": answer('{"action":"get","node":{"key":"/services/web","dir":true,"nod', "200 OK",
                        INDEX),
    "json-and-more": answer("{} {}"),
    "null": answer("null"), "number": answer("1"), "string": answer('"x"'), "array": answer("[]"),
    "object": answer("{}"), "object-index": answer("{}", "200 OK", INDEX),
    "responses-object": answer('{"header": {"revision": "5"}, "responses": {}}'),
    "responses-few": answer('{"header": {"revision": "5"}, "responses": []}'),
    "responses-null": answer('{"header": {"revision": "5"}, "responses": [null, null, null]}'),
    "revision-text": answer('{"header": {"revision": "x"}, "responses": [{}]}'),
    "kvs-object": answer(kv(kvs={})), "kvs-null": answer(kv(kvs=[None])),
    "kvs-no-key": answer(kv(kvs=[{"value": "MTA="}])),
    "kvs-not-base64": answer(kv(kvs=[{"key": "!!!", "value": "MTA="}])),
    "kvs-of-others": answer(kv(kvs=[{"key": "L290aGVy", "value": "MTA="}])),
    "kvs-more": answer(kv(more=True, count="9")),
    "node-missing": answer('{"action":"get"}', "200 OK", INDEX),
    "node-null": answer('{"action":"get","node":null}', "200 OK", INDEX),
    "node-array": answer('{"action":"get","node":[]}', "200 OK", INDEX),
    "nodes-object": answer('{"node":{"key":"/services/web","dir":true,"nodes":{}}}', "200 OK",
                           INDEX),
    "node-of-others": answer('{"node":{"key":"/other","value":"10.9.9.9:9"}}', "200 OK", INDEX),
    "node-number": answer('{"node":{"key":"/services/web","value":5}}', "200 OK", INDEX),
    "node-no-index": answer('{"node":{"key":"/services/web","value":"10.9.9.9:9"}}'),
    "nested-deep": answer(nested(1000), "200 OK", INDEX),
    "json-deep": answer("[" * 100000),
    "not-utf8": answer(b'{"header": "\xff\xfe"}'),
    "not-http": b"\x00\x01\x02 SSH-2.0-OpenSSH\r\n\r\n",
    "http-0.9": then_close(b"hello\r\n"),
    "cut-off": then_close(answer('{"header": {"revision": "5"}', length=1000)),
    "chunk-cut-off": then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                b"100\r\n{"),
    "chunk-wrong": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n",
    "closed": then_close(b""),
    "headers-endless": lambda _: (b"X-More: %d\r\n" % n for n in range(1 << 24)),
    "head-too-long": answer("{}", "200 OK", ["X-Long: " + "x" * 2000000]),
    "status-escape": answer("{}", "500 \x1b[31mred\x1b[0m"),
    "body-escape": answer("\x1b[31mred\x1b[0m\n\n\x07", "400 Bad Request"),
}


@pytest.fixture(scope="module")
def standing(scene):
    """Rules stand; no failed read may change them."""
    namespace = scene.namespaces.new("standing")
    assert scene.dragoman.reconcile(namespace, "WEB=web;80").code == 0
    return namespace


def assert_read_failed(server_address, done, container, before):
    assert_clean(done)
    assert done.code == 1
    assert len(done.errors) == 1, done
    assert done.errors[0].startswith(("registry ", "BACKEND_WEB: /services/web: ")), done
    assert server_address in done.errors[0]
    assert done.json["changes"] == [] and done.json["in_sync"] is None
    assert nft.listing(container) == before


@pytest.mark.parametrize("scheme", ["etcd", "etcd2", "consul"])
@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_bad_input_answer_that_is_none_changes_nothing(standing, scheme, name):
    what, before = BAD_ANSWERS[name], nft.listing(standing)
    with BadServer(what if callable(what) else lambda _: what) as server:
        dragoman = Dragoman(f"{scheme}://{server.address}")
        done = dragoman("reconcile", "--json", "--timeout", 3, "--netns", standing,
                        "-b", "WEB=web;80", "-b", "NEW=new;81")
    assert server.requests
    assert_read_failed(server.address, done, standing, before)


@pytest.mark.parametrize("scheme", ["etcd", "etcd2", "consul"])
@pytest.mark.parametrize("behaviour", [silence, drip])
def test_bad_input_answer_that_never_ends_changes_nothing(standing, scheme, behaviour):
    before, start = nft.listing(standing), time.monotonic()
    with BadServer(behaviour) as server:
        done = Dragoman(f"{scheme}://{server.address}")(
            "reconcile", "--json", "--timeout", 1, "--netns", standing, "-b", "WEB=web;80")
        assert time.monotonic() - start < 4
    assert_read_failed(server.address, done, standing, before)


def measured(dragoman, *words):
    """Runs the program; (its Result, the most memory that it had, in bytes)."""
    command = [PROGRAM, *map(str, words)]
    process = subprocess.Popen(command, env=dragoman.environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    alarm = threading.Timer(30, process.kill)
    alarm.start()
    stdout, stderr = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    alarm.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    errors = [line.removeprefix("dragoman: ") for line in stderr.splitlines()]
    return types.SimpleNamespace(code=process.returncode, stdout=stdout, stderr=stderr,
                                 json=json.loads(stdout), errors=errors), usage.ru_maxrss * 1024


@pytest.mark.parametrize("scheme", ["etcd", "etcd2", "consul"])
@pytest.mark.parametrize("chunked", [False, True])
def test_bad_input_answer_of_100_mib_is_refused_in_little_memory(standing, scheme, chunked):
    before = nft.listing(standing)
    with BadServer(flood(100 * MIB, chunked)) as server:
        done, memory = measured(Dragoman(f"{scheme}://{server.address}"), "reconcile", "--json",
                                "--netns", standing, "-b", "WEB=web;80")
    assert_read_failed(server.address, done, standing, before)
    assert memory < MEMORY_MAX


@pytest.mark.parametrize("scheme", ["etcd", "etcd2"])
def test_bad_input_answer_of_very_many_values_is_refused_in_bounded_memory(standing, scheme):
    """Empty objects take 87 times their length, and what etcd says 22 times at most."""
    before, many = nft.listing(standing), b"{}," * (8 * MIB // 3)
    with BadServer(lambda _: answer(b'{"header": [' + many + b"0]}", "200 OK", INDEX)) as server:
        done, memory = measured(Dragoman(f"{scheme}://{server.address}"), "reconcile", "--json",
                                "--netns", standing, "-b", "WEB=web;80")
    assert_read_failed(server.address, done, standing, before)
    assert memory < 2 * MEMORY_MAX


def test_bad_input_host_that_refuses_changes_nothing(standing):
    before, address = nft.listing(standing), refusing_address()
    done = Dragoman(f"etcd://{address}").reconcile(standing, "WEB=web;80")
    assert_read_failed(address, done, standing, before)


def half_good(request):
    """An etcd v2 that fails for one key."""
    path = request.split()[1].partition("?")[0].removeprefix("/v2/keys")
    if path == "/services/broken":
        return answer("{", "200 OK", INDEX)
    return answer(json.dumps({"action": "get", "node": {
        "key": path, "dir": True,
        "nodes": [{"key": f"{path}/a", "value": "10.77.0.3:8080"}]}}), "200 OK", INDEX)


def test_bad_input_read_of_one_service_fails_the_others_are_programmed(dragoman, container):
    assert dragoman.reconcile(container, "KEPT=web;80").code == 0
    with BadServer(half_good) as server:
        done = Dragoman(f"etcd2://{server.address}").reconcile(
            container, "KEPT=broken;80", "GOOD=good;81", "NEW=/services/broken;82")
    assert_clean(done)
    assert reported(done).keys() == {"KEPT", "NEW"}
    assert all(server.address in message for message in reported(done).values())
    assert {(slot.listen, slot.endpoint) for slot in nft.slots(container)} == {
        ("127.0.0.1:80/tcp", "10.77.0.1:8080"), ("127.0.0.1:80/tcp", "10.77.0.2:8080"),
        ("127.0.0.1:81/tcp", "10.77.0.3:8080")}


@pytest.mark.parametrize(("name", "said"), [
    ("missing", "No such file"), ("folder", "directory"), ("empty", "not JSON"),
    ("sparse", ""), ("fifo", ""), ("/dev/zero", ""), ("missing/below", "No such file"),
    ("%1b[31mred", "\\x1b[31mred"),
])
def test_bad_input_file_registry_is_named(standing, tmp_path, name, said):
    path, before = bad_files(tmp_path) / name, nft.listing(standing)
    done, memory = measured(Dragoman(f"file://{path}"), "reconcile", "--json", "--timeout", 5,
                            "--netns", standing, "-b", "WEB=web;80")
    shown = str(path).replace("%1b", "\\x1b")
    assert_read_failed(shown, done, standing, before)
    assert said in done.errors[0]
    assert memory < 2 * MEMORY_MAX


@pytest.mark.parametrize(("content", "said"), [
    ("[]", "object"), ("1", ""), ("null", ""), ("{", "line 1"), ('{\n"/a": 1,\n}', "line 3"),
    ("{} x", "line 1"), ('{"/a": 1, "/a": 2}', "/a"), ('{"a": 1}', '"a"'), ('{"": 1}', '""'),
    ('{"/a//b": 1}', "segment"), ('{"/a/../b": 1}', "segment"), ('{"/a": 1, "/a/": 2}', "twice"),
    ('{"/\\u001b[31m//": 1}', "\\x1b"), (b'{"/a": "\xff"}', ""), ("\x1b[31m", "\\x1b"),
    ("[" * 100000, ""), ('{"a":' * 5000, ""),
])
def test_bad_input_file_registry_that_is_none_is_named(standing, tmp_path, content, said):
    path, before = tmp_path / "registry.json", nft.listing(standing)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = Dragoman(f"file://{path}").reconcile(standing, "WEB=web;80")
    assert_read_failed(str(path), done, standing, before)
    assert said in done.errors[0], done


def test_bad_input_file_registry_that_only_others_may_read(as_nobody, tmp_path):
    path = tmp_path / "registry.json"
    path.write_text("{}")
    path.chmod(0o600)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    done = run(*as_nobody, "resolve", "--json", "--registry", f"file://{path}", "web;80",
               check=False, env=Dragoman().environment)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr and "Permission denied" in done.stderr
    assert len(json.loads(done.stdout)["errors"]) == 1


@pytest.mark.parametrize("url", [
    "", "etcd", "etcd:/x", "http://127.0.0.1", "etcd://", "etcd://h:0", "etcd://h:65536",
    "etcd://h:x", "etcd://a,,b", "etcd://user:secret@h:1", "etcd://h/path", "etcd://h?q",
    "etcd://[::1", "etcd://::1", "file://relative", "file:///a%0", "file:///a%00", "consul://h:1",
    "etcd://\x1b[31m", "etcd://" + "h," * 1000 + "h", "etcd://" + "x" * 10000])
def test_bad_input_registry_url_is_refused(standing, url):
    before = nft.listing(standing)
    done = Dragoman()("reconcile", "--json", "--netns", standing, "-b", "WEB=web;80",
                      "--registry", url)
    assert done.code in (1, 2) and len(done.errors) == 1, done
    assert "secret" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert nft.listing(standing) == before
    if done.code == 1:
        assert_clean(done)


# Flags

@pytest.mark.parametrize("words", [
    [], ["no-such-command"], ["reconcil"], ["--json"], ["reconcile", "--no-such-flag"],
    ["reconcile", "--netns"], ["reconcile"], ["plan", "--netns", "x", "more"],
    ["resolve"], ["resolve", "a;1", "b;2"], ["resolve", "--netns", "x", "a;1"],
    ["plan", "--netns", "x", "--timeout", "0"], ["plan", "--netns", "x", "--timeout", "-1"],
    ["plan", "--netns", "x", "--timeout", "x"], ["plan", "--netns", "x", "--timeout", "1e9"],
    ["plan", "--netns", "x", "--balance", "fair"], ["plan", "--netns", "x", "--on-empty", "x"],
    ["plan", "--netns", "x", "--root", "services"], ["plan", "--netns", "x", "--root", "/a/../b"],
    ["plan", "--netns", "x", "--allow-endpoints", "10.0.0.0/33"],
    ["plan", "--netns", "x", "--allow-endpoints", ""],
    ["plan", "--netns", "x", "--log-level", "loud"], ["plan", "--netns", "x", "--json=yes"],
    ["flush", "--netns", "x", "-b", "A=b;1"], ["\x1b[31m"], ["plan", "--\x1b[31m"],
    ["plan", "--netns", "x", "--balance", "\x1b[31m\n"],
])
def test_bad_input_usage_is_2_and_nothing_on_standard_output(words):
    done = Dragoman()(*words)
    assert done.code == 2, done
    assert done.stdout == "" and done.stderr != ""
    assert "\x1b" not in done.stderr
    assert not words or len(done.errors) == 1, done


# What is written to

@pytest.mark.parametrize("verb", ["plan", "resolve", "--version", "--help"])
def test_bad_input_full_disk_is_an_error(scene, verb):
    words = {"plan": ("--netns", str(scene.container), "-b", "WEB=web;80"),
             "resolve": ("web;80",)}.get(verb, ())
    with open("/dev/full", "wb") as full:
        done = subprocess.run([PROGRAM, verb, *words], env=scene.dragoman.environment, stdout=full,
                              stderr=subprocess.PIPE, timeout=20)
    assert done.returncode == 1
    assert done.stderr == b"dragoman: standard output: No space left on device\n"
