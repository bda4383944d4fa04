# SPDX-License-Identifier: MIT
"""nft -f: our own layout, and the chains for each service and endpoint that kube-proxy makes."""

import re

from peers import Written
from state import ENDPOINT_PORT, address


class Nft(Written):
    def clear(self):
        self.stage.time("nft", "flush", "ruleset")

    def run(self, file):
        return self.stage.time("nft", "-f", file)


class Flat(Nft):
    """What nft(8) lists of our own table, as loaded by `ours`, and elements of it that change."""

    name = "nft-flat"
    source = None  # the peer to list

    def whole(self):
        """With the chain that services of one endpoint more go to, as it is made once."""
        text = self.source.stage.container.run("nft", "list", "table", "inet", "dragoman",
                                               timeout=300).stdout
        own = self.state.endpoints
        chain = re.search(rf"\tchain balance4-{own} {{.*?\n\t}}\n", text, re.DOTALL)[0]
        more = chain.replace(f"balance4-{own} ", f"balance4-{own + 1} ").replace(
            f"mod {own} map", f"mod {own + 1} map", 1)
        return text.replace(chain, chain + more)

    def change(self, service, before, after):
        """Elements of slots that are others; and where there are more or fewer of them, the
        service's own."""
        key = f"127.0.0.1 . tcp . {self.state.port(service)}"
        lines = []
        for slot in range(max(len(before), len(after))):
            old, new = (each[slot] if slot < len(each) else None for each in (before, after))
            if old == new:
                continue
            if old is not None:
                lines.append(f"delete element inet dragoman endpoints4 {{ {key} . {slot} }}")
            if new is not None:
                lines.append(f"add element inet dragoman endpoints4 {{ {key} . {slot} : "
                             f"{address(new)} . {ENDPOINT_PORT} }}")
        if len(before) != len(after):
            lines += [f"delete element inet dragoman services4 {{ {key} }}",
                      f"add element inet dragoman services4 {{ {key} : "
                      f"goto balance4-{len(after)} }}"]
        return self.run_text("\n".join(lines) + "\n")


class Chains(Nft):
    """A verdict map of services, a chain for each of them, and one for each endpoint."""

    name = "nft-chains"

    def _endpoint(self, service, number):
        return f"endpoint-{self.state.port(service)}-{number}"

    def _balance(self, service, numbers):
        targets = ", ".join(f"{slot} : goto {self._endpoint(service, number)}"
                            for slot, number in enumerate(numbers))
        return f"numgen random mod {len(numbers)} vmap {{ {targets} }}"

    def _dnat(self, number):
        return f"meta l4proto tcp dnat to {address(number)}:{ENDPOINT_PORT}"

    def whole(self):
        services, endpoints, elements = [], [], []
        for service in range(self.state.services):
            numbers, port = self.state.numbers(service), self.state.port(service)
            services.append(f"chain service-{port} {{ {self._balance(service, numbers)}; }}")
            endpoints += [f"chain {self._endpoint(service, number)} {{ {self._dnat(number)}; }}"
                          for number in numbers]
            elements.append(f"127.0.0.1 . tcp . {port} : goto service-{port}")
        return "\n".join((
            "table ip services {", *endpoints, *services,
            "map service-ips { type ipv4_addr . inet_proto . inet_service : verdict;",
            "elements = {", ",\n".join(elements), "}; }",
            "chain output { type nat hook output priority -100;",
            "ip daddr . meta l4proto . th dport vmap @service-ips; }",
            "chain postrouting { type nat hook postrouting priority srcnat;",
            'ct original ip daddr 127.0.0.1 oifname != "lo" masquerade; }',
            "}\n"))

    def change(self, service, before, after):
        chain = f"ip services service-{self.state.port(service)}"
        lines = []
        for number in set(after) - set(before):
            endpoint = f"ip services {self._endpoint(service, number)}"
            lines += [f"add chain {endpoint}", f"add rule {endpoint} {self._dnat(number)}"]
        lines += [f"flush chain {chain}", f"add rule {chain} {self._balance(service, after)}"]
        for number in set(before) - set(after):
            endpoint = f"ip services {self._endpoint(service, number)}"
            lines += [f"flush chain {endpoint}", f"delete chain {endpoint}"]
        return self.run_text("\n".join(lines) + "\n")
