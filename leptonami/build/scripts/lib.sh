# shellcheck shell=bash
# What all provisioning scripts share. It is put before each of them; it runs nothing but `set` and `export`.
set -euo pipefail
umask 022
# The SSM agent starts scripts with almost no environment; `aws`, `gpg` and others look for HOME.
export HOME="${HOME:-/root}" LC_ALL=C DEBIAN_FRONTEND=noninteractive
# needrestart would restart the SSM agent or containerd in the middle of an installation.
export NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l
export PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"

STATE=/var/lib/leptonami

RECORD=/etc/leptonami/image.json

CONTAINERD_SOCKET=/run/containerd/containerd.sock
CRI_TIMEOUT=30

say() { printf '%s: %s\n' "$LEPTONAMI_STEP" "$*"; }

warn() { printf '%s: warning: %s\n' "$LEPTONAMI_STEP" "$*" >&2; }

die() {
  printf '%s: error: %s\n' "$LEPTONAMI_STEP" "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

state_dir() { install -d -m 0700 "$STATE"; }

# retry ATTEMPTS DELAY COMMAND...: run it until it succeeds, waiting longer each time; give its last status.
retry() {
  local attempts=$1 delay=$2 number=1 status
  shift 2
  while true; do
    status=0
    "$@" || status=$?
    [ "$status" -eq 0 ] && return 0
    [ "$number" -ge "$attempts" ] && return "$status"
    warn "attempt $number of $attempts ended with $status, again in $delay s"
    sleep "$delay"
    number=$((number + 1))
    delay=$((delay * 2 > 60 ? 60 : delay * 2))
  done
}

# wait_until SECONDS WHAT COMMAND...: poll the command until it succeeds.
wait_until() {
  local limit=$1 what=$2 start=$SECONDS told=0
  shift 2
  until "$@"; do
    [ $((SECONDS - start)) -lt "$limit" ] || die "gave up waiting for $what after $limit s"
    if [ "$told" -eq 0 ]; then
      say "waiting for $what, $limit s at most"
      told=1
    fi
    sleep 1
  done
}

# has PATTERN: whether standard input has a line like that. Unlike `grep -q` it reads to the end: a program that still
# writes into a closed pipe would end by SIGPIPE, and with pipefail a match would count as a failure.
has() { grep -e "$1" >/dev/null; }

# Words of JSON: one string, escaped and quoted. Control characters become spaces.
json_string() {
  printf '%s' "$1" | tr '\001-\037\177' ' ' | awk 'BEGIN { RS = "\001" } { gsub(/["\\]/, "\\\\&"); printf "%s", $0 }
    BEGIN { printf "\"" } END { printf "\"" }'
}

# reboot_once WHY: ask the SSM agent for a reboot (exit code 194) the first time; after that reboot, return 1.
reboot_once() {
  local mark="$STATE/reboot-$LEPTONAMI_STEP" now
  now=$(cat /proc/sys/kernel/random/boot_id)
  state_dir
  if [ -e "$mark" ]; then
    [ "$(cat "$mark")" != "$now" ] || die "asked for a reboot, but the machine has not rebooted"
    return 1
  fi
  printf '%s\n' "$now" >"$mark"
  say "asking for a reboot: $1"
  exit 194
}

unit_exists() { systemctl cat "$1" >/dev/null 2>&1; }

# NVIDIA GPUs on the PCI bus, whether a driver is there or not (classes 0x0300 and 0x0302; not NVSwitches).
gpu_count() {
  local device vendor class count=0
  for device in /sys/bus/pci/devices/*; do
    [ -r "$device/vendor" ] && [ -r "$device/class" ] || continue
    read -r vendor <"$device/vendor"
    read -r class <"$device/class"
    case "$vendor:$class" in
      0x10de:0x0300* | 0x10de:0x0302*) count=$((count + 1)) ;;
    esac
  done
  printf '%s\n' "$count"
}

# --- packages -------------------------------------------------------------------------------------------------------

APT_UNITS="apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service apt-daily.service apt-daily-upgrade.service"

apt_unlocked() {
  have fuser || return 0 # apt itself waits too, see apt_get
  ! fuser /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock /var/cache/apt/archives/lock \
    >/dev/null 2>&1
}

# Keep apt's own background work away until the machine stops; masks in /run do not get into the image.
apt_quiet() {
  local unit there=""
  for unit in $APT_UNITS; do
    if unit_exists "$unit"; then there="$there $unit"; fi
  done
  if [ -n "$there" ]; then
    # shellcheck disable=SC2086 # names of units
    systemctl mask --runtime --quiet $there
    # shellcheck disable=SC2086
    systemctl stop --quiet $there
  fi
  wait_until 900 "the package lock" apt_unlocked
}

apt_get() {
  apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    -o APT::Get::AllowUnauthenticated=false "$@"
}

apt_installed() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

# apt_version PACKAGE WANTED: the one version in the archive that is WANTED, or begins with it before the revision.
apt_version() {
  local package=$1 wanted=$2 versions match
  versions=$(apt-cache madison "$package" | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' | sort -u -V)
  match=$(printf '%s\n' "$versions" | awk -v w="$wanted" '$0 == w || index($0, w "-") == 1' | tail -n 1)
  if [ -z "$match" ]; then
    die "there is no $package $wanted; the archive has: ${versions:+$(printf '%s' "$versions" | tr '\n' ' ')}${versions:-nothing of that name}"
  fi
  printf '%s\n' "$match"
}

# apt_install PACKAGE[=VERSION]...: install exactly these and what they newly need. Something else being upgraded or
# removed on the way stops the build: that is how a containerd changes its release behind everybody's back.
apt_install() {
  local plan changed asked
  asked=" $(printf '%s ' "$@" | sed 's/=[^ ]*//g')"
  plan=$(apt_get install --no-install-recommends --allow-change-held-packages -s "$@") ||
    die "apt cannot install $*"
  changed=$(printf '%s\n' "$plan" | awk -v asked="$asked" '
    $1 == "Remv" { print $2 " (removed)" }
    $1 == "Inst" && $3 ~ /^\[/ && index(asked, " " $2 " ") == 0 { print $2 " " $3 " would become " $4 }')
  [ -z "$changed" ] || die "installing $* would also change: $(printf '%s' "$changed" | tr '\n' ';')"
  apt_get install --no-install-recommends --allow-change-held-packages "$@"
}

# Installed packages, one a line: name, version, architecture.
list_packages() {
  if have dpkg-query; then
    dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n' |
      awk -F'\t' -v OFS='\t' '$1 ~ /^.i/ { print $2, $3, $4 }'
  else
    rpm -qa --qf '%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n'
  fi | sort
}

# Sets kubelet and kubelet_from. On Ubuntu the kubelet is a snap, and may not be on PATH before bootstrap.
kubelet_version() {
  local version=""
  if have snap; then
    version=$(snap list kubelet-eks 2>/dev/null | awk '$1 == "kubelet-eks" { print $2 }') || version=""
    kubelet_from=snap
  fi
  if [ -z "$version" ] && have kubelet; then
    version=$(kubelet --version | awk '{ print $NF }')
    kubelet_from=binary
  fi
  if [ -z "$version" ] && have rpm; then
    version=$(rpm -q --qf '%{VERSION}' kubelet 2>/dev/null) || version=""
    kubelet_from=package
  fi
  kubelet=${version#v}
}

# --- containerd -----------------------------------------------------------------------------------------------------

containerd_answers() { ctr version >/dev/null 2>&1; }

# Start containerd if it does not run; CONTAINERD_WAS says what we found, for containerd_restore.
containerd_up() {
  if systemctl is-active --quiet containerd; then CONTAINERD_WAS=active; else
    CONTAINERD_WAS=inactive
    systemctl start containerd
  fi
  wait_until 120 "containerd" containerd_answers
}
containerd_restore() { [ "$CONTAINERD_WAS" = active ] || systemctl stop containerd; }

containerd_version() { containerd --version | awk '{ sub(/^v/, "", $3); sub(/[-~+].*/, "", $3); print $3 }'; }

# Releases before 1.7 do not hand the pin label on through CRI (seen with 1.6.20; containerd pull request 8720).
containerd_pins() {
  case "$(containerd_version)" in
    0.* | 1.[0-6].*) return 1 ;;
    *) return 0 ;;
  esac
}

# About one image of what `ctr images ls` lists, on standard input.
of_digest() { awk -v r="$1" '$1 == r && !n++ { print $3 }'; }
of_labels() { awk -v r="$1" '$1 == r && !n++ { print $NF }'; }
of_platforms() {
  awk -v r="$1" '$1 == r && !n++ { for (i = 4; i <= NF; i++) if ($i ~ /^[a-z]+\/[a-z0-9]/ && !p++) print $i }'
}
# Of what `ctr images check` lists: "complete true" for an image that is all there and unpacked.
of_state() { awk -v r="$1" '$1 == r && !n++ { print $4, $NF }'; }

# for_us PLATFORMS: whether an image's platforms have the one of this machine.
for_us() {
  case ",$1," in
    *",linux/$LEPTONAMI_ARCHITECTURE,"* | *",linux/$LEPTONAMI_ARCHITECTURE/"*) return 0 ;;
    *) return 1 ;;
  esac
}

