# SPDX-License-Identifier: MIT
"""Addresses as dragoman writes them: 127.0.0.1:80/tcp, [::1]:80/udp."""

import socket


def parse_listen(text):
    """(family, address, port, protocol) of "127.0.0.1:80/tcp"; tcp where it is left out."""
    endpoint, _, protocol = text.partition("/")
    address, _, port = endpoint.rpartition(":")
    address = address.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, address, int(port), protocol or "tcp"
