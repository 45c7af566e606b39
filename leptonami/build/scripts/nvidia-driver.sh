# leptonami-step: nvidia-driver
# summary: install a pinned NVIDIA driver whose kernel module fits the kernel that boots, and hold both
# order: 30
# needs: settle
# families: ubuntu-eks
# timeout: 45m
# option branch: string required match=[0-9]{3} -- driver branch, in quotes, such as "535"
# option version: string required match=[0-9]+\.[0-9A-Za-z.+~-]+ -- package version ("535.183.06-0ubuntu0.22.04.1"), or the part before its revision ("535.183.06")
# option flavour: server|desktop default=server -- server: Ubuntu's packages for data centre GPUs
# option modules: precompiled|dkms default=precompiled -- precompiled and signed by Canonical, or built on the builder
# option kernel_module: proprietary|open default=proprietary -- open is for Turing and later, and needed from Blackwell on
# option kernel: string match=[0-9][0-9A-Za-z.+~-]+ -- kernel release to install and boot first, such as "6.8.0-1029-aws"; default: the base image's newest
# option fabric_manager: boolean default=false -- for machines with NVSwitches (p4d, p5 and their like)
# shellcheck shell=bash

suffix="$OPT_BRANCH"
[ "$OPT_FLAVOUR" = server ] && suffix="$suffix-server"
opened=""
[ "$OPT_KERNEL_MODULE" = open ] && opened="-open"

newest_kernel() {
  local image
  for image in /boot/vmlinuz-*; do
    if [ -e "$image" ] && [ ! -L "$image" ]; then printf '%s\n' "${image#/boot/vmlinuz-}"; fi
  done | sort -V | tail -n 1
}

# GRUB boots the newest kernel there is; a module for another one would be of no use on the nodes.
fit_kernel() {
  local running newest
  if [ -n "$OPT_KERNEL" ]; then
    apt_install "linux-image-$OPT_KERNEL" "linux-modules-$OPT_KERNEL"
  fi
  running=$(uname -r)
  newest=$(newest_kernel)
  [ -n "$newest" ] || die "there is no kernel in /boot"
  if [ -n "$OPT_KERNEL" ] && [ "$newest" != "$OPT_KERNEL" ]; then
    die "the plan wants kernel $OPT_KERNEL, but $newest is newer and would boot: remove it or take a later base image"
  fi
  if [ "$running" != "$newest" ]; then
    reboot_once "kernel $running runs, $newest is the one that boots" ||
      die "kernel $running still runs after the reboot, not $newest"
  fi
  say "kernel $running runs and is the one that boots"
}

install_driver() {
  local version packages headers package
  version=$(apt_version "nvidia-utils-$suffix" "$OPT_VERSION")
  case "$OPT_MODULES" in
    precompiled)
      package="linux-modules-nvidia-$suffix$opened-$(uname -r)"
      if [ -z "$(apt-cache madison "$package")" ]; then
        die "there is no $package: take 'modules: dkms', or a base image or 'kernel' with one of these: $(
          apt-cache search --names-only "^linux-modules-nvidia-$suffix$opened-[0-9]" | awk '{ print $1 }' | tr '\n' ' '
        )"
      fi
      packages="$package nvidia-headless-no-dkms-$suffix$opened=$version"
      ;;
    dkms)
      headers="linux-headers-$(uname -r)"
      packages="$headers nvidia-dkms-$suffix$opened=$version nvidia-headless-no-dkms-$suffix$opened=$version"
      ;;
  esac
  packages="$packages nvidia-utils-$suffix=$version"
  if [ "$OPT_FABRIC_MANAGER" = true ]; then
    packages="$packages nvidia-fabricmanager-$OPT_BRANCH=$(apt_version "nvidia-fabricmanager-$OPT_BRANCH" "${OPT_VERSION%%-*}")"
  fi
  # shellcheck disable=SC2086 # a list of package names
  apt_install $packages
  installed="$version"
}

# An upgrade of kernel, module or library alone would break the others (pain: driver and library drift).
hold_driver() {
  local packages
  packages=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | awk -v kernel="$(uname -r)" '
    $1 ~ /^.i/ && ($2 ~ /^(lib)?nvidia-/ || $2 ~ /^linux-(modules|objects|signatures)-nvidia-/ ||
      $2 ~ /^linux-(image|headers|modules)-/ && index($2, kernel) || $2 ~ /^linux-(image-|headers-)?aws/) { print $2 }')
  # shellcheck disable=SC2086 # a list of package names
  apt-mark hold $packages >/dev/null
  say "held: $(printf '%s' "$packages" | tr '\n' ' ')"
}

no_nouveau() {
  printf '# leptonami: nouveau would take the GPU before the NVIDIA module.\nblacklist nouveau\noptions nouveau modeset=0\n' \
    >/etc/modprobe.d/leptonami-nouveau.conf
  if modinfo -k "$(uname -r)" nouveau >/dev/null 2>&1; then
    update-initramfs -u -k "$(uname -r)"
    if lsmod | has '^nouveau '; then
      reboot_once "nouveau is loaded" || die "nouveau is loaded even after a reboot"
    fi
  fi
}

verify_driver() {
  local vermagic version license wanted="${installed%%-*}" running
  running=$(uname -r)
  vermagic=$(modinfo -k "$running" -F vermagic nvidia | awk '{ print $1 }') || die "there is no nvidia module for kernel $running"
  [ "$vermagic" = "$running" ] || die "the nvidia module is for kernel '$vermagic', but $running runs"
  version=$(modinfo -k "$running" -F version nvidia)
  [ "$version" = "$wanted" ] ||
    die "the module is $version, the libraries are $wanted: the precompiled module of kernel $running is of another release, take that one or 'modules: dkms'"
  license=$(modinfo -k "$running" -F license nvidia)
  case "$OPT_KERNEL_MODULE:$license" in
    open:*GPL* | proprietary:NVIDIA) ;;
    *) die "the plan wants the $OPT_KERNEL_MODULE module, but this one's licence is '$license'" ;;
  esac
  if [ "$(gpu_count)" -eq 0 ]; then
    warn "this builder has no GPU: the module fits, but whether it loads is not verified"
    return
  fi
  modprobe nvidia || die "the nvidia module does not load: $(dmesg 2>/dev/null | grep -i nvrm | tail -n 3 | tr '\n' ' ')"
  version=$(retry 3 2 nvidia-smi --query-gpu=driver_version --format=csv,noheader | sort -u)
  [ "$version" = "$wanted" ] || die "nvidia-smi says '$version', not $wanted"
  say "$(nvidia-smi -L | wc -l) GPU(s) answer with driver $version"
}

apt_quiet
retry 3 10 apt_get update
fit_kernel
installed=""
install_driver
no_nouveau
hold_driver
verify_driver
state_dir
printf '%s\n' "$installed" >"$STATE/nvidia-driver"
say "driver $installed, $OPT_MODULES $OPT_KERNEL_MODULE module for kernel $(uname -r)"
