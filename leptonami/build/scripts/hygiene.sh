# leptonami-step: hygiene
# summary: remove what must not be in an image: identities, credentials, logs, caches, traces of the build
# order: 90
# needs: settle
# families: ubuntu-eks al2 al2-gpu al2023 al2023-nvidia
# timeout: 15m
# shellcheck shell=bash

# The SSM agent runs this script, and the verification after it. What the agent still uses is removed by a unit that
# lives in memory and acts when the machine stops, after the agent; /run is not part of the image, so nothing of it stays.
SEAL=/run/leptonami-seal.sh
SEAL_UNIT=leptonami-seal.service

# SC2086 and unmatched globs: nullglob makes them vanish.
shopt -s nullglob dotglob

remove() {
  local path
  for path in "$@"; do
    [ -e "$path" ] || [ -L "$path" ] || continue
    rm -rf -- "$path"
  done
}

write_seal() {
  cat >"$SEAL" <<'SEAL'
#!/bin/bash
# leptonami: the last thing that this machine does before it stops and is imaged.
shopt -s nullglob dotglob
rm -rf -- /var/lib/amazon/ssm/* /var/log/amazon/ssm/*
rm -rf -- /var/log/journal/* /var/lib/cloud/* /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
find /var/log -xdev -type f -exec truncate -s 0 {} +
: >/etc/machine-id
for file in /etc/ssh/ssh_host_*; do rm -f -- "$file"; done
sync
SEAL
  cat >"/run/systemd/system/$SEAL_UNIT" <<SEAL
[Unit]
Description=leptonami: remove what the SSM agent still used
DefaultDependencies=no
Conflicts=shutdown.target
# Stopped in reverse order: after the agents, after the random seed has been saved.
Before=shutdown.target amazon-ssm-agent.service snap.amazon-ssm-agent.amazon-ssm-agent.service systemd-random-seed.service
RequiresMountsFor=/var /etc

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/bash $SEAL
TimeoutStopSec=60
SEAL
  systemctl daemon-reload
  systemctl start "$SEAL_UNIT"
}

release_now() { snap refresh --unhold || snap set system refresh.hold=; }

release_snaps() {
  have snap || return 0
  [ -e "$STATE/snap-hold" ] || return 0
  if grep -q '^ours none' "$STATE/snap-hold"; then
    retry 5 2 release_now
    say "snap refreshes are released"
  elif grep -q '^ours ' "$STATE/snap-hold"; then
    # The base image held them until some date: that again.
    retry 5 2 snap set system "refresh.hold=$(sed 's/^ours //' "$STATE/snap-hold")"
    say "snap refreshes are held as the base image had it"
  fi
}

install -d -m 0755 /run/systemd/system
write_seal

# Identities: each node makes its own at first boot.
remove /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
: >/etc/machine-id
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then
  rm -f /var/lib/dbus/machine-id
  ln -s /etc/machine-id /var/lib/dbus/machine-id
fi
remove /var/lib/systemd/credential.secret /var/lib/systemd/random-seed /var/lib/dhcp/*.leases /var/lib/dhclient/*.leases
remove /var/lib/NetworkManager/*.lease /etc/iscsi/initiatorname.iscsi

# cloud-init must take the next start for a first boot.
if have cloud-init; then cloud-init clean --logs >/dev/null; fi
remove /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/data /var/lib/cloud/sem

# Credentials, and what clusters and registries left.
remove /root/.aws /home/*/.aws /root/.docker /home/*/.docker /root/.config/containers /home/*/.config/containers
remove /root/.netrc /home/*/.netrc /root/.git-credentials /home/*/.git-credentials /root/.kube /home/*/.kube
remove /var/lib/kubelet/config.json /var/lib/kubelet/pki /var/lib/kubelet/kubeconfig /var/lib/kubelet/pods
remove /var/lib/kubelet/image_manager/pulling /var/lib/kubelet/image_manager/pulled
remove /etc/kubernetes/pki/ca.crt

# Histories.
remove /root/.bash_history /home/*/.bash_history /root/.python_history /home/*/.python_history /root/.viminfo
remove /home/*/.viminfo /root/.lesshst /home/*/.lesshst /root/.wget-hsts /home/*/.wget-hsts /root/.cache /home/*/.cache

# Caches of the package manager, temporary files. Private folders of running services go when they stop.
if have apt-get; then
  apt-get clean
  remove /var/lib/apt/lists/*
elif have dnf; then
  dnf -q clean all
elif have yum; then
  yum -q clean all
fi
find /tmp /var/tmp -xdev -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name 'snap-private-tmp' -exec rm -rf -- {} +
remove /var/crash/* /var/lib/systemd/coredump/*

release_snaps
remove /usr/local/share/eks/*.leptonami-base "$STATE"

# Logs last: everything above may have written some. Open ones are emptied, rotated ones go. The journal has its own
# tool while it runs; what it writes from now on goes when the machine stops.
if have journalctl; then journalctl --rotate --vacuum-time=1s >/dev/null 2>&1 || warn "the journal cannot be emptied now"; fi
find /var/log -xdev -path /var/log/journal -prune -o -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.old' -o -name '*.[0-9]' -o -name '*-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]' \) -exec rm -f -- {} +
find /var/log -xdev -path /var/log/journal -prune -o -type f -exec truncate -s 0 {} +
touch /run/leptonami-clean
sync
say "clean; the SSM agent's traces go when the machine stops"
