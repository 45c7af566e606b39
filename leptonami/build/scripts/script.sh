# leptonami-step: script
# summary: run the plan's own script as root
# families: ubuntu-eks al2 al2-gpu al2023 al2023-nvidia
# timeout: 30m
# option path: path required -- the script, beside the plan; its first line chooses the interpreter, else bash with set -euo pipefail
# option after: string match=[a-z][a-z0-9-]* -- the step after which it runs; without it, where the plan lists it
# shellcheck shell=bash

# /run and /tmp may be mounted noexec; the state folder goes with hygiene.
state_dir
place=$(mktemp "$STATE/script.XXXXXX")
trap 'rm -f "$place"' EXIT
own_script >"$place"
chmod 0700 "$place"
say "running $OWN_NAME"
status=0
(
  cd /
  LEPTONAMI_PLAN="$LEPTONAMI_PLAN" LEPTONAMI_FAMILY="$LEPTONAMI_FAMILY" LEPTONAMI_OS="$LEPTONAMI_OS" \
    LEPTONAMI_KUBERNETES="$LEPTONAMI_KUBERNETES" LEPTONAMI_ARCHITECTURE="$LEPTONAMI_ARCHITECTURE" \
    LEPTONAMI_REGION="$LEPTONAMI_REGION" exec "$place"
) || status=$?
case "$status" in
  0) say "$OWN_NAME is done" ;;
  194) say "$OWN_NAME asks for a reboot, after which it runs again" ;;
  *) warn "$OWN_NAME failed with status $status" ;;
esac
exit "$status"
