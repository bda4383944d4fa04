# SPDX-License-Identifier: MIT
"""The parts of the shells' completions that say which command takes what.

How a namespace or a container is completed is written by hand in contrib/completion/; what is
between the two marks there is made from the parser's table, and is the same, byte for byte, as
long as nobody forgot to (`make completion`).
"""

import re

BEGIN = "# --- From the table of options: make completion ---"
END = "# --- To here ---"
FILES = ("dragoman.bash", "_dragoman", "dragoman.fish")

# What is completed for an argument, by what help calls it; and where that does not say it.
_ARGUMENTS = {"NAME|PATH": "netns", "PID": "pid", "NAME|ID": "container", "FILE": "file",
              "NAME=DESCRIPTOR": "", "PREFIX": "", "USER": "", "NAME": "", "N": "", "SECONDS": "",
              "CIDR[,CIDR...]": "", "ADDR:PORT": ""}
_OPTIONS = {"socket": "file", "root": "", "registry": "registry", "docker": "docker"}


class Unknown(Exception):
    pass


def choices(option):
    """The words that an option takes and no other; none where they are not bounded."""
    argument = option["argument"] or ""
    return argument.split("|") if re.fullmatch(r"[a-z]+(\|[a-z]+)+", argument) else []


def kind(option):
    """netns, pid, container, file, registry, docker, words, flag, or "": there is nothing to say."""
    argument = option["argument"]
    if argument is None:
        return "flag"
    if option["name"] in _OPTIONS:
        return _OPTIONS[option["name"]]
    if choices(option):
        return "words"
    if argument not in _ARGUMENTS:
        raise Unknown(f"completion: nothing says what is completed for --{option['name']} {argument}")
    return _ARGUMENTS[argument]


def _spellings(option):
    return [f"-{option['letter']}"] * bool(option["letter"]) + [f"--{option['name']}"]


def _first_sentence(text):
    """Or what is before its colon, where it is a long one."""
    sentence = re.split(r"\.(?: |$)", text)[0]
    return sentence if len(sentence) <= 100 else sentence.split(": ")[0]


def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def _wrapped(words, indent, last):
    """Words in lines of a hundred columns at most, with a backslash between them."""
    lines, line = [], indent
    for word in words:
        if len(line.expandtabs(8)) + len(word) > 96:
            lines.append(line.rstrip() + " \\")
            line = indent
        line += word + " "
    return [*lines, line.rstrip() + last]


def _bash(table, schemes):
    names = [command["name"] for command in table["commands"]]
    yield f"_dragoman_commands='{' '.join([*names, 'help'])}'"
    yield f"_dragoman_schemes='{' '.join(schemes)}'"
    yield ""
    yield "_dragoman_options() { # COMMAND"
    yield "\tcase $1 in"
    for name in names:
        words = [word for option in table["options"] if name in option["commands"]
                 for word in _spellings(option)]
        yield f"\t{name})"
        yield from _wrapped(["echo", *words], "\t\t", " ;;")
    yield "\tesac"
    yield "}"
    yield ""
    yield "# What its value is; nothing where it takes none, \"any\" where there is nothing to say."
    yield "_dragoman_value() { # OPTION"
    yield "\tcase $1 in"
    for option in table["options"]:
        what = kind(option)
        if what == "flag":
            continue
        if what == "words":
            what = f"'words {' '.join(choices(option))}'"
        yield f"\t{' | '.join(_spellings(option))}) echo {what or 'any'} ;;"
    yield "\tesac"
    yield "}"


def _zsh_value(option):
    what, name = kind(option), option["argument"].replace(":", "\\:")
    actions = {"netns": "_dragoman_netns", "pid": "_pids", "container": "_dragoman_containers",
               "file": "_files", "registry": "_dragoman_registry", "docker": "_dragoman_docker",
               "words": f"({' '.join(choices(option))})", "": " "}
    return f":{name}:{actions[what]}"


def _zsh_spec(option, many):
    about = re.sub(r"([][\\])", r"\\\1", _first_sentence(option["help"]))
    again = many or "May be given again" in option["help"]
    spellings = _spellings(option)
    value = "" if kind(option) == "flag" else _zsh_value(option)
    if value:
        spellings = [each + ("=" if each.startswith("--") else "+") for each in spellings]
    if len(spellings) == 1:
        return _quoted(f"{'*' * again}{spellings[0]}[{about}]{value}")
    exclusive = "'*'" if again else f"'({' '.join(_spellings(option))})'"
    return f"{exclusive}{{{','.join(spellings)}}}{_quoted(f'[{about}]{value}')}"


def _zsh(table, schemes):
    yield "_dragoman_commands=("
    for command in table["commands"]:
        yield f"\t{_quoted(command['name'] + ':' + command['summary'].replace(':', chr(92) + ':'))}"
    yield "\t'help:show the commands, or the options of one'"
    yield ")"
    yield f"_dragoman_schemes=({' '.join(schemes)})"
    yield ""
    yield "_dragoman_specs() { # COMMAND: into specs, of _arguments"
    for option in table["options"]:
        # Of a command with any number of targets each may be given again.
        many = {command["name"] for command in table["commands"]
                if command["target"] == "any" and option["name"] in ("netns", "pid")}
        for again in (False, True):
            names = [name for name in option["commands"] if (name in many) == again]
            if names:
                yield f"\t[[ $1 == ({'|'.join(names)}) ]] && specs+=({_zsh_spec(option, again)})"
    for command in table["commands"]:
        if command["argument"]:
            yield f"\t[[ $1 == {command['name']} ]] && specs+=({_quoted(':' + command['argument'] + ': ')})"
    yield "}"


def _fish(table, schemes):
    values = {"netns": "-x -a '(__dragoman_netns)'", "pid": "-x -a '(__fish_complete_pids)'",
              "container": "-x -a '(__dragoman_containers)'", "file": "-r -F",
              "registry": f"-x -a '{' '.join(schemes)}'",
              "docker": "-x -a 'unix:///var/run/docker.sock tcp://'", "": "-x", "flag": ""}
    for command in table["commands"]:
        yield (f"complete -c dragoman -n __dragoman_no_command -a {command['name']} "
               f"-d {_quoted(command['summary'])}")
    yield ("complete -c dragoman -n __dragoman_no_command -a help "
           "-d 'show the commands, or the options of one'")
    names = " ".join(command["name"] for command in table["commands"])
    yield f"complete -c dragoman -n '__dragoman_command help' -a '{names}'"
    for option in table["options"]:
        what = kind(option)
        value = (f"-x -a '{' '.join(choices(option))}'" if what == "words"
                 else values[what])
        letter = f"-s {option['letter']} " if option["letter"] else ""
        yield (f"complete -c dragoman -n '__dragoman_command {' '.join(option['commands'])}' "
               f"{letter}-l {option['name']} {value}{' ' * bool(value)}"
               f"-d {_quoted(_first_sentence(option['help']))}")


_SHELLS = dict(zip(FILES, (_bash, _zsh, _fish)))


def made(file, table, schemes):
    """What stands between the marks of a file."""
    return "\n".join(_SHELLS[file](table, schemes)) + "\n"


def replaced(file, text, table, schemes):
    """The whole of a file with that part made anew."""
    before, rest = text.split(BEGIN + "\n", 1)
    return before + BEGIN + "\n" + made(file, table, schemes) + END + "\n" + rest.split(END + "\n", 1)[1]
