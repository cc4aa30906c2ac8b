#!/bin/bash
# Run every two seconds by vrrp_script chk_haproxy: starts haproxy when it is gone, and when that does
# not help, stops keepalived so that the other host takes the address over.
COUNT=`ps -C haproxy --no-header | wc -l`
if [ $COUNT -eq 0 ];then
    haproxy -f /etc/haproxy/haproxy.cfg
    sleep 2
    if [ `ps -C haproxy --no-header | wc -l` -eq 0 ];then
        killall keepalived
    fi
fi
