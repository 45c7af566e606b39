# leptonami-step: prefetch
# summary: pull and unpack the platform's container images, and pin every tag
# order: 50
# needs: settle
# families: ubuntu-eks al2 al2-gpu al2023 al2023-nvidia
# timeout: 2h
# option images: path required -- the list of images, beside the plan
# option attempts: integer default=5 -- how often a pull is tried
# option reserve_gib: integer default=4 -- GiB that must stay free after all pulls
# option pins: required|reported default=required -- whether a pin that CRI does not show fails the step (where containerd can pin at all)
# shellcheck shell=bash

# Estimates for images whose size nobody gave; the same as in leptonami/build/sizing.py.
UNKNOWN_MIB=1024
RATIO_PERCENT=310
PULL_SECONDS=3600
PULL_DELAY=3
AUTH=""

forget() { [ -z "$AUTH" ] || rm -rf "$AUTH"; }
trap forget EXIT

# --- room ------------------------------------------------------------------------------------------------------------

# present REF DIGEST: whether it was there, whole and right, when this script began.
present() {
  local found
  found=$(of_digest "$1" <<<"$BEFORE")
  [ -n "$found" ] && [ "$found" = "${2:-$found}" ] && [ "$(of_state "$1" <<<"$BEFORE_CHECK")" = "complete true" ]
}

check_room() {
  local index packed unpacked needed=0 estimated=0 missing=0 free reserve
  for index in "${!IMAGE_REFS[@]}"; do
    present "${IMAGE_REFS[$index]}" "${IMAGE_DIGESTS[$index]}" && continue
    missing=$((missing + 1))
    packed=${IMAGE_MIB[$index]}
    unpacked=${IMAGE_UNPACKED_MIB[$index]}
    if [ -z "$packed" ] && [ -z "$unpacked" ]; then
      estimated=$((estimated + 1))
      packed=$UNKNOWN_MIB
    elif [ -z "$packed" ]; then
      packed=$((unpacked * 100 / RATIO_PERCENT))
    fi
    [ -n "$unpacked" ] || unpacked=$((packed * RATIO_PERCENT / 100))
    needed=$((needed + packed + unpacked))
  done
  install -d -m 0711 /var/lib/containerd
  free=$(($(df -Pk /var/lib/containerd | awk 'NR == 2 { print $4 }') / 1024))
  reserve=$((OPT_RESERVE_GIB * 1024))
  say "$missing of ${#IMAGE_REFS[@]} images to pull need $needed MiB ($estimated sizes estimated), $free MiB are free"
  [ $((free - needed)) -ge "$reserve" ] ||
    die "$needed MiB for $missing images ($estimated sizes estimated) and a reserve of $reserve MiB do not fit into the $free MiB that are free: take a larger root volume"
}

# --- registry login ----------------------------------------------------------------------------------------------------

ecr_registry() { printf '%s\n' "${1%%/*}" | grep -E '^[0-9]{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.' || true; }
ecr_region() { printf '%s\n' "$1" | sed -E 's/^[0-9]{12}\.dkr[.-]ecr(-fips)?\.([a-z0-9-]+)\..*/\2/'; }

