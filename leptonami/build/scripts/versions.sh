# leptonami-step: versions
# summary: write down what is on the image, in /etc/leptonami
# order: 80
# needs: settle
# families: ubuntu-eks al2 al2-gpu al2023 al2023-nvidia
# timeout: 10m
# shellcheck shell=bash

FOLDER=/etc/leptonami

# What cannot be found out is an error, not an empty string: an empty kubelet version once went unnoticed for years.
sure() { [ -n "$2" ] || die "cannot find out $1"; }
or_null() { if [ -n "$1" ]; then json_string "$1"; else printf 'null'; fi; }

snaps() {
  have snap || { printf '[]'; return; }
  snap list | awk '
    function js(s) { gsub(/["\\]/, "\\\\&", s); return "\"" s "\"" }
    BEGIN { printf "[" }
    NR > 1 { printf "%s\n    {\"name\": %s, \"version\": %s, \"revision\": %s, \"channel\": %s, \"held\": %s}", comma,
             js($1), js($2), js($3), js($4), ($6 ~ /held/ ? "true" : "false"); comma = "," }
    END { printf "]" }'
}

images() {
  ctr -n k8s.io images ls | awk '
    function js(s) { gsub(/["\\]/, "\\\\&", s); return "\"" s "\"" }
    BEGIN { printf "[" }
    NR > 1 && $1 !~ /^sha256:/ { printf "%s\n    {\"ref\": %s, \"digest\": %s, \"pinned\": %s}", comma, js($1), js($3),
             ($NF ~ /io\.cri-containerd\.pinned=pinned/ ? "true" : "false"); comma = "," }
    END { printf "]" }'
}

more() {
  local entry comma=""
  printf '{'
  for entry in ${RECORD_MORE[@]+"${RECORD_MORE[@]}"}; do
    printf '%s%s: %s' "$comma" "$(json_string "${entry%%=*}")" "$(json_string "${entry#*=}")"
    comma=", "
  done
  printf '}'
}

install -d -m 0755 "$FOLDER"
list_packages >"$FOLDER/packages.txt.new"
[ -s "$FOLDER/packages.txt.new" ] || die "the package manager lists no package"
mv "$FOLDER/packages.txt.new" "$FOLDER/packages.txt"
chmod 0644 "$FOLDER/packages.txt"

kubelet="" kubelet_from=""
kubelet_version
driver="" module_kernel="" module_license=""
if modinfo nvidia >/dev/null 2>&1; then
  driver=$(modinfo -F version nvidia)
  module_kernel=$(modinfo -F vermagic nvidia | awk '{ print $1 }')
  module_license=$(modinfo -F license nvidia)
fi
toolkit=""
if have nvidia-ctk; then toolkit=$(toolkit_version); fi
hold=""
if [ -e "$STATE/snap-hold" ]; then hold=$(cat "$STATE/snap-hold"); fi
# shellcheck source=/dev/null
pretty=$(. /etc/os-release && printf '%s' "${PRETTY_NAME:-$ID $VERSION_ID}")
containerd_up
containerd=$(containerd_version)
runc=$(runc --version | awk 'NR == 1 { print $3 }')
# Before the record is begun: in the middle of it, inside a substitution, `die` would not end the script.
sure "the operating system" "$pretty"
sure "the kernel" "$(uname -r)"
sure "containerd's version" "$containerd"
sure "runc's version" "$runc"
sure "the kubelet's version" "$kubelet"

{
  printf '{\n'
  printf '  "schema": 1,\n'
  printf '  "plan": %s,\n  "run": %s,\n' "$(json_string "$LEPTONAMI_PLAN")" "$(json_string "$LEPTONAMI_RUN")"
  printf '  "family": %s,\n  "os": %s,\n' "$(json_string "$LEPTONAMI_FAMILY")" "$(json_string "$LEPTONAMI_OS")"
  printf '  "kubernetes": %s,\n' "$(json_string "$LEPTONAMI_KUBERNETES")"
  printf '  "architecture": %s,\n' "$(json_string "$LEPTONAMI_ARCHITECTURE")"
  printf '  "built_at": "%s",\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  printf '  "os_release": %s,\n' "$(json_string "$pretty")"
  printf '  "kernel": %s,\n' "$(json_string "$(uname -r)")"
  printf '  "containerd": %s,\n' "$(json_string "$containerd")"
  printf '  "runc": %s,\n' "$(json_string "$runc")"
  printf '  "kubelet": {"version": %s, "from": %s},\n' \
    "$(json_string "$kubelet")" "$(json_string "$kubelet_from")"
  printf '  "nvidia": {"driver": %s, "module_kernel": %s, "module_license": %s, "toolkit": %s},\n' \
    "$(or_null "$driver")" "$(or_null "$module_kernel")" "$(or_null "$module_license")" "$(or_null "$toolkit")"
  printf '  "snap_refresh_hold": %s,\n' "$(or_null "$hold")"
  printf '  "snaps": %s,\n' "$(snaps)"
  printf '  "images": %s,\n' "$(images)"
  printf '  "prefetched": '
  if [ -e "$STATE/prefetch.json" ]; then cat "$STATE/prefetch.json"; else printf 'null\n'; fi
  printf '  ,"packages": {"count": %s, "sha256": "%s", "list": "%s/packages.txt"},\n' \
    "$(wc -l <"$FOLDER/packages.txt")" "$(sha256sum "$FOLDER/packages.txt" | cut -d' ' -f1)" "$FOLDER"
  printf '  "more": %s\n' "$(more)"
  printf '}\n'
} >"$RECORD.new"
containerd_restore
if python=$(a_python); then "$python" -c 'import json, sys; json.load(sys.stdin)' <"$RECORD.new" || die "the record is not JSON"; fi
mv "$RECORD.new" "$RECORD"
chmod 0644 "$RECORD"
say "kernel $(uname -r), containerd $containerd, kubelet $kubelet ($kubelet_from), driver ${driver:-none}, toolkit ${toolkit:-none}"
