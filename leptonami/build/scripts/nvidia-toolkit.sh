# leptonami-step: nvidia-toolkit
# summary: install the pinned NVIDIA container toolkit and patch the containerd templates that bootstrap copies
# order: 40
# needs: settle
# families: ubuntu-eks
# timeout: 20m
# option version: string required match=[0-9]+\.[0-9A-Za-z.+~-]+ -- toolkit version, such as "1.17.8-1"; libnvidia-container gets the same
# option repository: string default=https://nvidia.github.io/libnvidia-container/stable/deb match=(https|file)://[!-~]+ -- NVIDIA's package repository, or a mirror of it (https: or file:)
# option key_url: string default=https://nvidia.github.io/libnvidia-container/gpgkey match=(https|file)://[!-~]+ -- where the repository's signing key is
# option key_fingerprint: string default=C95B321B61E88C1809C4F759DDCAE044F796ECB0 match=[0-9A-F]{40} -- the only key that is accepted
# option default_runtime: nvidia|runc default=nvidia -- the runtime of containers that ask for none
# option sandbox_image: string default=public.ecr.aws/eks-distro/kubernetes/pause:3.10 match=[!-~]+ -- for templates that name none
# shellcheck shell=bash

fetch_key() {
  local work found
  work=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder as it is now
  trap "rm -rf '$work'" EXIT
  retry 5 2 curl -fsS --proto '=https,file' --max-time 60 -o "$work/key" "$OPT_KEY_URL" || die "cannot fetch $OPT_KEY_URL"
  found=$(key_fingerprints "$work/key" "$work") || die "$OPT_KEY_URL is not an OpenPGP key"
  [ "$found" = "$OPT_KEY_FINGERPRINT" ] ||
    die "the key at $OPT_KEY_URL has the fingerprint ${found:-(none)}, the plan accepts $OPT_KEY_FINGERPRINT only"
  gpg --batch --no-options --homedir "$work" --yes --dearmor -o "$work/keyring" "$work/key"
  install -d -m 0755 /etc/apt/keyrings
  install -m 0644 "$work/keyring" "$KEYRING"
  rm -rf "$work"
  trap - EXIT
}

install_toolkit() {
  local version package list=""
  fetch_key
  printf 'deb [arch=%s signed-by=%s] %s/%s /\n' \
    "$LEPTONAMI_ARCHITECTURE" "$KEYRING" "$OPT_REPOSITORY" "$LEPTONAMI_ARCHITECTURE" >"$SOURCES"
  apt_quiet
  retry 3 10 apt_get update
  version=$(apt_version nvidia-container-toolkit "$OPT_VERSION")
  for package in $TOOLKIT_PACKAGES; do list="$list $package=$version"; done
  # shellcheck disable=SC2086 # a list of package names
  apt_install $list
  # shellcheck disable=SC2086
  apt-mark hold $TOOLKIT_PACKAGES >/dev/null
  nvidia-ctk --version >/dev/null || die "nvidia-ctk does not run"
  installed="$version"
}

# toml_set FILE TABLE KEY VALUE: set a key in a table written as [TABLE], adding what is missing. For files that write
# each table under its own header, as containerd's and Canonical's templates do. 'a' and "a" in headers are the same.
toml_set() {
  local file=$1
  TOML_TABLE=$2 TOML_KEY=$3 TOML_VALUE=$4 awk '
    function plain(text) { gsub(/[ \t\047"]/, "", text); sub(/#.*/, "", text); return text }
    BEGIN { table = "[" plain(ENVIRON["TOML_TABLE"]) "]"; key = ENVIRON["TOML_KEY"]; line = key " = " ENVIRON["TOML_VALUE"] }
    /^[ \t]*\[/ {
      if (inside && !done) { print line; done = 1 }
      inside = (plain($0) == table)
      print
      next
    }
    inside && $0 ~ ("^[ \t]*" key "[ \t]*=") { if (!done) print line; done = 1; next }
    { print }
    END {
      if (!done) { if (!inside) printf "\n[%s]\n", ENVIRON["TOML_TABLE"]; print line }
    }' "$file" >"$file.new"
  # In place: owner and mode stay as they are.
  cat "$file.new" >"$file"
  rm -f "$file.new"
}

# What a node needs in each template, whichever of the two its bootstrap copies (ubuntu-cloud-docs issue 389).
patch_template() {
  local file=$1 runtime=$2 cri sandbox plain="$TEMPLATES/containerd-config.toml" name value
  cri=$(cri_table "$file")
  [ -e "$file.leptonami-base" ] || cp -p "$file" "$file.leptonami-base"
  if [ "$cri" = 'plugins."io.containerd.cri.v1.runtime"' ]; then
    sandbox='plugins."io.containerd.cri.v1.images".pinned_images'
    [ -n "$(toml_get "$file" "$sandbox" sandbox)" ] || toml_set "$file" "$sandbox" sandbox "\"$OPT_SANDBOX_IMAGE\""
  elif [ -z "$(toml_get "$file" "$cri" sandbox_image)" ]; then
    value=$(toml_get "$plain" "$(cri_table "$plain")" sandbox_image)
    # A placeholder is filled in by bootstrap in its own template only.
    case "$value" in */*) ;; *) value="\"$OPT_SANDBOX_IMAGE\"" ;; esac
    toml_set "$file" "$cri" sandbox_image "$value"
  fi
  toml_set "$file" "$cri.containerd" default_runtime_name "\"$runtime\""
  for name in runc nvidia; do
    toml_set "$file" "$cri.containerd.runtimes.$name" runtime_type '"io.containerd.runc.v2"'
    toml_set "$file" "$cri.containerd.runtimes.$name.options" SystemdCgroup true
  done
  toml_set "$file" "$cri.containerd.runtimes.nvidia.options" BinaryName '"/usr/bin/nvidia-container-runtime"'
  for name in bin_dir:/opt/cni/bin conf_dir:/etc/cni/net.d; do
    [ -n "$(toml_get "$file" "$cri.cni" "${name%%:*}")" ] || toml_set "$file" "$cri.cni" "${name%%:*}" "\"${name#*:}\""
  done
  containerd -c "$file" config dump >/dev/null || die "containerd does not understand $file after patching"
  say "patched $file, default runtime $runtime"
}

installed=""
install_toolkit
[ -e "$TEMPLATES/containerd-config.toml" ] || die "this image has no $TEMPLATES/containerd-config.toml: it is not Canonical's EKS image"
# Without the flag --container-runtime, bootstrap copies this one:
patch_template "$TEMPLATES/containerd-config.toml" "$OPT_DEFAULT_RUNTIME"
# With --container-runtime nvidia-container-runtime it copies that one:
if [ -e "$TEMPLATES/nvidia-runtime-config.toml" ]; then
  patch_template "$TEMPLATES/nvidia-runtime-config.toml" nvidia
fi
state_dir
printf '%s\n' "$installed" >"$STATE/nvidia-toolkit"
say "toolkit $installed"
