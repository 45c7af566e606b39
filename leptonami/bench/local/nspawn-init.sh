#!/bin/sh
# First process of a whole node: mounts its disk and boots it with systemd-nspawn, in namespaces that end with it.
# Arguments: the image of the node's disk, the folder with what is bound into it, the name of its control groups.
set -eu
# What is mounted below may hide the folder's path.
cd "$2"
# systemd-nspawn makes its groups below ours: in groups of our own they are found and removed.
awk '$3 == "cgroup2" || $4 ~ /name=systemd/ { print $2 }' /proc/self/mounts | while read -r place; do
  mkdir -p "$place/$3"
  echo 1 >"$place/$3/cgroup.procs"
done
exec 3<"$1"
mount -t tmpfs -o mode=0755 leptonami-node /run
mkdir -p /run/leptonami /run/root
cp -a . /run/leptonami/
mount -o loop "/proc/self/fd/3" /run/root
exec 3<&-
cd /
echo disk
echo started
# The network is this machine's, since the registry listens on its loopback; nothing in the node configures it.
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --register=no --keep-unit --machine=leptonami \
  --directory=/run/root --capability=all --system-call-filter='@keyring bpf' --console=pipe --link-journal=no \
  --resolv-conf=off --timezone=off \
  --bind-ro=/run/leptonami/hosts:/etc/containerd/certs.d --bind-ro=/run/leptonami/seed:/var/lib/cloud/seed/nocloud \
  --bind-ro=/run/leptonami/containerd.toml:/etc/containerd/config.toml \
  --boot systemd.show_status=0 </dev/null >&2
umount /run/root
sync
