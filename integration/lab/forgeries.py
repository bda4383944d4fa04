# SPDX-License-Identifier: MIT
"""What a neighbour may try in order to reach a container's loopback: ROWS.

Each row is a name, the listener that gets it where no guard is in the way
(KERNEL_DROPS: none, the kernel drops it by itself), and a function of the
container's MAC address that builds its frames.
"""

import typing

from lab import frames, nft

NEXT, OWN, NEXT6, OWN6 = "10.77.0.1", "10.77.0.100", "fd77::1", "fd77::100"
FENCE = f"{NEXT}:4000>{OWN}:7999/udp"
UDP, TCP = "127.0.0.1:7000/udp", "127.0.0.1:7000/tcp"
UDP53, TCP53 = "127.0.0.53:7001/udp", "127.0.0.53:7002/tcp"
EDGE = "127.255.255.255:7003/udp"
OPEN, OPEN_TCP, OPEN6 = f"{OWN}:7004/udp", f"{OWN}:7004/tcp", f"[{OWN6}]:7004/udp"
SHADOWED = "127.0.0.1:80/udp"
# Flows begin at these: through a service's rules, and to a listener beside it.
CLIENT, LOCAL_CLIENT = "127.0.0.1:5001/udp>127.0.0.1:80", "127.0.0.1:5002/udp>127.0.0.1:7000"
PROTOCOLS = {name: f"127.0.0.1:0/{number}" for name, number in {
    "icmp": frames.ICMP, "sctp": frames.SCTP, "udplite": frames.UDPLITE, "253": 253}.items()}
UDP6, TCP6, OTHER6 = "[::1]:7006/udp", "[::1]:7006/tcp", "[::1]:0/253"
BOTH = "[::]:7005/udp"
LISTENERS = (UDP, TCP, UDP53, TCP53, EDGE, OPEN, OPEN_TCP, OPEN6, SHADOWED, CLIENT, LOCAL_CLIENT,
             *PROTOCOLS.values(), UDP6, TCP6, OTHER6, BOTH)
# The same without the flows; and where some row arrives if there is no guard, and no flow.
STANDING = tuple(each.partition(">")[0] for each in LISTENERS)
REACHED = {UDP, TCP, UDP53, TCP53, EDGE, OPEN, OPEN_TCP, SHADOWED, *PROTOCOLS.values(), UDP6, TCP6,
           OTHER6}
KERNEL_DROPS = None


def open_up(container):
    """Whatever the kernel may be told to accept, it accepts."""
    for device in ("all", "default", "eth0"):
        for name, value in {"rp_filter": 0, "accept_local": 1, "accept_source_route": 1,
                            "drop_unicast_in_l2_multicast": 0}.items():
            container.sysctl(f"net.ipv4.conf.{device}.{name}", value)
        for name in ("accept_source_route", "seg6_enabled"):
            container.sysctl(f"net.ipv6.conf.{device}.{name}", 1)
    container.sysctl("net.netfilter.nf_conntrack_udp_timeout", 600)
    container.ip("route", "add", "default", "via", NEXT)
    # It answers nothing to itself that would be counted, or end what a SYN began.
    nft.load(container, """table inet quiet { chain output { type filter hook output priority 0
        meta l4proto tcp tcp flags & rst == rst drop
        icmp type { echo-reply, destination-unreachable } drop
    }; }""")


def plain(*packets):
    return lambda mac: [frames.ethernet(mac, packet) for packet in packets]


SOURCES = {"neighbour": NEXT, "nobody": "10.77.0.200", "far-away": "198.51.100.7",
           "loopback": "127.0.0.1", "other-loopback": "127.9.9.9", "own": OWN}
TARGETS = {UDP: ("127.0.0.1", frames.udp, 7000), TCP: ("127.0.0.1", frames.tcp, 7000),
           UDP53: ("127.0.0.53", frames.udp, 7001), TCP53: ("127.0.0.53", frames.tcp, 7002)}


