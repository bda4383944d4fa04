# SPDX-License-Identifier: MIT
"""A process of a number that is free: rebirth.py PID COMMAND...

clone3(2) with set_tid, which the kernel grants whoever restores checkpoints.
Prints "born", and ends with the process.
"""

import ctypes
import os
import signal
import sys

_CLONE3, _PR_SET_PDEATHSIG = 435, 1


class _Arguments(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
        "set_tid", "set_tid_size", "cgroup")]


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_int32(int(sys.argv[1]))
    arguments = _Arguments(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(number),
                           set_tid_size=1)
    pid = libc.syscall(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if pid < 0:
        sys.exit(f"clone3: {os.strerror(ctypes.get_errno())}")
    if pid == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.execvp(sys.argv[2], sys.argv[2:])
    print("born", flush=True)
    os.waitpid(pid, 0)


main()
