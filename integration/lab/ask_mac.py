# SPDX-License-Identifier: MIT
"""Who has an address, asked over ARP; runs inside a namespace.

    ask_mac.py DEVICE OWN-ADDRESS OTHER-ADDRESS FENCE-ADDRESS

Asks for the other one, then for the fence, which somebody has. Prints those
that were answered for, up to the fence's answer.
"""

import socket
import struct
import sys

_ARP, _REQUEST, _REPLY = 0x0806, 1, 2


def main():
    device, own, other, fence = sys.argv[1], *map(socket.inet_aton, sys.argv[2:])
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP))
    wire.bind((device, _ARP))
    mac = wire.getsockname()[4]
    for address in (other, fence):
        wire.send(b"\xff" * 6 + mac + struct.pack("!HHHBBH", _ARP, 1, 0x0800, 6, 4, _REQUEST)
                  + mac + own + b"\0" * 6 + address)
    answered = None
    while answered != fence:
        frame = wire.recv(2048)
        if struct.unpack_from("!H", frame, 20)[0] == _REPLY and frame[38:42] == own:
            answered = frame[28:32]
            print(socket.inet_ntoa(answered), flush=True)


main()
