# SPDX-License-Identifier: MIT
"""Programs of other Debian releases, unpacked into a folder; nothing is installed.

    with Releases() as releases:
        releases.program("etcd-server", "usr/bin/etcd")    # a path, of releases.other
        releases.program("consul", "usr/bin/consul", 11)

On Debian 12 the other release is 13, and the other way round. The packages come
from where the machine takes its own: the first source that names the machine's
release says the mirror and the key, and apt, with lists and a cache of its own,
does the rest. What was unpacked stays for the session; DRAGOMAN_RELEASES names a
folder where it stays for the next ones too.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

CODENAMES = {11: "bullseye", 12: "bookworm", 13: "trixie"}
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TRIES = 3


def host_release():
    words = pathlib.Path("/etc/os-release").read_text()
    found = re.search(r'^VERSION_ID="?(\d+)', words, re.MULTILINE)
    assert found and int(found[1]) in CODENAMES, f"this is no Debian that is known: {words}"
    return int(found[1])


def _stanzas(text):
    """The stanzas of a deb822 file, each a dictionary of lower-case names."""
    for block in re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)):
        fields, name = {}, None
        for line in block.splitlines():
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields:
            yield fields


def _lines(text):
    """The lines of a sources.list, as stanzas."""
    for line in text.splitlines():
        found = re.match(r"\s*(deb)\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if found:
            options = dict(each.split("=", 1) for each in (found[2] or "").split() if "=" in each)
            yield {"types": found[1], "uris": found[3], "suites": found[4],
                   "components": found[5].strip(),
                   **{name.lower(): value for name, value in options.items()}}


def _is_of(stanza, codename):
    return ("deb" in stanza.get("types", "").split()
            and {codename, "stable", "oldstable"} & set(stanza.get("suites", "").split())
            and "main" in stanza.get("components", "").split()
            and stanza.get("enabled", "yes").lower() not in ("no", "false", "0"))


def machine_source(codename, folder=pathlib.Path("/etc/apt")):
    """The stanza of the machine's own sources that brings its release."""
    found = []
    for path in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        if path.suffix == ".sources":
            found += _stanzas(path.read_text())
        elif path.suffix == ".list" and path.exists():
            found += _lines(path.read_text())
    found = [stanza for stanza in found if _is_of(stanza, codename)]
    assert found, f"no source below {folder} brings {codename}"
    return found[0]


class Releases:
    """Packages of other releases. Usable with `with`."""

    def __init__(self):
        self.host = host_release()
        self.other = 12 if self.host == 13 else 13
        kept = os.environ.get("DRAGOMAN_RELEASES")
        self._kept = bool(kept)
        self.folder = pathlib.Path(kept or tempfile.mkdtemp(prefix="dragoman-releases-"))

    def program(self, package, path, release=None):
        """A file of a package."""
        found = self.unpack(package, release=release) / path
        assert found.exists(), f"{package} has no {path}"
        return found

    def unpack(self, *packages, release=None, name=None):
        """A folder of their own with the packages' files, and nothing that they depend on."""
        release = release or self.other
        place = self.folder / str(release)
        root = place / "roots" / (name or packages[0])
        if not root.exists():
            # Moved when it is whole: what was cut off is not there.
            half = root.with_name(root.name + ".half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            for package in packages:
                subprocess.run(["dpkg", "-x", self._download(release, package), half], check=True)
            half.rename(root)
        return root

    def _download(self, release, package):
        place = self.folder / str(release)
        if not (place / "updated").exists():
            self._prepare(place, release)
            self._apt(place, "update")
            (place / "updated").touch()
        self._apt(place, "download", package)
        return max((place / "packages").glob(f"{package}_*.deb"))

    def _prepare(self, place, release):
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (place / name).mkdir(parents=True, exist_ok=True)
        (place / "status").touch()
        source = machine_source(CODENAMES[self.host])
        (place / "apt.sources").write_text(
            f"Types: deb\nURIs: {source['uris']}\nSuites: {CODENAMES[release]}\n"
            f"Components: main\nSigned-By: {source.get('signed-by', _KEYRING)}\n")

    def _apt(self, place, *words):
        """apt-get with a state of its own, as often as a slow mirror needs."""
        options = {
            "Dir::Etc::sourcelist": place / "apt.sources", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::Lists": place / "lists", "Dir::State::status": place / "status",
            "Dir::Cache": place / "cache", "APT::Default-Release": "",
            # The folder is root's alone.
            "APT::Sandbox::User": "root",
            # The one index that is needed.
            "Acquire::Languages": "none", "Acquire::PDiffs": "false",
            "Acquire::Retries": "3", "Acquire::http::Timeout": "60",
            "APT::Update::Error-Mode": "any",
        }
        command = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items()),
                   *words]
        for _ in range(_TRIES):
            done = subprocess.run(command, cwd=place / "packages", stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors="replace")
            if done.returncode == 0:
                return
        raise AssertionError(f"apt-get {' '.join(words)}: exit {done.returncode}\n{done.stdout}")

    def close(self):
        if not self._kept:
            shutil.rmtree(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
