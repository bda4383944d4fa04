# SPDX-License-Identifier: MIT
"""Shells that complete a line, as they do for somebody who types it.

    with Bash(tmp_path) as shell:
        shell.complete("dragoman rec").words == {"reconcile"}
        shell.complete("dragoman rec").line == "dragoman reconcile "

bash and zsh run on a terminal of their own: the line is typed, then Tab, then a key on which the
shell tells what its line is by now. What was offered is told by our functions around those that
the shell completes with. fish tells by itself.
"""

import os
import pathlib
import pty
import select
import shlex
import signal
import types

from lab.processes import run
from lab.waiting import wait_until

COMPLETIONS = pathlib.Path(__file__).resolve().parents[2] / "contrib" / "completion"
_REPORT = b"\x18r"  # Ctrl-X r
_KILL_LINE = b"\x15"


class _Interactive:
    """A shell on a terminal. told is where it tells: words of lines, then its own line."""

    def __init__(self, folder, **environment):
        self.folder = folder / self.name
        self.folder.mkdir(parents=True)
        self.words, self.told = self.folder / "words", self.folder / "told"
        setup = self.folder / self.startup
        setup.write_text(self.setup.format(completions=COMPLETIONS, words=self.words,
                                           told=self.told))
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            command = [word.format(setup=setup) for word in self.command]
            os.execve(command[0], command, {
                "PATH": os.environ["PATH"], "HOME": str(self.folder), "ZDOTDIR": str(self.folder),
                "TERM": "dumb", "LC_ALL": "C.UTF-8", "INPUTRC": "/dev/null", **environment})
        self._ask(b"")

    def _has_told(self):
        # What it draws has to be taken, or it would wait for that.
        while select.select([self._terminal], [], [], 0)[0]:
            os.read(self._terminal, 65536)
        return self.told.exists()

    def _ask(self, typed):
        self.words.write_text("")
        self.told.unlink(missing_ok=True)
        os.write(self._terminal, _KILL_LINE + typed + _REPORT)
        wait_until(self._has_told, what=f"{self.name} to tell its line")
        return self.told.read_text().removesuffix("\n")

    def complete(self, line):
        completed = self._ask(line.encode() + b"\t")
        return types.SimpleNamespace(words=set(self.words.read_text().split()), line=completed)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


class Bash(_Interactive):
    name, startup = "bash", "rc"
    command = ["/bin/bash", "--noprofile", "--rcfile", "{setup}", "-i"]
    setup = """
source {completions}/dragoman.bash
spy() {{ _dragoman "$@"; printf '%s\\n' "${{COMPREPLY[@]}}" >{words}; }}
complete -F spy dragoman
tell() {{ printf '%s\\n' "$READLINE_LINE" >{told}.new; mv {told}.new {told}; }}
bind 'set bell-style none'
bind -x '"\\C-xr": tell'
"""


class Zsh(_Interactive):
    name, startup = "zsh", ".zshrc"
    command = ["/bin/zsh", "-i"]
    setup = """
unsetopt beep auto_list auto_menu
fpath=({completions} $fpath)
autoload -U compinit
compinit -u -D
compadd() {{
	local -a hits
	if [[ ${{@[1,(i)(-|--)]}} == *-[OAD]* ]]; then
		builtin compadd "$@"
		return
	fi
	builtin compadd -A hits "$@"
	(( $#hits )) && print -rl -- $hits >>{words}
	builtin compadd "$@"
}}
tell() {{ print -r -- $BUFFER >{told}.new; mv {told}.new {told} }}
zle -N tell
bindkey '^U' kill-whole-line
bindkey '^I' complete-word
bindkey '^Xr' tell
"""


class Fish:
    """fish completes a line that it is given; what it would make of the line it does not tell."""

    name = "fish"

    def __init__(self, folder, **environment):
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb",
                             "LC_ALL": "C.UTF-8", **environment}

    def complete(self, line):
        script = f"source {COMPLETIONS}/dragoman.fish; complete -C {shlex.quote(line)}"
        done = run("/usr/bin/fish", "--no-config", "-c", script, env=self._environment)
        assert done.stderr == "", done.stderr
        words = {each.split("\t")[0] for each in done.stdout.splitlines()}
        # With --option=VALUE it offers the word whole.
        begun = line.split(" ")[-1]
        cut = begun.split("=")[0] + "=" if begun.startswith("--") and "=" in begun else ""
        return types.SimpleNamespace(words={each.removeprefix(cut) for each in words}, line=None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


SHELLS = {each.name: each for each in (Bash, Zsh, Fish)}
