# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of dragoman(8) for bash(1): /usr/share/bash-completion/completions/dragoman

# --- From the table of options: make completion ---
_dragoman_commands='reconcile plan resolve flush run status explain hook help'
_dragoman_schemes='etcd:// etcds:// etcd2:// etcd2s:// consul:// consuls:// file:///'

_dragoman_options() { # COMMAND
	case $1 in
	reconcile)
		echo --netns --pid --container --docker --allow-host-netns --force -b --backend \
		--env-file --env-prefix --registry --root --tls-ca --tls-cert --tls-key \
		--registry-user --registry-password-file --consul-datacenter --consul-namespace \
		--consul-stale --allow-endpoints --balance --on-empty --on-remove --timeout \
		--socket --json --log-level -h --help ;;
	plan)
		echo --netns --pid --container --docker --allow-host-netns -b --backend \
		--env-file --env-prefix --registry --root --tls-ca --tls-cert --tls-key \
		--registry-user --registry-password-file --consul-datacenter --consul-namespace \
		--consul-stale --allow-endpoints --balance --on-empty --on-remove --timeout \
		--json --log-level -h --help ;;
	resolve)
		echo --registry --root --tls-ca --tls-cert --tls-key --registry-user \
		--registry-password-file --consul-datacenter --consul-namespace --consul-stale \
		--allow-endpoints --timeout --json --log-level -h --help ;;
	flush)
		echo --netns --pid --container --docker --allow-host-netns --force --on-remove \
		--timeout --socket --json --log-level -h --help ;;
	run)
		echo --netns --pid --docker --allow-host-netns -b --backend --env-file \
		--env-prefix --registry --root --tls-ca --tls-cert --tls-key --registry-user \
		--registry-password-file --consul-datacenter --consul-namespace --consul-stale \
		--consul-connections --allow-endpoints --balance --on-empty --on-remove \
		--timeout --resync --flush-on-exit --socket --metrics --no-seccomp --log-level \
		-h --help ;;
	status)
		echo --container --timeout --socket -w --watch --json --log-level -h --help ;;
	explain)
		echo --netns --pid --container --docker --allow-host-netns -b --backend \
		--env-file --env-prefix --registry --root --tls-ca --tls-cert --tls-key \
		--registry-user --registry-password-file --consul-datacenter --consul-namespace \
		--consul-stale --allow-endpoints --timeout --socket --probe --json --log-level \
		-h --help ;;
	hook)
		echo --env-prefix --registry --root --tls-ca --tls-cert --tls-key \
		--registry-user --registry-password-file --consul-datacenter --consul-namespace \
		--consul-stale --allow-endpoints --balance --on-empty --timeout --socket \
		--config --required --log-level -h --help ;;
	esac
}

# What its value is; nothing where it takes none, "any" where there is nothing to say.
_dragoman_value() { # OPTION
	case $1 in
	--netns) echo netns ;;
	--pid) echo pid ;;
	--container) echo container ;;
	--docker) echo docker ;;
	-b | --backend) echo any ;;
	--env-file) echo file ;;
	--env-prefix) echo any ;;
	--registry) echo registry ;;
	--root) echo any ;;
	--tls-ca) echo file ;;
	--tls-cert) echo file ;;
	--tls-key) echo file ;;
	--registry-user) echo any ;;
	--registry-password-file) echo file ;;
	--consul-datacenter) echo any ;;
	--consul-namespace) echo any ;;
	--consul-connections) echo any ;;
	--allow-endpoints) echo any ;;
	--balance) echo 'words random nth' ;;
	--on-empty) echo 'words reject hold' ;;
	--on-remove) echo 'words drain reset' ;;
	--timeout) echo any ;;
	--resync) echo any ;;
	--socket) echo file ;;
	--metrics) echo any ;;
	--config) echo file ;;
	--log-level) echo 'words error warn info debug' ;;
	esac
}
# --- To here ---

# Nothing is asked that could take long: an engine gets a second, and says nothing.
_dragoman_containers() { # WORD...: the line, which may name the engine
	local engine=() at
	for ((at = 1; at <= $#; at++)); do
		case ${!at} in
		--docker=*) engine=(-H "${!at#*=}") ;;
		--docker) ((at++)) && engine=(-H "${!at}") ;;
		esac
	done
	command -v docker >/dev/null && timeout 1 docker "${engine[@]}" ps --format '{{.Names}}' 2>/dev/null
}

_dragoman_netns() { # as far as it is typed
	if [[ $1 == */* ]]; then
		compgen -f -- "$1"
	else
		(cd /run/netns 2>/dev/null && compgen -f -- "$1")
	fi
}

_dragoman_pids() {
	(cd /proc && compgen -G '[0-9]*')
}

_dragoman_words() { # KIND-OF-VALUE WORD LINE...
	case $1 in
	netns) _dragoman_netns "$2" ;;
	pid) compgen -W "$(_dragoman_pids)" -- "$2" ;;
	container) compgen -W "$(_dragoman_containers "${@:3}")" -- "$2" ;;
	file) compgen -f -- "$2" ;;
	registry) compgen -W "$_dragoman_schemes" -- "$2" ;;
	docker) compgen -W 'unix:///var/run/docker.sock tcp://' -- "$2" ;;
	'words '*) compgen -W "${1#words }" -- "$2" ;;
	esac
}

# The words up to the cursor are taken from the line, since bash has cut them at each = and :.
_dragoman() {
	local line=${COMP_LINE:0:COMP_POINT} words current previous='' command option value cut='' kept=''
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=('')
	current=${words[-1]}
	command=${words[1]}
	((${#words[@]} > 2)) && previous=${words[-2]}
	COMPREPLY=()

	if ((${#words[@]} <= 2)); then
		mapfile -t COMPREPLY < <(compgen -W "$_dragoman_commands --help --version" -- "$current")
		return
	fi
	if [[ $command == help ]]; then
		mapfile -t COMPREPLY < <(compgen -W "${_dragoman_commands% help}" -- "$current")
		return
	fi
	option=$previous
	if [[ $current == --*=* ]]; then
		option=${current%%=*}
		[[ $COMP_WORDBREAKS == *=* ]] || kept=$option=
		current=${current#*=}
	fi
	value=$(_dragoman_value "$option")
	if [[ -n $value ]]; then
		mapfile -t COMPREPLY < <(_dragoman_words "$value" "$current" "${words[@]}")
		[[ $value == file || $current == */* ]] && compopt -o filenames 2>/dev/null
	elif [[ $current == -* || -z $current ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_dragoman_options "$command")" -- "$current")
	fi
	# bash replaces what is behind the last = or : only.
	[[ $current == *:* && $COMP_WORDBREAKS == *:* ]] && cut=${current%"${current##*:}"}
	COMPREPLY=("${COMPREPLY[@]#"$cut"}")
	COMPREPLY=("${COMPREPLY[@]/#/$kept}")
	# Something that goes on is no word yet.
	[[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/] ]] && compopt -o nospace 2>/dev/null
	return 0
}

complete -F _dragoman dragoman
