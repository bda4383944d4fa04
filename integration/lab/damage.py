# SPDX-License-Identifier: MIT
"""What a hand may do to a table of ours: nft scripts, or functions of the namespace."""

import re

from lab import nft

_KEY = "127.0.0.1 . tcp . "


def _rules(namespace, chain):
    """Handles of a chain's rules, in order."""
    text = namespace.run("nft", "-a", "list", "chain", "inet", "dragoman", chain).stdout
    return re.findall(r"# handle (\d+)$", text, re.MULTILINE)[1:]


def delete_rule(chain, index):
    def change(namespace):
        nft.load(namespace, f"delete rule inet dragoman {chain} handle "
                 f"{_rules(namespace, chain)[index]}")
    return change


def change_rule(verb, chain, index, rule):
    """verb: replace, insert (before) or add (behind) the rule at index."""
    def change(namespace):
        word = "handle" if verb == "replace" else "position"
        nft.load(namespace, f"{verb} rule inet dragoman {chain} {word} "
                 f"{_rules(namespace, chain)[index]} {rule}")
    return change


def reload(*replacements):
    """Loads the table's own listing again, with texts in it replaced (a pattern each)."""
    def change(namespace):
        text = nft.listing(namespace)
        for pattern, new in replacements:
            changed = re.sub(pattern, new, text, flags=re.DOTALL)
            assert changed != text, pattern
            text = changed
        nft.load(namespace, "delete table inet dragoman\n" + text)
    return change


def _chain_again(chain, declaration):
    """The chain deleted and made anew, its rules as they were."""
    def change(namespace):
        text = nft.listing(namespace, "chain", "inet", "dragoman", chain)
        text, count = re.subn(r"type \w+ hook .*? policy \w+;", declaration, text)
        assert count == 1
        nft.load(namespace, f"delete chain inet dragoman {chain}\n{text}")
    return change


def _used_chain(namespace, family=4, port=80):
    text = nft.listing(namespace, "map", "inet", "dragoman", f"services{family}")
    return re.search(rf"{port} : goto ([\w-]+)", text).group(1)


def _in_used_chain(script):
    """A script about the chain that port 80 goes to: %s stands for it."""
    def change(namespace):
        nft.load(namespace, script.replace("%s", _used_chain(namespace)))
    return change


def _verdict_again(verdict):
    return (f"delete element inet dragoman services4 {{ {_KEY} 80 }}\n"
            f"add element inet dragoman services4 {{ {_KEY} 80 : {verdict} }}")


def _endpoint_again(target, slot=1):
    return (f"delete element inet dragoman endpoints4 {{ {_KEY} 80 . {slot} }}\n"
            f"add element inet dragoman endpoints4 {{ {_KEY} 80 . {slot} : {target} }}")


def _sysctl_off(namespace):
    namespace.sysctl("net.ipv4.conf.all.route_localnet", 0)


def _ip(*words):
    def change(namespace):
        namespace.ip(*words)
    return change


def _both(*changes):
    def change(namespace):
        for each in changes:
            each(namespace) if callable(each) else nft.load(namespace, each)
    return change


_SET4 = r"set unavailable4 \{.*?\n\t\}"
_MAP_ENDPOINTS4 = r"map endpoints4 \{.*?\n\t\}"
_CHAINS = r"\tchain .*\n\}"
_OUR_ROUTE = ("-6", "route", "del", "local", "::1/128", "dev", "eth0", "table", "local",
              "proto", "213")