# The token by the AWS CLI, or without it: credentials of the instance profile from the metadata service, a signed
# GetAuthorizationToken by curl. Secrets pass through pipes and standard input only: no argument, no file, no log.
ecr_password() {
  local region=$1 python
  if have aws; then
    aws ecr get-login-password --region "$region"
    return
  fi
  python=$(a_python) || die "a private registry needs the AWS CLI or python on the builder"
  imds_credentials | "$python" -c '
import datetime, hashlib, hmac, json, sys
region, credentials = sys.argv[1], json.load(sys.stdin)
suffix = ".amazonaws.com.cn" if region.startswith("cn-") else ".amazonaws.com"
host, body, target = "api.ecr." + region + suffix, "{}", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
now = datetime.datetime.utcnow().strftime("%Y%m%dT%H%M%SZ")
headers = [("content-type", "application/x-amz-json-1.1"), ("host", host), ("x-amz-date", now),
           ("x-amz-security-token", credentials["Token"]), ("x-amz-target", target)]
names = ";".join(name for name, _ in headers)
digest = lambda text: hashlib.sha256(text.encode("utf-8")).hexdigest()
canonical = "\n".join(["POST", "/", ""] + [name + ":" + value for name, value in headers] + ["", names, digest(body)])
scope = "/".join([now[:8], region, "ecr", "aws4_request"])
to_sign = "\n".join(["AWS4-HMAC-SHA256", now, scope, digest(canonical)])
key = ("AWS4" + credentials["SecretAccessKey"]).encode("utf-8")
for part in scope.split("/"):
    key = hmac.new(key, part.encode("utf-8"), hashlib.sha256).digest()
signature = hmac.new(key, to_sign.encode("utf-8"), hashlib.sha256).hexdigest()
headers.append(("authorization", "AWS4-HMAC-SHA256 Credential=" + credentials["AccessKeyId"] + "/" + scope
                + ", SignedHeaders=" + names + ", Signature=" + signature))
print("url = https://" + host + "/")
print("data = " + json.dumps(body))
for name, value in headers:
    if name != "host":
        print("header = " + json.dumps(name + ": " + value))
' "$region" | curl -fsS --max-time 30 -K - | "$python" -c '
import base64, json, sys
token = json.load(sys.stdin)["authorizationData"][0]["authorizationToken"]
print(base64.b64decode(token).decode("ascii").split(":", 1)[1])'
}

imds_credentials() {
  local base=http://169.254.169.254/latest token role
  token=$(curl -fsS --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$base/api/token")
  role=$(imds "$token" "$base/meta-data/iam/security-credentials/") || return 1
  imds "$token" "$base/meta-data/iam/security-credentials/$role"
}
imds() { printf 'header = "X-aws-ec2-metadata-token: %s"\n' "$1" | curl -fsS --max-time 5 -K - "$2"; }

# login REGISTRY: leave what containerd's resolver sends to this registry in a folder in memory that only root reads
# and that goes with this script. `ctr --user` would show the password to everybody who runs ps.
login() {
  local registry=$1 password
  if [ -z "$AUTH" ]; then AUTH=$(umask 077 && mktemp -d /dev/shm/leptonami-auth.XXXXXX) || return 1; fi
  password=$(ecr_password "$(ecr_region "$registry")") || return 1
  [ -n "$password" ] || return 1
  (
    umask 077
    mkdir -p "$AUTH/$registry" &&
    printf 'server = "https://%s"\n[host."https://%s"]\n  capabilities = ["pull", "resolve"]\n  [host."https://%s".header]\n    authorization = "Basic %s"\n' \
      "$registry" "$registry" "$registry" "$(printf 'AWS:%s' "$password" | base64 | tr -d '\n')" >"$AUTH/$registry/hosts.toml"
  )
}

# --- pulls -------------------------------------------------------------------------------------------------------------

pull_once() {
  local ref=$1 registry
  registry=$(ecr_registry "$ref")
  # A token lasts 12 hours at most: a fresh one for each try costs less than thinking about it.
  local ways=()
  if [ -n "$registry" ]; then
    login "$registry" || {
      warn "no login for $registry: may the builder's instance profile call ecr:GetAuthorizationToken?"
      return 1
    }
    ways=(--hosts-dir "$AUTH")
  fi
  # Where the benchmark bakes on this machine, a folder of hosts.toml files leads to its registry.
  if [ -n "${LEPTONAMI_HOSTS_DIR:-}" ] && [ -z "$registry" ]; then ways=(--hosts-dir "$LEPTONAMI_HOSTS_DIR"); fi
  # A registry on this machine, as rehearsals have it, speaks HTTP; ctr 1.7 would insist on HTTPS.
  case "$ref" in 127.0.0.1:* | localhost:*) ways=(--plain-http) ;; esac
  timeout "$PULL_SECONDS" ctr -n k8s.io images pull --platform "linux/$LEPTONAMI_ARCHITECTURE" \
    --label io.cri-containerd.image=managed ${ways[@]+"${ways[@]}"} "$ref" >/dev/null
}

