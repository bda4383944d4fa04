# SPDX-License-Identifier: MIT
"""A neighbour on the link that writes its frames by hand; runs inside a namespace.

    forge.py DEVICE MAC FENCE FRAME...

A frame is SOURCE>DESTINATION, both as in 10.77.0.1:4000/udp. For each line of
input all frames are sent, then the fence: a frame whose arrival says that all
before it have been dealt with. "storm" as a line sends frames without a fence,
again and again, until the next line comes. Answers each line with "sent N".
"""

import os
import select
import socket
import struct
import sys

from addresses import parse_listen

_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_ETHER_TYPES = {socket.AF_INET: 0x0800, socket.AF_INET6: 0x86DD}
_OWN_MAC = bytes.fromhex("02aabbccddee")


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transport(protocol, ports, pseudo_header):
    """A UDP datagram that says "forged", or a TCP SYN."""
    if protocol == "udp":
        payload = b"forged"
        header = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
        found = checksum(pseudo_header(8 + len(payload)) + header + payload) or 0xFFFF
        return header[:6] + struct.pack("!H", found) + payload
    header = struct.pack("!HHIIBBHHH", *ports, 1, 0, 5 << 4, 0x02, 1024, 0, 0)
    return header[:16] + struct.pack("!H", checksum(pseudo_header(20) + header)) + header[18:]


def packet4(protocol, source, destination, ports):
    addresses = source + destination
    number = _PROTOCOLS[protocol]
    inner = transport(protocol, ports,
                      lambda length: addresses + struct.pack("!BBH", 0, number, length))
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 1, 0, 64, number, 0) + addresses
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + inner


def packet6(protocol, source, destination, ports):
    addresses = source + destination
    number = _PROTOCOLS[protocol]
    inner = transport(protocol, ports, lambda length: addresses + struct.pack("!II", length, number))
    return struct.pack("!IHBB", 6 << 28, len(inner), number, 64) + addresses + inner


def frame(mac, text):
    source, _, destination = text.partition(">")
    family, from_address, from_port, _ = parse_listen(source)
    _, to_address, to_port, protocol = parse_listen(destination)
    packet = (packet4 if family == socket.AF_INET else packet6)(
        protocol, socket.inet_pton(family, from_address), socket.inet_pton(family, to_address),
        (from_port, to_port))
    return mac + _OWN_MAC + struct.pack("!H", _ETHER_TYPES[family]) + packet


def storm(wire, frames):
    sent = 0
    while not select.select([sys.stdin], [], [], 0.0005)[0]:
        for each in frames:
            sent += wire.send(each) > 0
    return sent


def main():
    # What one processor sends over a cable is received there, in order.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    device, mac = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", ""))
    fence, *frames = (frame(mac, text) for text in sys.argv[3:])
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((device, 0))
    for line in sys.stdin:
        if line.strip() == "storm":
            print("storming", flush=True)
            print("sent", storm(wire, frames), flush=True)
            continue
        for each in [*frames, fence]:
            wire.send(each)
        print("sent", len(frames), flush=True)


main()