_CHAIN_DAMAGES = {
    "output-flushed": "flush chain inet dragoman output",
    "postrouting-flushed": "flush chain inet dragoman postrouting",
    "guard-flushed": "flush chain inet dragoman guard",
    "unavailable-flushed": "flush chain inet dragoman unavailable",
    "balance-flushed": _in_used_chain("flush chain inet dragoman %s"),
    "every-chain-flushed": "flush table inet dragoman",
    "rule-added": "add rule inet dragoman output counter",
    "rule-inserted": "insert rule inet dragoman output accept",
    "rule-between": change_rule("add", "output", 0, "meta l4proto tcp accept"),
    "rule-same-twice": 'add rule inet dragoman guard iifname != "lo" ip saddr 127.0.0.0/8 drop',
    "rule-with-comment": 'add rule inet dragoman guard counter comment "dragoman"',
    "first-rule-deleted": delete_rule("guard", 0),
    "last-rule-deleted": delete_rule("unavailable", 3),
    "rule-replaced": change_rule("replace", "guard", 0, 'iifname != "lo" ip daddr 127.0.0.1 drop'),
    "rule-with-counter": change_rule("replace", "guard", 0,
                                     'iifname != "lo" ip daddr 127.0.0.0/8 counter drop'),
    "rules-swapped": _both(delete_rule("guard", 0), 'add rule inet dragoman guard '
                           'iifname != "lo" ip daddr 127.0.0.0/8 drop'),
    "rule-in-balance": _in_used_chain("insert rule inet dragoman %s drop"),
    "rule-behind-balance": _in_used_chain("add rule inet dragoman %s counter"),
    "balance-counts-differently": reload((r"mod 3 map", "mod 2 map")),
    "balance-numbers-differently": reload((r"mod 3 map", "mod 3 offset 1 map")),
    "balance-second-rule-gone": reload(
        (r"(mod 3 map @endpoints4)\n[^\n]*", r"\1")),
    "policy-drop": "chain inet dragoman output { policy drop; }",
    "hook-elsewhere": _chain_again("guard", "type filter hook input priority 0; policy accept;"),
    "hook-later": _chain_again("output", "type nat hook output priority 100; policy accept;"),
    "hook-of-another-type": _chain_again(
        "unavailable", "type route hook output priority 0; policy accept;"),
    "hook-gone": _chain_again("guard", ""),
    "base-chain-deleted": "delete chain inet dragoman guard",
    "chain-renamed": "rename chain inet dragoman guard watch",
    "chains-gone": reload((_CHAINS, "}"), (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
}

_ELEMENT_DAMAGES = {
    "service-deleted": f"delete element inet dragoman services4 {{ {_KEY} 80 }}",
    "services-flushed": "flush map inet dragoman services4",
    "endpoints-flushed": "flush map inet dragoman endpoints4",
    "endpoints6-flushed": "flush map inet dragoman endpoints6",
    "unavailable-elements-flushed": "flush set inet dragoman unavailable4",
    "all-elements-flushed": "flush map inet dragoman services4\nflush map inet dragoman services6\n"
                            "flush map inet dragoman endpoints4\nflush map inet dragoman endpoints6\n"
                            "flush set inet dragoman unavailable4\n"
                            "flush set inet dragoman unavailable6",
    "first-slot-deleted": f"delete element inet dragoman endpoints4 {{ {_KEY} 80 . 0 }}",
    "last-slot-deleted": f"delete element inet dragoman endpoints4 {{ {_KEY} 80 . 2 }}",
    "slot-added": f"add element inet dragoman endpoints4 {{ {_KEY} 80 . 3 : 10.9.9.9 . 9 }}",
    "slot-far-off": f"add element inet dragoman endpoints4 {{ {_KEY} 80 . 4000 : 10.9.9.9 . 9 }}",
    "slot-beyond": f"add element inet dragoman endpoints4 {{ {_KEY} 80 . 70000 : 10.9.9.9 . 9 }}",
    "slot-of-nobody": f"add element inet dragoman endpoints4 {{ {_KEY} 9 . 0 : 10.9.9.9 . 9 }}",
    "slot-changed": _endpoint_again("10.9.9.9 . 9"),
    "slot-doubled": _endpoint_again("10.77.0.1 . 8080"),
    "slot-to-port-0": _endpoint_again("10.77.0.2 . 0"),
    "slot-to-nowhere": _endpoint_again("0.0.0.0 . 8080"),
    "verdict-drop": _verdict_again("drop"),
    "verdict-accept": _verdict_again("accept"),
    "verdict-continue": _verdict_again("continue"),
    "verdict-fewer-slots": f"add chain inet dragoman balance4-1\n{_verdict_again('goto balance4-1')}",
    "verdict-wrong-family": lambda namespace: nft.load(
        namespace, _verdict_again(f"goto {_used_chain(namespace, family=6)}")),
    "verdict-jump": lambda namespace: nft.load(
        namespace, _verdict_again(f"jump {_used_chain(namespace)}")),
    "verdict-foreign-chain": "add chain inet dragoman evil\nadd rule inet dragoman evil drop\n"
                             + _verdict_again("goto evil"),
    "service-added": _in_used_chain(
        f"add element inet dragoman services4 {{ {_KEY} 82 : goto %s }}"),
    "service-dropped-by-hand": f"add element inet dragoman services4 {{ {_KEY} 82 : drop }}",
    "unavailable-added": f"add element inet dragoman unavailable4 {{ {_KEY} 80 }}",
    "unavailable-deleted": f"delete element inet dragoman unavailable4 {{ {_KEY} 5 }}",
    "stray-address": "add element inet dragoman services4 { 127.0.0.2 . tcp . 80 : drop }",
    "stray-foreign-address": "add element inet dragoman services4 { 10.77.0.1 . tcp . 8080 : drop }",
    "stray-protocol": "add element inet dragoman services4 { 127.0.0.1 . sctp . 80 : drop }",
    "stray-port-0": "add element inet dragoman services4 { 127.0.0.1 . tcp . 0 : drop }",
    "stray-endpoint": "add element inet dragoman endpoints4 "
                      "{ 127.0.0.2 . tcp . 80 . 0 : 10.9.9.9 . 9 }",
    "stray-unavailable": "add element inet dragoman unavailable4 { 10.77.0.1 . tcp . 8080 }",
    "stray-six": "add element inet dragoman services6 { fd77::1 . udp . 8080 : drop }",
    "stray-six-endpoint": "add element inet dragoman endpoints6 "
                          "{ ::2 . udp . 80 . 0 : fd77::9 . 9 }",
    "catch-all-service": "add element inet dragoman services4 { * : drop }",
    "catch-all-endpoint": "add element inet dragoman endpoints4 { * : 10.9.9.9 . 9 }",
    "catch-all-unavailable": "add element inet dragoman unavailable4 { * }",
    "commented-element": f"delete element inet dragoman unavailable4 {{ {_KEY} 5 }}\n"
                         f"add element inet dragoman unavailable4 {{ {_KEY} 5 comment \"mine\" }}",
}

_SET_DAMAGES = {
    "map-of-another-type": reload((r"\tchain output \{.*?\n\t\}", ""), (
        r"map services4 \{.*?\n\t\}", "map services4 { type inet_service : verdict; }")),
    "map-of-shorter-data": reload((_CHAINS, "}"), (
        _MAP_ENDPOINTS4, "map endpoints4 { typeof ip daddr . meta l4proto . th dport . "
                         "numgen random mod 2 : ip daddr; counter; }"),
        (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "map-without-counter": reload((_CHAINS, "}"), (r"\tcounter\n", "\n"),
                                  (r" counter packets \d+ bytes \d+", ""),
                                  (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "set-of-another-type": reload((_CHAINS, "}"), (_SET4, "set unavailable4 { type inet_service; }"),
                                  (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "set-for-a-map": reload((_CHAINS, "}"), (
        r"map services4 \{.*?\n\t\}",
        "set services4 { typeof ip daddr . meta l4proto . th dport; }"),
        (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "map-for-a-set": reload((_CHAINS, "}"), (
        _SET4, "map unavailable4 { typeof ip daddr . meta l4proto . th dport : verdict; }"),
        (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "set-with-timeout": reload((_CHAINS, "}"), (
        _SET4, "set unavailable4 { type ipv4_addr . inet_proto . inet_service; "
               "flags timeout; timeout 1h; elements = { 127.0.0.1 . tcp . 5 } }"),
        (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "set-with-interval": reload((_CHAINS, "}"), (
        _SET4, "set unavailable4 { type ipv4_addr . inet_proto . inet_service; flags interval; "
               "elements = { 127.0.0.0/8 . tcp . 1-1000 } }"),
        (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "set-with-size": reload((_CHAINS, "}"), (
        _SET4, "set unavailable4 { type ipv4_addr . inet_proto . inet_service; size 3; }"),
        (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "dynamic-map": reload((_CHAINS, "}"), (
        _MAP_ENDPOINTS4, "map endpoints4 { typeof ip daddr . meta l4proto . th dport . "
                         "numgen random mod 2 : ip daddr . th dport; size 65535; "
                         "flags dynamic; counter; }"),
        (r"elements = \{[^}]*?(goto)[^}]*?\}", "")),
    "set-deleted": _both("flush chain inet dragoman unavailable",
                         "delete set inet dragoman unavailable4"),
}

_TABLE_DAMAGES = {
    "table-deleted": "delete table inet dragoman",
    "ruleset-flushed": "flush ruleset",
    "table-emptied": "delete table inet dragoman\nadd table inet dragoman",
    "table-dormant": "table inet dragoman { flags dormant; }",
    "comment-of-another-schema": reload((r'comment "dragoman schema=\d+', 'comment "dragoman schema=99')),
    "foreign-chain": "add chain inet dragoman evil\nadd rule inet dragoman evil drop",
    "foreign-chain-entered": "add chain inet dragoman evil\nadd rule inet dragoman evil drop\n"
                             "insert rule inet dragoman output jump evil",
    "foreign-chains-in-a-row": "add chain inet dragoman evil\nadd chain inet dragoman evil2\n"
                               "add rule inet dragoman evil2 drop\n"
                               "add rule inet dragoman evil goto evil2\n"
                               "insert rule inet dragoman output jump evil",
    "foreign-chain-hooked": "add chain inet dragoman evil "
                            "{ type filter hook output priority -500; policy drop; }",
    "foreign-chain-uses-ours": "add chain inet dragoman evil\nadd rule inet dragoman evil "
                               "ip daddr . meta l4proto . th dport @unavailable4 drop",
    "foreign-chain-enters-ours": _in_used_chain(
        "add chain inet dragoman evil { type nat hook output priority 50; }\n"
        "add rule inet dragoman evil goto %s"),
    "foreign-chain-of-our-kind-of-name": "add chain inet dragoman balance4-0\n"
                                         "add chain inet dragoman balance4-03\n"
                                         "add chain inet dragoman balance5-3\n"
                                         "add chain inet dragoman nth4-0-tcp\n"
                                         "add chain inet dragoman nth4-80-sctp",
    "foreign-set": "add set inet dragoman evil { type ipv4_addr; }",
    "foreign-set-used": "add set inet dragoman evil { type ipv4_addr; }\n"
                        "insert rule inet dragoman output ip daddr @evil drop",
    "foreign-map-to-ours": _in_used_chain(
        "add map inet dragoman evil { type inet_service : verdict; elements = { 9 : goto %s } }"),
    "anonymous-set-in-our-chain": "insert rule inet dragoman output tcp dport { 80, 81 } drop",
    "foreign-counter": "add counter inet dragoman evil",
    "foreign-counter-used": 'add counter inet dragoman evil\n'
                            'insert rule inet dragoman output counter name "evil"',
    "foreign-quota-used": "add quota inet dragoman evil { over 1 bytes }\n"
                          'insert rule inet dragoman output quota name "evil" drop',
    "unused-balance-chain": "add chain inet dragoman balance4-9",
    "unused-balance-chain-with-rules": "add chain inet dragoman balance4-9\n"
                                       "add rule inet dragoman balance4-9 drop",
    "unused-nth-chain": "add chain inet dragoman nth4-999-tcp\n"
                        "add rule inet dragoman nth4-999-tcp drop",
}

# Outside of the table.
_OTHER_DAMAGES = {
    "sysctl-off": _sysctl_off,
    "route-deleted": _ip(*_OUR_ROUTE),
    "route-of-another-metric": _both(_ip(*_OUR_ROUTE), _ip(
        "-6", "route", "add", "local", "::1/128", "dev", "eth0", "table", "local", "metric", "77",
        "proto", "213")),
    "route-in-another-table": _ip("-6", "route", "add", "local", "::1/128", "dev", "eth0",
                                  "table", "77", "proto", "213"),
    "route-on-lo": _ip("-6", "route", "append", "local", "::1/128", "dev", "lo", "table", "local",
                       "metric", "2048", "proto", "213"),
    "everything": _both("delete table inet dragoman", _sysctl_off, _ip(*_OUR_ROUTE)),
}

DAMAGES = {**_CHAIN_DAMAGES, **_ELEMENT_DAMAGES, **_SET_DAMAGES, **_TABLE_DAMAGES, **_OTHER_DAMAGES}

# Those that the way of balancing makes a difference for.
OF_CHAINS = [name for name in DAMAGES
             if "balance" in name or "verdict" in name or "nth" in name or "ours" in name
             or name in ("every-chain-flushed", "chains-gone", "map-of-another-type", "everything",
                         "endpoints-flushed", "last-slot-deleted", "table-dormant")]

# Nothing depends on these, and they may stay: words beside an element, named
# objects that no rule uses (any more).
UNSEEN = {"foreign-counter", "commented-element"}
LEFTOVER = UNSEEN | {"foreign-counter-used", "foreign-quota-used"}