a_python() {
  local name
  for name in python3 /usr/libexec/platform-python python python2; do
    if have "$name"; then
      printf '%s\n' "$name"
      return 0
    fi
  done
  return 1
}

# cri_images: what the kubelet sees: "REFERENCE true|false" for each name, true when pinned. Status 2: it cannot be
# asked here. Without crictl, CRI's ListImages is called over its socket: an empty gRPC message by curl.
cri_images() {
  local python
  python=$(a_python) || return 2
  if have crictl; then
    crictl --runtime-endpoint "unix://$CONTAINERD_SOCKET" --image-endpoint "unix://$CONTAINERD_SOCKET" \
      --timeout "${CRI_TIMEOUT}s" images -o json | "$python" -c '
import json, sys
for image in json.load(sys.stdin)["images"]:
    for name in (image.get("repoTags") or []) + (image.get("repoDigests") or []):
        print("%s %s" % (name, "true" if image.get("pinned") else "false"))'
    return
  fi
  have curl || return 2
  printf '\000\000\000\000\000' | curl -sS --fail --max-time "$CRI_TIMEOUT" --http2-prior-knowledge \
    --unix-socket "$CONTAINERD_SOCKET" -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @- \
    -o - http://localhost/runtime.v1.ImageService/ListImages | "$python" -c '
import struct, sys
data = bytearray(getattr(sys.stdin, "buffer", sys.stdin).read())
if len(data) < 5:
    sys.exit("no answer from CRI")
def fields(message):
    at = 0
    def number():
        value = shift = 0
        while True:
            byte = message[at + shift // 7]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, shift // 7
    while at < len(message):
        key, used = number()
        at += used
        value, used = number()
        at += used
        if key & 7 == 2:
            value, at = message[at:at + value], at + value
        elif key & 7 != 0:
            sys.exit("CRI answered with something unknown")
        yield key >> 3, value
length = struct.unpack(">I", bytes(data[1:5]))[0]
if data[0] or len(data) < 5 + length:
    sys.exit("CRI answer cut off or compressed")
for field, image in fields(data[5:5 + length]):
    names, pinned = [], False
    for part, value in fields(image):
        if part in (2, 3):
            names.append(bytes(value).decode("utf-8"))
        elif part == 8:
            pinned = bool(value)
    for name in names:
        print("%s %s" % (name, "true" if pinned else "false"))'
}

# The version that nvidia-ctk names.
toolkit_version() { nvidia-ctk --version | awk '/version/ && !n++ { print $NF }'; }

# --- NVIDIA container toolkit ------------------------------------------------------------------------------------------

TEMPLATES=/usr/local/share/eks
KEYRING=/etc/apt/keyrings/leptonami-nvidia.gpg
SOURCES=/etc/apt/sources.list.d/leptonami-nvidia.list
TOOLKIT_PACKAGES="nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container1 libnvidia-container-tools"

# key_fingerprints FILE HOME: the fingerprint of each primary key in a file; subkeys follow a record of their own.
key_fingerprints() {
  gpg --batch --no-options --homedir "$2" --show-keys --with-colons "$1" 2>/dev/null |
    awk -F: '$1 == "pub" { primary = 1 } $1 == "sub" { primary = 0 } $1 == "fpr" && primary { print $10; primary = 0 }'
}

# toml_get FILE TABLE KEY: the value as it is written, nothing if it is not there.
toml_get() {
  TOML_TABLE=$2 TOML_KEY=$3 awk '
    function plain(text) { gsub(/[ \t\047"]/, "", text); sub(/#.*/, "", text); return text }
    BEGIN { table = "[" plain(ENVIRON["TOML_TABLE"]) "]"; key = ENVIRON["TOML_KEY"] }
    /^[ \t]*\[/ { inside = (plain($0) == table); next }
    inside && $0 ~ ("^[ \t]*" key "[ \t]*=") { sub(/^[^=]*=[ \t]*/, ""); print; exit }' "$1"
}

cri_table() {
  if grep -Eq '^[[:space:]]*version[[:space:]]*=[[:space:]]*3' "$1"; then
    printf 'plugins."io.containerd.cri.v1.runtime"\n'
  else
    printf 'plugins."io.containerd.grpc.v1.cri"\n'
  fi
}
