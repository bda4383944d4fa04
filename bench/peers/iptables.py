# SPDX-License-Identifier: MIT
"""iptables-restore, on nf_tables and on the old tables: a chain for each service."""

from peers import Written
from state import ENDPOINT_PORT, address


class Iptables(Written):
    program = None

    def _rules(self, service, numbers):
        """The statistic match, one after the other, as each says how likely it is to be taken."""
        chain = f"-A SERVICE-{self.state.port(service)}"
        for place, number in enumerate(numbers):
            left = len(numbers) - place
            chance = (f" -m statistic --mode random --probability {1 / left:.10f}"
                      if left > 1 else "")
            yield (f"{chain} -p tcp{chance} -j DNAT "
                   f"--to-destination {address(number)}:{ENDPOINT_PORT}")

    def whole(self):
        ports = [self.state.port(service) for service in range(self.state.services)]
        lines = ["*nat", *(f":SERVICE-{port} - [0:0]" for port in ports)]
        for service, port in enumerate(ports):
            lines += [f"-A OUTPUT -d 127.0.0.1/32 -p tcp --dport {port} -j SERVICE-{port}",
                      *self._rules(service, self.state.numbers(service))]
        lines += ["-A POSTROUTING -m conntrack --ctorigdst 127.0.0.1/32 ! -o lo -j MASQUERADE",
                  "COMMIT\n"]
        return "\n".join(lines)

    def clear(self):
        self.input.write_text("*nat\nCOMMIT\n")
        self.stage.time(self.program, input=self.input)

    def run(self, file):
        """Chains that are named are emptied, and others are left alone."""
        return self.stage.time(self.program, "--noflush", input=file)

    def change(self, service, before, after):
        lines = ["*nat", f":SERVICE-{self.state.port(service)} - [0:0]",
                 *self._rules(service, after), "COMMIT\n"]
        return self.run_text("\n".join(lines))


class IptablesNft(Iptables):
    name = "iptables-nft"
    program = "iptables-nft-restore"


class IptablesLegacy(Iptables):
    name = "iptables-legacy"
    program = "iptables-legacy-restore"
