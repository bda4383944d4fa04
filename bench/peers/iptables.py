# SPDX-License-Identifier: MIT
"""iptables-restore, on nf_tables and on the old tables: a chain for each service."""

import pathlib
import tempfile

from peers import Model
from state import ENDPOINT_PORT, address


class Iptables(Model):
    program = None

    def __init__(self, stage, state):
        super().__init__(stage, state)
        stage.open_localhost()
        self._folder = tempfile.TemporaryDirectory(prefix="dragoman-bench-")
        self._input = pathlib.Path(self._folder.name) / "input"
        self._whole = pathlib.Path(self._folder.name) / "whole"

    def _rules(self, service, numbers):
        """The statistic match, one after the other, as each says how likely it is to be taken."""
        chain = f"-A SERVICE-{self.state.port(service)}"
        for place, number in enumerate(numbers):
            left = len(numbers) - place
            chance = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
            yield (f"{chain} -p tcp{chance} -j DNAT "
                   f"--to-destination {address(number)}:{ENDPOINT_PORT}")

    def _write_whole(self):
        ports = [self.state.port(service) for service in range(self.state.services)]
        with self._whole.open("w") as file:
            print("*nat", *(f":SERVICE-{port} - [0:0]" for port in ports), sep="\n", file=file)
            for service, port in enumerate(ports):
                print(f"-A OUTPUT -d 127.0.0.1/32 -p tcp --dport {port} -j SERVICE-{port}",
                      *self._rules(service, self.state.numbers(service)), sep="\n", file=file)
            print("-A POSTROUTING -m conntrack --ctorigdst 127.0.0.1/32 ! -o lo -j MASQUERADE",
                  "COMMIT", sep="\n", file=file)

    def clear(self):
        self._input.write_text("*nat\nCOMMIT\n")
        self.stage.time(self.program, input=self._input)

    def load(self):
        if not self._whole.exists():
            self._write_whole()
        self.start_anew()
        return self.stage.time(self.program, input=self._whole)

    def change(self, service, before, after):
        """A chain that is named is emptied, and the others are left alone."""
        lines = ["*nat", f":SERVICE-{self.state.port(service)} - [0:0]",
                 *self._rules(service, after), "COMMIT"]
        self._input.write_text("\n".join(lines) + "\n")
        return self.stage.time(self.program, "--noflush", input=self._input)

    def close(self):
        self._folder.cleanup()


class IptablesNft(Iptables):
    name = "iptables-nft"
    program = "iptables-nft-restore"


class IptablesLegacy(Iptables):
    name = "iptables-legacy"
    program = "iptables-legacy-restore"
