/* SPDX-License-Identifier: MIT */
#include "kernel_damage.h"

#include "dragoman/base/memory.h"
#include "kernel_lab.h"

const char *const kernel_damages[] = {
	"nft flush map inet dragoman endpoints4",
	"nft flush map inet dragoman services6",
	"nft flush set inet dragoman unavailable4",
	"nft delete element inet dragoman services4 '{ 127.0.0.1 . tcp . 80 }'",
	"nft delete element inet dragoman endpoints6 '{ ::1 . tcp . 80 . 0 }'",
	"nft delete element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 6379 . 1 }'",
	"nft add element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 80 . 9 : 9.9.9.9 . 9 }'",
	"nft add element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 9 . 0 : 9.9.9.9 . 9 }'",
	"nft add element inet dragoman endpoints4 '{ 127.0.0.9 . tcp . 9 . 0 : 9.9.9.9 . 9 }'",
	"nft add element inet dragoman endpoints4 '{ 127.0.0.1 . tcp . 9 . 99999 : 9.9.9.9 . 9 }'",
	"nft add element inet dragoman unavailable4 '{ 127.0.0.2 . tcp . 80 }'",
	"nft add element inet dragoman unavailable6 '{ ::1 . sctp . 80 }'",
	"nft add element inet dragoman unavailable6 '{ ::1 . udp . 53 }'",
	"nft add element inet dragoman services4 '{ 127.0.0.1 . udp . 9 : drop }'",
	"nft add element inet dragoman services4 '{ 127.0.0.3 . udp . 9 : accept }'",
	"nft add element inet dragoman services4 '{ * : drop }'",
	"nft flush chain inet dragoman guard",
	"nft flush chain inet dragoman output",
	"nft flush chain inet dragoman balance4-2",
	"nft flush chain inet dragoman nth4-80-tcp",
	"nft insert rule inet dragoman balance6-1 counter",
	"nft add rule inet dragoman nth6-53-udp counter",
	"nft add rule inet dragoman guard drop",
	("h=$(nft -a list chain inet dragoman guard | sed -n 's/.*saddr.* handle //p') &&"
	 " nft delete rule inet dragoman guard handle $h"),
	("h=$(nft -a list chain inet dragoman output | sed -n 's/.*ip6.* handle //p') &&"
	 " nft replace rule inet dragoman output handle $h counter"),
	"nft insert rule inet dragoman postrouting meta mark 7 accept",
	"nft delete chain inet dragoman guard",
	"nft add chain inet dragoman balance4-4095",
	"nft add chain inet dragoman nth6-9-udp",
	"nft add chain inet dragoman theirs '{ type filter hook input priority 0; }'",
	"nft add chain inet dragoman guard '{ policy drop; }'",
	("nft 'add chain inet dragoman theirs; add chain inet dragoman other;"
	 " add rule inet dragoman other jump theirs; add rule inet dragoman output jump other'"),
	("nft 'add chain inet dragoman theirs;"
	 " add element inet dragoman services4 { 127.0.0.1 . tcp . 80 : goto theirs }'"),
	("nft 'add chain inet dragoman theirs;"
	 " add element inet dragoman services4 { 127.0.0.1 . tcp . 81 : jump theirs }'"),
	"nft add set inet dragoman blocklist '{ type ipv4_addr; }'",
	("nft 'add set inet dragoman blocklist { type ipv4_addr; };"
	 " add rule inet dragoman guard ip saddr @blocklist drop'"),
	("nft 'add chain inet dragoman theirs; add map inet dragoman them { type mark : verdict; };"
	 " add element inet dragoman them { 1 : goto theirs };"
	 " add rule inet dragoman output meta mark vmap @them'"),
	"nft add counter inet dragoman visits",
	("nft 'flush table inet dragoman; flush set inet dragoman unavailable4;"
	 " delete set inet dragoman unavailable4'"),
	("nft 'flush table inet dragoman; delete set inet dragoman unavailable4;"
	 " add set inet dragoman unavailable4 { type ipv4_addr; }'"),
	"nft 'flush table inet dragoman; delete map inet dragoman endpoints6'",
	("nft 'flush chain inet dragoman unavailable; delete set inet dragoman unavailable6;"
	 " add set inet dragoman unavailable6 { typeof ip6 daddr . meta l4proto . th dport;"
	 " timeout 1h; }'"),
	("nft 'flush chain inet dragoman output; delete map inet dragoman services6;"
	 " add map inet dragoman services6 { typeof ip6 daddr . meta l4proto . th dport : meta mark;"
	 " }'"),
	"nft add table inet dragoman '{ flags dormant; }'",
	"nft delete table inet dragoman",
	"nft flush table inet dragoman",
	"nft flush ruleset",
	"nft 'delete table inet dragoman; add table inet dragoman'",
	"nft 'delete table inet dragoman; add table inet dragoman { comment \"hello\"; }'",
	"nft add table ip dragoman",
	("echo 0 >" LOCALNET),
	"ip -6 route flush proto 213 table local",
	"ip -6 route add local ::1/128 dev d0 table local metric 99 proto 213",
	"ip link set d0 down",
	"ip link set d0 up",
	"ip link add d1 type veth peer name d8 && ip link set d1 up",
	"ip link del d1",
};

const size_t kernel_damage_count = ARRAY_SIZE(kernel_damages);
