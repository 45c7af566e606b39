#!/bin/bash
# leptonami: read what a node needs first, so that EBS fetches it from the snapshot before somebody waits for it.
# User data of a launch template (fast_launch: {pre_read: true}). It changes nothing, and nothing waits for it.
(
  set -u
  readers=8
  # Programs, in the order in which a node starts them; a snap is one file.
  for file in /usr/bin/containerd /usr/bin/containerd-shim-runc-v2 /usr/sbin/runc /usr/bin/runc \
    /usr/bin/kubelet /var/lib/snapd/snaps/kubelet-eks_*.snap \
    /usr/bin/nvidia-container-runtime /usr/bin/nvidia-container-runtime-hook; do
    [ -f "$file" ] && cat -- "$file" >/dev/null 2>&1
  done
  # The unpacked images. Each read waits for S3, so many small ones go at once.
  for store in /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots /var/lib/containerd; do
    [ -d "$store" ] || continue
    find "$store" -xdev -type f -size +0 -print0 2>/dev/null |
      nice -n 19 xargs -0 -r -P "$readers" -n 64 cat -- >/dev/null 2>&1
    break
  done
) </dev/null >/dev/null 2>&1 &
