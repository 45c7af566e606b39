# leptonami-step: settle
# summary: wait for cloud-init, and keep snap and apt from changing the machine while it is built
# order: 10
# families: ubuntu-eks al2 al2-gpu al2023 al2023-nvidia
# timeout: 30m
# option wait: integer default=900 -- seconds to wait for cloud-init and for snap changes, each
# shellcheck shell=bash

# Snaps first: while this script waits for anything else, snapd may begin to refresh the SSM agent that runs it
# (aws-parallelcluster issue 7159). What we hold is remembered, so that hygiene releases that and nothing else.
# Before snapd 2.58 refreshes could only be put off until a date.
hold_now() { snap refresh --hold || snap set system "refresh.hold=$(date -u -d '+3 days' +%Y-%m-%dT%H:%M:%SZ)"; }

hold_snaps() {
  local before
  if [ ! -e "$STATE/snap-hold" ]; then
    before=$(snap get system refresh.hold 2>/dev/null || true)
    case "$before" in
      forever) printf 'theirs %s\n' "$before" >"$STATE/snap-hold.new" ;;
      *) printf 'ours %s\n' "${before:-none}" >"$STATE/snap-hold.new" ;;
    esac
    mv "$STATE/snap-hold.new" "$STATE/snap-hold"
  fi
  if grep -q '^ours' "$STATE/snap-hold"; then
    retry 5 2 hold_now
    say "snap refreshes are held until hygiene"
  else
    say "the base image holds snap refreshes already"
  fi
}

snaps_idle() {
  local changes
  changes=$(snap changes 2>/dev/null) || return 1
  printf '%s\n' "$changes" | awk 'NR > 1 && $2 ~ /^(Do|Doing|Wait|Undo|Undoing|Abort)$/ { busy = 1 } END { exit busy }'
}

wait_cloud_init() {
  local status=0
  have cloud-init || return 0
  timeout "$OPT_WAIT" cloud-init status --wait >"$STATE/cloud-init" 2>&1 || status=$?
  case "$status" in
    0) say "cloud-init is done" ;;
    # 2: done, with errors that it could recover from (cloud-init 23.4 and later)
    2) warn "cloud-init is done, with recoverable errors" && cloud-init status --long || true ;;
    124) die "cloud-init was not done after $OPT_WAIT s" ;;
    *)
      cloud-init status --long >&2 || true
      die "cloud-init ended with an error (status $status)"
      ;;
  esac
}

rpm_idle() {
  local pid
  if [ -s /var/run/yum.pid ]; then
    read -r pid </var/run/yum.pid
    [ ! -d "/proc/$pid" ] || return 1
  fi
  ! systemctl is-active --quiet dnf-makecache.service
}

state_dir
if have snap; then hold_snaps; fi
wait_cloud_init
if have snap; then wait_until "$OPT_WAIT" "snap changes to end" snaps_idle; fi
if have apt-get; then
  apt_quiet
  # What an interrupted installation left half done would fail every later one.
  dpkg --configure -a
else
  for unit in dnf-makecache.timer dnf-automatic.timer dnf-automatic-install.timer; do
    unit_exists "$unit" || continue
    systemctl mask --runtime --quiet "$unit"
    systemctl stop --quiet "$unit"
  done
  wait_until "$OPT_WAIT" "the package manager" rpm_idle
fi
say "settled"
