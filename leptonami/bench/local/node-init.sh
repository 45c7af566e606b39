#!/bin/sh
# First process of a node: in its own mount and process namespaces, so that all that it mounts and starts ends with it.
# Arguments: the image of the node's disk (it becomes /var/lib), the folder with what goes to /run/leptonami.
# It says on standard output what has been reached, and ends the node cleanly when its standard input ends.
set -eu
# What is mounted below may hide the folder's path.
cd "$2"
mount -o loop "$1" /var/lib
mount -t tmpfs -o mode=0755 leptonami-node /run
mkdir -p /run/leptonami /run/lock /var/lib/containerd /var/lib/leptonami-etc/upper /var/lib/leptonami-etc/work
cp -a . /run/leptonami/
cd /
# What provisioning writes to /etc stays on the node's disk.
mount -t overlay -o lowerdir=/etc,upperdir=/var/lib/leptonami-etc/upper,workdir=/var/lib/leptonami-etc/work leptonami-node /etc
echo disk
PATH=/run/leptonami/bin:$PATH
export PATH
systemctl start containerd
echo started
cat >/dev/null
systemctl stop containerd
umount /etc
sync
