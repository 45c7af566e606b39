# leptonami-step: gpu-guard
# summary: keep a node whose GPU does not work from joining the cluster
# order: 60
# needs: settle nvidia-driver[ubuntu-eks]
# families: ubuntu-eks al2-gpu al2023-nvidia
# timeout: 5m
# option on_failure: block|report default=block -- block: the kubelet does not start; report: the unit fails and says so, nothing more
# option wait: integer default=60 -- seconds that the GPUs have to answer after boot
# shellcheck shell=bash

PROGRAM=/usr/local/sbin/leptonami-gpu-guard
UNIT=/etc/systemd/system/leptonami-gpu-guard.service

# The kubelet is a snap on Ubuntu; a drop-in stays when snapd writes the unit anew.
case "$LEPTONAMI_FAMILY" in
  ubuntu-eks) kubelet=snap.kubelet-eks.daemon.service ;;
  *) kubelet=kubelet.service ;;
esac

# It fails, with a status and a line in the journal. The ancestor's guard ended with 0 whatever nvidia-smi said.
cat >"$PROGRAM.new" <<'GUARD'
#!/bin/bash
# leptonami: fail when the machine has NVIDIA GPUs that nvidia-smi does not show. Without GPUs: succeed, silently.
set -uo pipefail
wait=${LEPTONAMI_GUARD_WAIT:-60}
count=0
for device in /sys/bus/pci/devices/*; do
  [ -r "$device/vendor" ] && [ -r "$device/class" ] || continue
  case "$(<"$device/vendor"):$(<"$device/class")" in
    0x10de:0x0300* | 0x10de:0x0302*) count=$((count + 1)) ;;
  esac
done
[ "$count" -gt 0 ] || exit 0
why="nvidia-smi is not installed"
while true; do
  if command -v nvidia-smi >/dev/null 2>&1; then
    if answer=$(timeout 30 nvidia-smi -L 2>&1); then
      shown=$(grep -c '^GPU [0-9]' <<<"$answer")
      [ "$shown" -eq "$count" ] && exit 0
      why="$shown of $count GPUs answer"
    else
      why="nvidia-smi fails: $(tail -n 1 <<<"$answer")"
    fi
  fi
  [ "$SECONDS" -lt "$wait" ] || break
  sleep 2
done
printf 'leptonami-gpu-guard: GPU FAILURE: %s (%s on the PCI bus, waited %s s); driver %s, kernel %s\n' \
  "$why" "$count" "$wait" "$(modinfo -F version nvidia 2>/dev/null || echo missing)" "$(uname -r)" >&2
exit 1
GUARD
chmod 0755 "$PROGRAM.new"
mv "$PROGRAM.new" "$PROGRAM"

cat >"$UNIT" <<GUARD
# Written by leptonami, plan $LEPTONAMI_PLAN.
[Unit]
Description=Check that every NVIDIA GPU of this machine answers
After=systemd-modules-load.service systemd-udev-settle.service nvidia-kmod-load.service nvidia-fabricmanager.service
Before=$kubelet

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=LEPTONAMI_GUARD_WAIT=$OPT_WAIT
ExecStart=$PROGRAM
TimeoutStartSec=$((OPT_WAIT + 60))

[Install]
WantedBy=multi-user.target
GUARD

dropin="/etc/systemd/system/$kubelet.d/10-leptonami-gpu-guard.conf"
if [ "$OPT_ON_FAILURE" = block ]; then
  install -d -m 0755 "${dropin%/*}"
  printf '# Written by leptonami: no kubelet on a machine whose GPU does not work.\n[Unit]\nRequires=leptonami-gpu-guard.service\nAfter=leptonami-gpu-guard.service\n' >"$dropin"
else
  rm -f "$dropin"
fi

systemctl daemon-reload
systemctl enable --quiet leptonami-gpu-guard.service
# The builder must pass its own guard: with a GPU it answers, without one there is nothing to check.
systemctl restart leptonami-gpu-guard.service || die "the guard fails on the builder: $(LEPTONAMI_GUARD_WAIT=0 "$PROGRAM" 2>&1 | tail -n 1)"
say "installed, on failure: $OPT_ON_FAILURE; $(gpu_count) GPU(s) here"
