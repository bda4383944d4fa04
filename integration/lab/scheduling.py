# SPDX-License-Identifier: MIT
"""What the scheduler was asked for, of each thread of a process (sched_getattr(2))."""

import ctypes
import os
import struct

_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
_libc = ctypes.CDLL(None, use_errno=True)


def _attributes(tid):
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if _libc.syscall(_SCHED_GETATTR, tid, buffer, _ATTRIBUTES.size, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _, policy, _, nice, _, runtime, _, _ = _ATTRIBUTES.unpack(buffer.raw)
    return policy, nice, runtime


def scheduling(pid):
    """{(policy, nice, slice in nanoseconds)}"""
    return {_attributes(int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}


def knows_slices():
    """EEVDF takes them from everybody since Linux 6.12, and before that nobody did."""
    return tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 12)
