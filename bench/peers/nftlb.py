# SPDX-License-Identifier: MIT
"""nftlb with its server running: a farm for each service, and a backend for each endpoint.

It takes its configuration from a file when it starts, and changes over HTTP.
"""

import http.client
import json
import pathlib
import tempfile
import time

from lab.namespaces import inside
from lab.waiting import wait_until
from peers import Model
from state import ENDPOINT_PORT, address

_PORT, _KEY = 5555, "bench"


def _backend(number):
    return {"name": f"e{number}", "ip-addr": address(number), "port": str(ENDPOINT_PORT),
            "weight": "1", "priority": "1", "state": "up"}


class Nftlb(Model):
    name = "nftlb"

    def __init__(self, stage, state):
        super().__init__(stage, state)
        stage.open_localhost()
        self._folder = tempfile.TemporaryDirectory(prefix="dragoman-bench-")
        self._file = pathlib.Path(self._folder.name) / "farms.json"
        self._file.write_text(json.dumps({"farms": [
            {"name": self._farm(service), "family": "ipv4", "virtual-addr": "127.0.0.1",
             "virtual-ports": str(state.port(service)), "mode": "snat", "protocol": "tcp",
             "scheduler": "weight", "state": "up", "intra-connect": "on",
             "backends": [_backend(number) for number in state.numbers(service)]}
            for service in range(state.services)]}))
        self._process = None

    def _farm(self, service):
        return f"s{self.state.port(service)}"

    def _ask(self, method, path, body=None):
        with inside(self.stage.container):
            connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=600)
            try:
                connection.request(method, path, json.dumps(body) if body else None,
                                   {"Key": _KEY})
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
            finally:
                connection.close()
        assert answer.status == 200, f"nftlb: {method} {path}: {answer.status} {text}"

    def _answers(self):
        assert self._process.ended() is None, "nftlb has ended"
        try:
            self._ask("GET", "/farms/none")
        except OSError:
            return False
        except AssertionError:
            pass
        return True

    def clear(self):
        self._stop()
        self.stage.container.run("nft", "flush", "ruleset")

    def load(self):
        """From its start to its first answer, which comes when all is loaded."""
        self.start_anew()
        began = time.perf_counter()
        self._process = self.stage.container.start("nftlb", "-H", "127.0.0.1", "-P", _PORT, "-k",
                                                   _KEY, "-l", "3", "-L", "1", "-c", self._file)
        wait_until(self._answers, deadline=600, what="nftlb")
        return time.perf_counter() - began

    def change(self, service, before, after):
        farm = self._farm(service)
        more = [_backend(number) for number in after if number not in before]
        began = time.perf_counter()
        if more:
            self._ask("PUT", "/farms", {"farms": [{"name": farm, "backends": more}]})
        for number in before:
            if number not in after:
                self._ask("DELETE", f"/farms/{farm}/backends/e{number}")
        return time.perf_counter() - began

    def _stop(self):
        if self._process:
            self._process.stop()
        self._process = None

    def close(self):
        self._stop()
        self._folder.cleanup()
