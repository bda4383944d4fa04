# SPDX-License-Identifier: MIT
"""When endpoints of IPv4 came into the ruleset; runs inside a namespace.

Prints "ready", then a line "ADDRESS NANOSECONDS" for each element of endpoints4
that was added or replaced, by the clock of time.monotonic_ns().
"""

import socket
import time

from listen import (NAMES, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, attributes,
                    listener, messages)

NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE = 2, 1


def addresses(body):
    found = dict(attributes(body))
    if found[NFTA_SET_ELEM_LIST_SET].rstrip(b"\0") != b"endpoints4":
        return
    for _, element in attributes(found[NFTA_SET_ELEM_LIST_ELEMENTS]):
        data = dict(attributes(dict(attributes(element))[NFTA_SET_ELEM_DATA]))
        yield socket.inet_ntoa(data[NFTA_DATA_VALUE][:4])


def main():
    opened = listener()
    print("ready", flush=True)
    while True:
        data = opened.recv(1 << 20)
        now = time.monotonic_ns()
        for kind, body in messages(data):
            if NAMES.get(kind) == "newsetelem":
                for address in addresses(body):
                    print(address, now, flush=True)


main()
