# SPDX-License-Identifier: MIT
# Completion of dragoman(8) for fish(1): /usr/share/fish/vendor_completions.d/dragoman.fish

function __dragoman_no_command
    test (count (commandline -opc)) -eq 1
end

# Whether the command, which is the first word, is one of these.
function __dragoman_command
    set -l words (commandline -opc)
    test (count $words) -ge 2; and contains -- $words[2] $argv
end

function __dragoman_netns
    set -l names /run/netns/*
    string replace -r '.*/(.*)' '$1\tnamespace' -- $names
    string match -q '*/*' -- (commandline -ct); and __fish_complete_path (commandline -ct)
end

# Nothing is asked that could take long: an engine gets a second, and says nothing.
function __dragoman_containers
    set -l words (commandline -opc)
    set -l engine (string replace -rf -- '^--docker=' '' $words)
    if set -l at (contains -i -- --docker $words)
        set engine $words[(math $at + 1)]
    end
    test -n "$engine"; and set engine -H $engine
    command -q docker; and timeout 1 docker $engine ps --format '{{.Names}}{{"\t"}}{{.Image}}' 2>/dev/null
end

complete -c dragoman -f
complete -c dragoman -n __dragoman_no_command -l help -d 'Show the commands'
complete -c dragoman -n __dragoman_no_command -l version -d 'Show the version'
# --- From the table of options: make completion ---
complete -c dragoman -n __dragoman_no_command -a reconcile -d 'make one network namespace true, once'
complete -c dragoman -n __dragoman_no_command -a plan -d 'show what reconcile would change; change nothing'
complete -c dragoman -n __dragoman_no_command -a resolve -d 'show what a descriptor stands for: endpoints, skipped documents'
complete -c dragoman -n __dragoman_no_command -a flush -d 'take every trace out of a network namespace'
complete -c dragoman -n __dragoman_no_command -a run -d 'watch this host'\''s containers and keep their rules true'
complete -c dragoman -n __dragoman_no_command -a status -d 'show what the running agent knows'
complete -c dragoman -n __dragoman_no_command -a explain -d 'show why localhost:PORT goes where it goes'
complete -c dragoman -n __dragoman_no_command -a hook -d 'make a container'\''s namespace true before its process starts'
complete -c dragoman -n __dragoman_no_command -a help -d 'show the commands, or the options of one'
complete -c dragoman -n '__dragoman_command help' -a 'reconcile plan resolve flush run status explain hook'
complete -c dragoman -n '__dragoman_command reconcile plan flush run explain' -l netns -x -a '(__dragoman_netns)' -d 'The namespace that ip-netns(8) knows by NAME, or the nsfs file at PATH'
complete -c dragoman -n '__dragoman_command reconcile plan flush run explain' -l pid -x -a '(__fish_complete_pids)' -d 'The namespace of process PID'
complete -c dragoman -n '__dragoman_command reconcile plan flush status explain' -l container -x -a '(__dragoman_containers)' -d 'The namespace of that Docker container, and the descriptors of every running container in it'
complete -c dragoman -n '__dragoman_command reconcile plan flush run explain' -l docker -x -a 'unix:///var/run/docker.sock tcp://' -d 'The Docker engine of this host: unix:///PATH or tcp://HOST:PORT'
complete -c dragoman -n '__dragoman_command reconcile plan flush run explain' -l allow-host-netns -d 'Work on the host'\''s own namespace too, which is refused otherwise'
complete -c dragoman -n '__dragoman_command reconcile flush' -l force -d 'Work on a namespace that a running agent keeps, which is refused otherwise'
complete -c dragoman -n '__dragoman_command reconcile plan run explain' -s b -l backend -x -d 'A descriptor, instead of the target'\''s own'
complete -c dragoman -n '__dragoman_command reconcile plan run explain' -l env-file -r -F -d 'Descriptors from lines NAME=DESCRIPTOR, instead of the target'\''s own'
complete -c dragoman -n '__dragoman_command reconcile plan run explain hook' -l env-prefix -x -d 'What the names of descriptor variables begin with'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l registry -x -a 'etcd:// etcds:// etcd2:// etcd2s:// consul:// consuls:// file:///' -d 'Where services are registered'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l root -x -d 'The key below which bare service names are looked up'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l tls-ca -r -F -d 'CA certificates that are trusted, PEM, instead of the system'\''s'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l tls-cert -r -F -d 'A client certificate, PEM'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l tls-key -r -F -d 'Its key, PEM'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l registry-user -x -d 'Log in as USER'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l registry-password-file -r -F -d 'The password, or Consul'\''s token, is the first line of FILE'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l consul-datacenter -x -d 'Look services up in that datacenter of Consul, not in its own'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l consul-namespace -x -d 'Look services up in that namespace of Consul (Enterprise)'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l consul-stale -d 'Let any server of Consul answer with what it knows, without its leader'
complete -c dragoman -n '__dragoman_command run' -l consul-connections -x -d 'Ask Consul for N services at once, 64 without it, of the 200 connections that it takes of one address; where there are more, they take turns'
complete -c dragoman -n '__dragoman_command reconcile plan resolve run explain hook' -l allow-endpoints -x -d 'Admit just these addresses'
complete -c dragoman -n '__dragoman_command reconcile plan run hook' -l balance -x -a 'random nth' -d 'Choose endpoints at random, or one after the other'
complete -c dragoman -n '__dragoman_command reconcile plan run hook' -l on-empty -x -a 'reject hold' -d 'With no endpoint left: refuse connections, or hold the endpoints that stand'
complete -c dragoman -n '__dragoman_command reconcile plan flush run' -l on-remove -x -a 'drain reset' -d 'TCP connections to an endpoint that is gone: let them go on until they end, or reset them'
complete -c dragoman -n '__dragoman_command reconcile plan resolve flush run status explain hook' -l timeout -x -d 'Time limit for the whole command; of run, for one request to the registry'
complete -c dragoman -n '__dragoman_command run' -l resync -x -d 'How often everything is looked at anew, whatever was told'
complete -c dragoman -n '__dragoman_command run' -l flush-on-exit -d 'Take every trace out of every namespace at the end'
complete -c dragoman -n '__dragoman_command reconcile flush run status explain hook' -l socket -r -F -d 'The Unix socket on which the agent of this host answers'
complete -c dragoman -n '__dragoman_command run' -l metrics -x -d 'Answer there over TCP as well: /status, /metrics, /healthz, /readyz'
complete -c dragoman -n '__dragoman_command run' -l no-seccomp -d 'Do not filter the agent'\''s own system calls: for kernels without seccomp(2), and for debuggers'
complete -c dragoman -n '__dragoman_command hook' -l config -r -F -d 'The settings of this host'\''s agent'
complete -c dragoman -n '__dragoman_command hook' -l required -d 'Keep the container from starting where something could not be done'
complete -c dragoman -n '__dragoman_command explain' -l probe -d 'Try it: a TCP connection to each endpoint, and one through localhost'
complete -c dragoman -n '__dragoman_command status' -s w -l watch -d 'Show it again each second; q ends it'
complete -c dragoman -n '__dragoman_command reconcile plan resolve flush status explain' -l json -d 'Print one JSON document instead of text'
complete -c dragoman -n '__dragoman_command reconcile plan resolve flush run status explain hook' -l log-level -x -a 'error warn info debug' -d 'What to say on standard error'
complete -c dragoman -n '__dragoman_command reconcile plan resolve flush run status explain hook' -s h -l help -d 'Show this help'
# --- To here ---