pull() {
  local ref=$1 wanted=$2 found state platforms
  if present "$ref" "$wanted"; then
    say "    is there already"
  else
    retry "$OPT_ATTEMPTS" "$PULL_DELAY" pull_once "$ref" || die "cannot pull $ref"
  fi
  local listed
  listed=$(ctr -n k8s.io images ls "name==$ref")
  found=$(of_digest "$ref" <<<"$listed")
  [ -n "$found" ] || die "$ref is not there after its pull"
  if [ -n "$wanted" ] && [ "$found" != "$wanted" ]; then
    ctr -n k8s.io images rm "$ref" >/dev/null || true
    die "$ref is $found, the list says $wanted: the tag was moved, or the list is out of date"
  fi
  state=$(ctr -n k8s.io images check "name==$ref" | of_state "$ref")
  [ "$state" = "complete true" ] ||
    die "$ref is pulled but not usable (content and unpacked: ${state:-unknown}); is it made for linux/$LEPTONAMI_ARCHITECTURE?"
  platforms=$(of_platforms "$ref" <<<"$listed")
  for_us "$platforms" || die "$ref is for ${platforms:-an unknown platform}, not for linux/$LEPTONAMI_ARCHITECTURE"
}

pin() { ctr -n k8s.io images label "$1" io.cri-containerd.image=managed io.cri-containerd.pinned=pinned >/dev/null; }

# --- all of it -----------------------------------------------------------------------------------------------------------

state_dir
if [ "${#IMAGE_REFS[@]}" -eq 0 ]; then
  say "the list has no image for $LEPTONAMI_ARCHITECTURE"
  printf '[]\n' >"$STATE/prefetch.json"
  exit 0
fi
containerd_up
BEFORE=$(ctr -n k8s.io images ls)
BEFORE_CHECK=$(ctr -n k8s.io images check)
check_room
count=${#IMAGE_REFS[@]}
for index in "${!IMAGE_REFS[@]}"; do
  ref=${IMAGE_REFS[$index]}
  say "$((index + 1)) of $count: $ref"
  pull "$ref" "${IMAGE_DIGESTS[$index]}"
  pin "$ref"
  for tag in ${IMAGE_TAGS[$index]}; do
    ctr -n k8s.io images tag --force "$ref" "$tag" >/dev/null
    pin "$tag"
  done
done

# A clean stop writes containerd's database out. And CRI reads labels that came after a pull only when it starts
# (containerd pull requests 9381 and 9785), so what it shows now is what the nodes will see.
systemctl stop containerd
sync
systemctl start containerd
wait_until 120 "containerd" containerd_answers

version=$(containerd_version)
seen="" how=verified
if ! containerd_pins; then
  how="ignored by containerd $version"
  warn "containerd $version does not hand pins on through CRI: the kubelet may remove the images when the disk is full"
else
  status=0
  seen=$(cri_images) || status=$?
  if [ "$status" -ne 0 ]; then
    how="not verified"
    warn "CRI cannot be asked here (no crictl, and no curl and python): the pins are not verified"
    [ "$OPT_PINS" = reported ] || die "the pins cannot be verified; 'pins: reported' accepts that"
  fi
fi

failed=0 comma="" listed=$(ctr -n k8s.io images ls)
{
  printf '['
  for index in "${!IMAGE_REFS[@]}"; do
    for name in "${IMAGE_REFS[$index]}" ${IMAGE_TAGS[$index]}; do
      pinned=$how
      if [ "$how" = verified ] && ! grep -Fqx "$name true" <<<"$seen"; then
        pinned="not pinned"
        failed=$((failed + 1))
        warn "CRI does not show $name as pinned"
      fi
      printf '%s\n  {"ref": %s, "digest": %s, "pin": %s}' "$comma" "$(json_string "$name")" \
        "$(json_string "$(of_digest "$name" <<<"$listed")")" "$(json_string "$pinned")"
      comma=,
    done
  done
  printf '\n]\n'
} >"$STATE/prefetch.json"
[ "$failed" -eq 0 ] || [ "$OPT_PINS" = reported ] || die "$failed images are not pinned"
containerd_restore
say "$count images are there, unpacked; pins: $how"
