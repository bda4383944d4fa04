# SPDX-License-Identifier: MIT
"""Listens to what happens to the ruleset, message by message; runs inside a namespace.

Prints "ready"; then, for each line of input, what was heard since the last
one, as a JSON object: how many elements of each set were added and deleted,
and how many of any other message: {"newsetelem endpoints4": 1, "newgen": 1}.

The kernel sends events before the transaction's sendmsg(2) returns: whatever
has ended, has been heard.
"""

import collections
import json
import socket
import struct
import sys

NETLINK_NETFILTER = 12
NETLINK_ADD_MEMBERSHIP, SOL_NETLINK, SO_RCVBUFFORCE = 1, 270, 33
NFNLGRP_NFTABLES = 7
NLA_TYPE_MASK = 0x3fff
NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 2, 3
# NFT_MSG_* of linux/netfilter/nf_tables.h
NAMES = dict(enumerate(
    "newtable gettable deltable newchain getchain delchain newrule getrule delrule newset getset"
    " delset newsetelem getsetelem delsetelem newgen getgen trace newobj getobj delobj".split()))


def attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & NLA_TYPE_MASK, data[4:length]
        data = data[(length + 3) & ~3:]


def messages(data):
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        yield kind & 0xff, data[20:length]
        data = data[(length + 3) & ~3:]


def count(heard, kind, body):
    name = NAMES.get(kind, f"message {kind}")
    if not name.endswith("setelem"):
        heard[name] += 1
        return
    found = dict(attributes(body))
    of = found[NFTA_SET_ELEM_LIST_SET].rstrip(b"\0").decode()
    heard[f"{name} {of}"] += sum(1 for _ in attributes(found[NFTA_SET_ELEM_LIST_ELEMENTS]))


def listener():
    """A socket that hears of every change from now on."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    opened.bind((0, 0))
    opened.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
    return opened


def drain(opened):
    heard = collections.Counter()
    while True:
        try:
            data = opened.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return heard
        for kind, body in messages(data):
            count(heard, kind, body)


def main():
    opened = listener()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(drain(opened)), flush=True)


if __name__ == "__main__":
    main()
