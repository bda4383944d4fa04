# SPDX-License-Identifier: MIT
"""A hostile neighbour, and what reaches its victim."""

import json
import pathlib

from lab.processes import python

_FORGE, ARRIVALS, ASK_MAC = (pathlib.Path(__file__).with_name(f"{name}.py")
                             for name in ("forge", "arrivals", "ask_mac"))


def mac_address(namespace, device):
    """All zeros where it has none."""
    found = json.loads(namespace.ip("-j", "link", "show", device).stdout)[0]
    return found.get("address", "00:00:00:00:00:00")


def _text(frame):
    return frame.hex() if isinstance(frame, bytes) else frame


class Neighbour:
    """Forges frames to listeners in another namespace, on one cable.

    frames: "10.77.0.1:4000>127.0.0.1:7000/udp", or bytes of lab/frames.py;
    listens: what the victim listens at. fence: an honest frame,
    "10.77.0.1:4000>10.77.0.100:7999/udp".
    """

    def __init__(self, namespace, victim, frames, listens, fence, device="eth0",
                 victim_device="eth0"):
        self.mac = mac_address(victim, victim_device)
        self._victim = victim.start(
            *python(ARRIVALS, fence.partition(">")[2], *listens))
        assert self._victim.read_line() == "ready"
        self._forger = namespace.start(
            *python(_FORGE, device, self.mac, fence, *map(_text, frames)))

    def attack(self, frames=()):
        """Sends each frame once, or those that are given. What arrived since, by listener."""
        self._forger.write_line(" ".join(["send", *map(_text, frames)]))
        assert self._forger.read_line().startswith("sent")
        return json.loads(self._victim.read_line())

    def start_storm(self):
        self._forger.write_line("storm")
        assert self._forger.read_line() == "storming"

    def end_storm(self):
        """How many frames were sent; what arrived is told by the next attack."""
        self._forger.write_line("enough")
        sent = int(self._forger.read_line().split()[1])
        # The line that ended it was read by nobody yet: it sends each frame once.
        assert self._forger.read_line().startswith("sent")
        return sent, json.loads(self._victim.read_line())

    def end(self):
        self._forger.stop()
        self._victim.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
