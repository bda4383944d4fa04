# SPDX-License-Identifier: MIT
"""Which machine it was, which versions, and how busy others kept it."""

import datetime
import os
import pathlib
import platform
import re
import resource
import shutil
import subprocess

PROGRAMS = {
    "dragoman": ("dragoman", "--version"), "nft": ("nft", "--version"),
    "iptables": ("iptables", "--version"), "nftlb": ("nftlb", "--help"),
    "haproxy": ("haproxy", "-v"), "nginx": ("nginx", "-v"), "etcd": ("etcd", "--version"),
    "docker": ("dockerd", "--version"), "wrk": ("wrk", "--version"), "gcc": ("gcc", "--version"),
}


def _version(words):
    if not shutil.which(words[0]):
        return None
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    found = re.search(r"\d+\.\d+[\w.-]*", done.stdout + done.stderr)
    return found[0] if found else None


def _processor():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _distribution():
    text = pathlib.Path("/etc/os-release").read_text()
    return re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)[1]


def describe():
    from lab.command import PROGRAM

    words = {**PROGRAMS, "dragoman": (PROGRAM, "--version")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "processor": _processor(), "processors": os.cpu_count(), "memory": memory,
            "kernel": platform.release(), "distribution": _distribution(),
            "versions": {name: found for name, each in words.items()
                         if (found := _version(each))}}


def busy():
    """Processor time so far, of all of the machine and of us."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    ticks = [int(each) for each in fields]
    whole, idle, stolen = sum(ticks), ticks[3] + ticks[4], ticks[7]
    own = sum(sum(resource.getrusage(who)[:2])
              for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return whole, idle, stolen, own


def share(before):
    """How much of the machine others had meanwhile: what makes figures noisy."""
    whole, idle, stolen, own = (after - was for after, was in zip(busy(), before))
    second = os.sysconf("SC_CLK_TCK")
    others = max(0.0, (whole - idle - stolen) / second - own)
    return (f"of the processors others had up to {100 * others * second / max(1, whole):.0f} %, "
            f"the host {100 * stolen / max(1, whole):.0f} %")


def kernel_memory():
    """Bytes that the kernel has for itself and cannot give back by itself."""
    text = pathlib.Path("/proc/meminfo").read_text()
    return 1024 * sum(int(re.search(rf"^{name}: +(\d+) kB$", text, re.MULTILINE)[1])
                      for name in ("SUnreclaim", "Percpu"))
