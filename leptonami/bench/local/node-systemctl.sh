#!/bin/sh
# Stands in for systemctl on a node without systemd: start, stop and is-active of the one service that it has.
set -eu
command=$1
[ "$command" != is-active ] || [ "${2-}" != --quiet ] || shift
[ "${2-}" = containerd ] || { echo "this node has no service ${2-}" >&2; exit 5; }
pid=/run/leptonami/containerd.pid
# A dead process that nobody has waited for has no `exe`.
alive() { [ -e "$pid" ] && [ -e "/proc/$(cat "$pid")/exe" ]; }
case "$command" in
  is-active) alive ;;
  start)
    alive && exit
    containerd --config /run/leptonami/containerd.toml --log-level warn >>/run/leptonami/containerd.log 2>&1 </dev/null &
    echo "$!" >"$pid"
    ;;
  stop)
    alive || exit 0
    kill -TERM "$(cat "$pid")"
    while alive; do sleep 0.02; done
    rm "$pid"
    ;;
  *) echo "$command is not known here" >&2; exit 1 ;;
esac
