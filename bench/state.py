# SPDX-License-Identifier: MIT
"""What everybody who is measured has to bring about; the numbers of support/state.h."""

import ipaddress

PORT_FIRST, ENDPOINT_PORT = 10000, 7000
ADDRESSES = "10.64.0.0/10"
_ADDRESS_FIRST = int(ipaddress.ip_address("10.64.0.0"))
_REPLACED_FIRST, _ADDED_FIRST, _STRIDE = 1_000_000, 2_000_000, 7919


def address(number):
    """Of the endpoint of that number: "10.64.0.7"."""
    return str(ipaddress.ip_address(_ADDRESS_FIRST + number))


def number_of(text):
    """The same backwards."""
    return int(ipaddress.ip_address(text)) - _ADDRESS_FIRST


class State:
    """So many services, each of as many endpoints; and the changes in their order."""

    def __init__(self, services, endpoints):
        self.services, self.endpoints = services, endpoints

    @property
    def parameters(self):
        return {"services": self.services, "endpoints": self.endpoints}

    def port(self, service):
        return PORT_FIRST + service

    def numbers(self, service):
        """Its endpoints as they are at first, in the order of their slots."""
        return [service * self.endpoints + each for each in range(self.endpoints)]

    def changed(self, change):
        """The service that this change is of, and which of its endpoints it meets."""
        return change * _STRIDE % self.services, change % self.endpoints

    def replaced(self, change):
        return _REPLACED_FIRST + change

    def added(self, change):
        return _ADDED_FIRST + change

    def sample(self, most=3):
        """Services to look at where all are too many: the first, the last, some between."""
        if self.endpoints > 100:
            return [0]
        step = max(1, self.services // most)
        return sorted({*range(0, self.services, step), self.services - 1})


def document(number):
    """What the registry holds of an endpoint."""
    return {"ipaddress": address(number), "host_port": str(ENDPOINT_PORT), "tags": [], "weight": 1}
