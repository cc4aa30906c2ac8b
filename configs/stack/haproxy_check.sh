#!/bin/sh
# The health hook of the agents on C and D, with the tutorial's logic: when the balancer is gone, start it;
# when it does not come back, stop the agent, so that the address moves to the other host.
#
# The hosts of one machine share a process table, so the balancer is found by its pid file and not by
# `ps -C haproxy`, and the agent is stopped by its pid and not by `killall keepalived`.
here=$(dirname "$0")

runs() {
    pid=$(cat "$here/proxy.pid" 2>/dev/null) && [ -n "$pid" ] &&
        state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) &&
        [ -n "$state" ] && [ "$state" != Z ] && [ "$state" != X ]
}

runs && exit 0

echo "balancer is gone: starting it" >>"$here/check.log"
setsid "$here/start-proxy.sh" </dev/null >/dev/null 2>&1 &
sleep 1
runs && exit 0
echo "balancer does not start: stopping the agent" >>"$here/check.log"
kill "$(cat "$here/vip.pid")"
exit 1
