#!/bin/sh
# `systemctl` for a root without systemd as its first process: starts what a unit says, as the unit's user, and waits
# for its READY=1, which the test outside writes down in /notified.
set -e
folder=/usr/lib/systemd/system
# The last one counts, as where a file of the operator sets a command anew.
value() { cat "$folder/$1.service" "/etc/systemd/system/$1.service.d"/*.conf 2>/dev/null | sed -n "s/^$2=//p" | tail -n 1; }
pid() { cat "/run/$1.pid" 2>/dev/null; }
runs() { pid=$(pid "$1") && kill -0 "$pid" 2>/dev/null; }
ready() { grep -c '^READY=1' /notified || true; }

# How the unit's user runs a command.
as() {
    user=$(value "$1" User)
    [ -z "$user" ] && return 0
    echo "setpriv --reuid=$user --regid=$user --init-groups --inh-caps=-all,+net_bind_service" \
        "--ambient-caps=-all,+net_bind_service --bounding-set=-all,+net_bind_service --no-new-privs"
}

wait_ready() {
    for _ in $(seq 600); do
        [ "$(ready)" -gt "$2" ] && return 0
        runs "$1" || break
        sleep 0.1
    done
    echo "$1 did not become ready" >&2
    tail -n 20 "/var/log/$1.log" >&2
    return 1
}

start() {
    runs "$1" && return 0
    user=$(value "$1" User)
    for kind in State:/var/lib Runtime:/run Logs:/var/log; do
        name=$(value "$1" "${kind%%:*}Directory")
        [ -z "$name" ] && continue
        place="${kind#*:}/$name"
        mkdir -p "$place"
        chmod "$(value "$1" "${kind%%:*}DirectoryMode")" "$place"
        [ -z "$user" ] || chown "$user:" "$place"
    done
    as=$(as "$1")
    before=$(value "$1" ExecStartPre)
    [ -z "$before" ] || $as $before
    seen=$(ready)
    cd /
    NOTIFY_SOCKET=/notify.sock $as $(value "$1" ExecStart) >>"/var/log/$1.log" 2>&1 </dev/null &
    echo $! >"/run/$1.pid"
    wait_ready "$1" "$seen"
}

stop() {
    runs "$1" || return 0
    kill "$pid"
    for _ in $(seq 300); do runs "$1" || return 0; sleep 0.1; done
    echo "$1 does not stop" >&2
    return 1
}

reload() {
    runs "$1"
    seen=$(ready)
    MAINPID=$pid
    eval "$(as "$1") $(value "$1" ExecReload)"
    wait_ready "$1" "$seen"
}

verb=$1
shift
[ "$verb" != daemon-reload ] || exit 0
for word; do
    case $word in --*) continue ;; esac
    unit=${word%.service}
    case $verb in
        start | enable) start "$unit" ;;
        stop | disable) stop "$unit" ;;
        restart) stop "$unit"; start "$unit" ;;
        reload) reload "$unit" ;;
        status | is-active) runs "$unit" && echo "$unit runs" ;;
        *) echo "systemctl $verb is not known here" >&2; exit 1 ;;
    esac
done
