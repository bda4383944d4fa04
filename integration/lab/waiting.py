# SPDX-License-Identifier: MIT
"""Waiting for a condition, never for a time."""

import time


def wait_until(condition, deadline=10.0, what="the condition"):
    """Returns the first true value of condition(), or fails after deadline seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {deadline} s in vain for {what}"
        time.sleep(0.005)
