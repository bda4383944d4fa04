# SPDX-License-Identifier: MIT
"""A neighbour on the link that writes its frames by hand; runs inside a namespace.

    forge.py DEVICE MAC FENCE FRAME...

A frame is SOURCE>DESTINATION, both as in 10.77.0.1:4000/udp, or the bytes of
one (lab/frames.py) in hexadecimal. For each line of input all frames are
sent, or those that the line names as "send FRAME...", then the fence: a frame
whose arrival says that all before it have been dealt with. "storm" as a line
sends frames without a fence, again and again, until the next line comes.
Answers each line with "sent N".

DEVICE as tun:NAME is the far end of a tun device of this namespace.
"""

import fcntl
import os
import select
import socket
import struct
import sys

import frames
from addresses import parse_listen

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_ETHERNET_HEADER = 14


def frame(mac, text):
    source, arrow, destination = text.partition(">")
    if not arrow:
        return bytes.fromhex(text)
    _, from_address, from_port, _ = parse_listen(source)
    _, to_address, to_port, protocol = parse_listen(destination)
    inside = {"tcp": frames.tcp, "udp": frames.udp}[protocol](from_port, to_port)
    return frames.ethernet(mac, frames.ip(from_address, to_address, inside))


class Cable:
    def __init__(self, device):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((device, 0))

    def send(self, data):
        return self._socket.send(data)


class Tun:
    """What is written here comes out of the device, as from a tunnel's other end."""

    def __init__(self, device):
        self._file = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self._file, _TUNSETIFF,
                    struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))

    def send(self, data):
        """What has a tag between its header and the packet cannot be sent here."""
        packet = data[_ETHERNET_HEADER:]
        return os.write(self._file, packet) if packet[0] >> 4 in (4, 6) else 0


def storm(wire, all_frames):
    sent = 0
    while not select.select([sys.stdin], [], [], 0.0005)[0]:
        for each in all_frames:
            sent += wire.send(each) > 0
    return sent


def main():
    # What one processor sends over a cable is received there, in order.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    device, mac = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", ""))
    fence, *usual = (frame(mac, text) for text in sys.argv[3:])
    wire = Tun(device.removeprefix("tun:")) if device.startswith("tun:") else Cable(device)
    for line in sys.stdin:
        word, *texts = line.split() or [""]
        if word == "storm":
            print("storming", flush=True)
            print("sent", storm(wire, usual), flush=True)
            continue
        chosen = [frame(mac, text) for text in texts] if word == "send" and texts else usual
        for each in [*chosen, fence]:
            wire.send(each)
        print("sent", len(chosen), flush=True)


main()