def source_rows():
    port = 20000
    for name, source in SOURCES.items():
        for listener, (destination, inside, to_port) in TARGETS.items():
            port += 1
            yield (f"from-{name}-to-{listener}", listener,
                   plain(frames.ip(source, destination, inside(port, to_port))))
    for name, source in {"zero": "0.0.0.0", "multicast": "224.0.0.1",
                         "broadcast": "255.255.255.255"}.items():
        yield (f"from-{name}", KERNEL_DROPS,
               plain(frames.ip(source, "127.0.0.1", frames.udp(4000, 7000))))
    for name, source in {"loopback": "127.0.0.1", "other-loopback": "127.9.9.9",
                         "dns": "127.0.0.53"}.items():
        yield f"from-{name}-to-own", OPEN, plain(frames.ip(source, OWN, frames.udp(4001, 7004)))
        yield (f"from-{name}-to-own-tcp", OPEN_TCP,
               plain(frames.ip(source, OWN, frames.tcp(4002, 7004))))
    yield ("same-port-at-both-ends", UDP,
           plain(frames.ip("127.0.0.1", "127.0.0.1", frames.udp(7000, 7000))))
    yield "to-edge", EDGE, plain(frames.ip(NEXT, "127.255.255.255", frames.udp(4001, 7003)))


# The same datagram in many shapes, to 127.0.0.1 and, as it were, to an honest destination.

def shapes(destination, port):
    packet = frames.ip(NEXT, destination, frames.udp(4000, port, b"forged" * 4), identification=77)
    plain_udp = frames.ip(NEXT, destination, frames.udp(4003, port))
    return {
        "fragments": plain(*frames.cut(packet, 16, 16)),
        "fragments-of-8-bytes": plain(*frames.cut(packet, 8, 8, 8, 8)),
        "fragments-reversed": plain(*reversed(frames.cut(packet, 8, 8, 16))),
        "fragments-one-doubled": plain(*(frames.cut(packet, 16, 16)[:1] * 2),
                                       *frames.cut(packet, 16, 16)[1:]),
        "options": plain(frames.ip(NEXT, destination, frames.udp(4004, port), options=b"\x01" * 8)),
        "record-route": plain(frames.ip(NEXT, destination, frames.udp(4005, port),
                                        options=b"\x07\x07\x04\0\0\0\0\0")),
        "broadcast-mac": lambda _: [frames.ethernet(frames.BROADCAST, plain_udp)],
        "multicast-mac": lambda _: [frames.ethernet(frames.MULTICAST, plain_udp)],
        "vlan-0": lambda mac: [frames.ethernet(mac, plain_udp, (0,))],
        "vlan-0-twice": lambda mac: [frames.ethernet(mac, plain_udp, (0, 0))],
        "no-checksum": plain(frames.ip(NEXT, destination, udp_without_checksum(4006, port))),
    }


def shapes_that_the_kernel_drops(destination, port):
    packet = frames.ip(NEXT, destination, frames.udp(4000, port, b"forged" * 4), identification=78)
    plain_udp = frames.ip(NEXT, destination, frames.udp(4003, port))
    return {
        "fragments-overlapping": plain(*frames.cut(packet, 16, (8, 16), (24, 8))),
        "first-fragment-alone": plain(*frames.cut(packet, 16)),
        "last-fragment-alone": plain(*frames.cut(packet, (16, 16))),
        "other-mac": lambda _: [frames.ethernet(frames.NOBODY, plain_udp)],
        "vlan-5": lambda mac: [frames.ethernet(mac, plain_udp, (5,))],
        "tcp-broadcast-mac": lambda _: [frames.ethernet(
            frames.BROADCAST, frames.ip(NEXT, destination, frames.tcp(4004, port)))],
    }


def udp_without_checksum(from_port, to_port):
    def build(source, destination):
        protocol, data = frames.udp(from_port, to_port)(source, destination)
        return protocol, data[:6] + b"\0\0" + data[8:]
    return build


def shape_rows():
    for name, build in shapes("127.0.0.1", 7000).items():
        yield name, UDP, build
    for name, build in shapes_that_the_kernel_drops("127.0.0.1", 7000).items():
        yield name, KERNEL_DROPS, build


def protocol_rows():
    for name, source in {"neighbour": NEXT, "loopback": "127.0.0.1"}.items():
        for protocol, inside in {
                "icmp": frames.icmp_echo(), "sctp": frames.anything(frames.SCTP, 4000, 7000),
                "udplite": frames.udplite(4000, 7000), "253": frames.anything(253)}.items():
            yield (f"{protocol}-from-{name}", PROTOCOLS[protocol],
                   plain(frames.ip(source, "127.0.0.1", inside)))


