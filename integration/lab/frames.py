# SPDX-License-Identifier: MIT
"""Packets and frames as bytes, with whatever they claim.

    packet = ip("10.77.0.1", "127.0.0.1", udp(4000, 7000))
    frame = ethernet(mac, packet)

What is inside an IP packet (udp, tcp, icmp_echo...) is a function of the two
addresses, since they are part of its checksum. An ip packet may carry
options, a list of fragments is made of one by cut.
"""

import ipaddress
import struct

TCP, UDP, ICMP, SCTP, UDPLITE = 6, 17, 1, 132, 136
ROUTING, FRAGMENT = 43, 44
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
BROADCAST = bytes.fromhex("ffffffffffff")
MULTICAST = bytes.fromhex("01005e000001")
NOBODY = bytes.fromhex("02deadbeef99")
_SENDER = bytes.fromhex("02aabbccddee")
_MORE_FRAGMENTS = 0x2000


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _with_checksum(data, at, source, destination, protocol):
    pseudo_header = source + destination + struct.pack("!II", len(data), protocol)
    found = checksum(pseudo_header + data) or 0xFFFF
    return data[:at] + struct.pack("!H", found) + data[at + 2:]


def udp(from_port, to_port, payload=b"forged", protocol=UDP):
    """A UDP datagram; of UDP-Lite, all of it is covered by the checksum."""
    def build(source, destination):
        length = 8 + len(payload)
        header = struct.pack("!HHHH", from_port, to_port, length, 0)
        return protocol, _with_checksum(header + payload, 6, source, destination, protocol)
    return build


def udplite(from_port, to_port):
    return udp(from_port, to_port, protocol=UDPLITE)


def tcp(from_port, to_port, flags=SYN, seq=1, ack=0, payload=b""):
    def build(source, destination):
        header = struct.pack("!HHIIBBHHH", from_port, to_port, seq, ack, 5 << 4, flags, 1024, 0, 0)
        return TCP, _with_checksum(header + payload, 16, source, destination, TCP)
    return build


def icmp_echo():
    def build(*_):
        data = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"forged"
        return ICMP, data[:2] + struct.pack("!H", checksum(data)) + data[4:]
    return build


def anything(protocol, from_port=0, to_port=0):
    """Of a protocol that nobody looks into: ports, and a few bytes."""
    def build(*_):
        return protocol, struct.pack("!HH", from_port, to_port) + b"forged--"
    return build


def _header4(source, destination, protocol, length, identification, fragment, options):
    words = 5 + len(options) // 4
    header = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + length, identification,
                         fragment, 64, protocol, 0) + source + destination + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:]


def ip(source, destination, inside, options=b"", seen=None, identification=1):
    """A packet, IPv4 or IPv6 by its addresses.

    options: of IPv4, padded here. seen: the destination that the checksum
    inside is of, where that is another one.
    """
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    final = ipaddress.ip_address(seen).packed if seen else destination.packed
    protocol, data = inside(source.packed, final)
    if source.version == 6:
        return (struct.pack("!IHBB", 6 << 28, len(data), protocol, 64)
                + source.packed + destination.packed + data)
    options += b"\0" * (-len(options) % 4)
    return _header4(source.packed, destination.packed, protocol, len(data), identification, 0,
                    options) + data


def source_route(*hops, strict=False):
    """The option of IPv4: where a packet shall go when it has come to its destination."""
    addresses = b"".join(ipaddress.ip_address(hop).packed for hop in hops)
    return struct.pack("!BBB", 137 if strict else 131, 3 + len(addresses), 4) + addresses


def routed(inside, *segments, kind=4):
    """Inside an IPv6 packet: a segment routing header (RFC 8754) with hops still to go.

    kind 0 is the source route of RFC 2460.
    """
    def build(source, destination):
        protocol, data = inside(source, destination)
        addresses = b"".join(ipaddress.ip_address(each).packed for each in segments)
        if kind == 4:
            left, rest = 1, struct.pack("!BBH", len(segments) - 1, 0, 0)
        else:
            left, rest = len(segments), b"\0" * 4
        header = struct.pack("!BBBB", protocol, len(addresses) // 8, kind, left) + rest
        return ROUTING, header + addresses + data
    return build


def cut(packet, *lengths):
    """An IPv4 packet in fragments; all lengths but the last are multiples of 8.

    Given an offset as well, as (offset, length), a fragment lies there.
    """
    header, data = packet[:20], packet[20:]
    fragments, at = [], 0
    for length in lengths:
        if isinstance(length, tuple):
            at, length = length
        more = _MORE_FRAGMENTS if at + length < len(data) else 0
        fragments.append(_header4(header[12:16], header[16:20], header[9], len(data[at:at + length]),
                                  struct.unpack("!H", header[4:6])[0], more | at // 8, b"")
                         + data[at:at + length])
        at += length
    return fragments


def cut6(packet, *lengths, identification=1):
    """The same of an IPv6 packet."""
    header, data = packet[:40], packet[40:]
    fragments, at = [], 0
    for length in lengths:
        part, more = data[at:at + length], at + length < len(data)
        fragments.append(header[:4] + struct.pack("!HB", 8 + len(part), FRAGMENT) + header[7:]
                         + struct.pack("!BBHI", header[6], 0, at | more, identification) + part)
        at += length
    return fragments


def ethernet(mac, packet, vlans=()):
    """vlans: tags, the outer one first."""
    tags = b"".join(struct.pack("!HH", 0x8100, vlan) for vlan in vlans)
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return mac + _SENDER + tags + struct.pack("!H", kind) + packet
