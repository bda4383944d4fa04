# SPDX-License-Identifier: MIT
"""Somebody who changes the ruleset without end; runs inside a namespace.

Each line of input is a turn: edits from one line until the next, as fast as
the kernel takes them, then prints how many transactions there were. An edit
makes a table "inet busy", the next deletes it: two generations.
"""

import select
import socket
import struct
import sys

NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE = 0, 2
NFPROTO_INET = 1


def message(kind, flags, family, resource, attributes=b""):
    body = struct.pack("=BBH", family, 0, socket.htons(resource)) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


def batch(verb):
    name = b"busy\0"
    table = struct.pack("=HH", 4 + len(name), 1) + name.ljust(8, b"\0")
    return (message(NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES)
            + message(NFNL_SUBSYS_NFTABLES << 8 | verb, NLM_F_ACK, NFPROTO_INET, 0, table)
            + message(NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES))


def edit(netlink, data):
    netlink.send(data)
    code, = struct.unpack_from("=i", netlink.recv(4096), 16)
    assert code == 0, code


def main():
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    add, delete = batch(NFT_MSG_NEWTABLE), batch(NFT_MSG_DELTABLE)
    while sys.stdin.buffer.raw.readline():
        print("editing", flush=True)
        count = 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            edit(netlink, add)
            edit(netlink, delete)
            count += 2
        if not sys.stdin.buffer.raw.readline():
            return
        print(count, flush=True)


main()