def flow_rows():
    """A flow from 127.0.0.1:5001 was led to 10.77.0.1:8080, and one from 5002 to 7000 was not.

    Each is known to conntrack: original and reply, as either end has them.
    """
    def forged(source, from_port, to_port):
        return plain(frames.ip(source, "127.0.0.1", frames.udp(from_port, to_port)))
    yield "reply-as-the-client-sees-it", CLIENT, forged("127.0.0.1", 80, 5001)
    yield "reply-half-translated", CLIENT, forged(NEXT, 8080, 5001)
    yield "original-as-the-client-sent-it", KERNEL_DROPS, forged("127.0.0.1", 5001, 80)
    yield "to-the-listener-behind-the-service", SHADOWED, forged(NEXT, 4001, 80)
    yield "original-of-a-local-flow", UDP, forged("127.0.0.1", 5002, 7000)
    yield "reply-of-a-local-flow", LOCAL_CLIENT, forged("127.0.0.1", 7000, 5002)


def source_route_rows():
    """By its own address, which is open, to the loopback."""
    port = 21000
    for name, option in {"loose": frames.source_route("127.0.0.1"),
                         "strict": frames.source_route("127.0.0.1", strict=True),
                         "by-two": frames.source_route(OWN, "127.0.0.1"),
                         "padded": b"\x01" * 5 + frames.source_route("127.0.0.1")}.items():
        port += 1
        for listener, inside in ((UDP, frames.udp(port, 7000)), (TCP, frames.tcp(port, 7000))):
            yield (f"source-route-{name}-{listener}", listener,
                   plain(frames.ip(NEXT, OWN, inside, options=option, seen="127.0.0.1")))


def ipv6_rows():
    udp, tcp = frames.udp(4000, 7006), frames.tcp(4000, 7006)
    for name, source in {"neighbour": NEXT6, "loopback": "::1", "own": OWN6, "link-local": "fe80::9",
                         "mapped": "::ffff:127.0.0.1", "compatible": "::127.0.0.1"}.items():
        yield (f"ipv6-from-{name}", KERNEL_DROPS,
               plain(frames.ip(source, "::1", udp), frames.ip(source, "::1", tcp),
                     frames.ip(source, "::1", frames.anything(253)),
                     *frames.cut6(frames.ip(source, "::1", udp), 8, 8)))
    for name, destination in {"mapped": "::ffff:127.0.0.1", "compatible": "::127.0.0.1",
                              "nat64": "64:ff9b::127.0.0.1"}.items():
        yield (f"ipv6-to-{name}", KERNEL_DROPS,
               plain(*(frames.ip(source, destination, frames.udp(4000, port))
                       for source in (NEXT6, "::1", "::ffff:10.77.0.1", "::ffff:127.0.0.1")
                       for port in (7000, 7005, 7006))))
    yield ("ipv6-from-loopback-to-own", KERNEL_DROPS,
           plain(frames.ip("::1", OWN6, frames.udp(4000, 7004))))
    yield ("ipv6-source-route", KERNEL_DROPS,
           plain(frames.ip(NEXT6, OWN6, frames.routed(udp, "::1", kind=0), seen="::1")))


def segment_route_rows():
    for listener, inside in ((UDP6, frames.udp(4000, 7006)), (TCP6, frames.tcp(4000, 7006)),
                             (OTHER6, frames.anything(253))):
        yield (f"segment-route-{listener}", listener,
               plain(frames.ip(NEXT6, OWN6, frames.routed(inside, "::1", OWN6), seen="::1")))


class Row(typing.NamedTuple):
    name: str
    listener: str | None
    build: typing.Callable

    def __str__(self):
        return self.name if self.listener else f"{self.name}-kernel-drops"


ROWS = [Row(*each) for rows in (source_rows, shape_rows, protocol_rows, flow_rows,
                                source_route_rows, ipv6_rows, segment_route_rows)
        for each in rows()]
assert len({row.name for row in ROWS}) == len(ROWS)


def everything(mac):
    """The frames of all rows."""
    return [frame for row in ROWS for frame in row.build(mac)]
