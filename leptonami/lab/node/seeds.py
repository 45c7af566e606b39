"""What is on the disk of a base AMI, as far as provisioning scripts look: believable, small, our own.

Versions are of the kind that the families had in 2026 and are no promise; that of a real image is read on the builder.
The bootstrap script is a stub written for this lab: Canonical's is not ours to ship. Its containerd templates have the
gaps that users reported (canonical/ubuntu-cloud-docs issue 389): no systemd cgroups, sandbox image or CNI folders in
the NVIDIA one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leptonami.lab.node import safely
from leptonami.lab.node.sandbox import layout

__all__ = ["GLIBC", "seed"]

CODENAMES = {"20.04": "focal", "22.04": "jammy", "24.04": "noble", "26.04": "resolute"}
# The kernel that runs on the base image, and a newer one in the archive.
KERNELS = {
    "20.04": ("5.15.0-1051-aws", "5.15.0-1057-aws"),
    "22.04": ("6.8.0-1044-aws", "6.8.0-1050-aws"),
    "24.04": ("6.17.0-1007-aws", "6.17.0-1012-aws"),
    "26.04": ("7.0.0-1004-aws", "7.0.0-1009-aws"),
}
CONTAINERD = {
    "20.04": ("1.6.12", "1.1.4"),
    "22.04": ("1.7.28", "1.3.3"),
    "24.04": ("1.7.28", "1.3.3"),
    "26.04": ("2.2.1", "1.3.4"),
    "2": ("1.7.27", "1.2.4"),
    "2023": ("2.1.5", "1.3.3"),
}
# By ID and the first part of VERSION_ID. https://packages.ubuntu.com/search?keywords=libc6 (20.04 to 26.04),
# https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html (2.26 and 2.34), Bottlerocket's packages/glibc.
GLIBC = {
    ("ubuntu", "20"): "2.31",
    ("ubuntu", "22"): "2.35",
    ("ubuntu", "24"): "2.39",
    ("ubuntu", "26"): "2.43",
    ("amzn", "2"): "2.26",
    ("amzn", "2023"): "2.34",
    ("bottlerocket", "1"): "2.42",
}
# Kernel and containerd of Bottlerocket's variants: newer ones from the Kubernetes version named on.
# https://bottlerocket.dev/en/os/latest/#/concepts/variants/
BOTTLEROCKET = {"1.26": ("5.15.196", "1.7.29"), "1.28": ("6.1.158", "1.7.29"), "1.33": ("6.12.58", "2.1.5")}
# Releases of each driver branch, oldest first. The archive keeps all of the libraries, as the pool does, but prebuilt
# modules only for the newest: that is why an older pin needs DKMS.
DRIVERS = {
    "470": ("470.239.06", "470.256.02"),
    "525": ("525.105.17", "525.147.05"),
    "535": ("535.183.01", "535.183.06", "535.247.01", "535.309.01"),
    "550": ("550.127.08", "550.163.01"),
    "570": ("570.172.08", "570.211.01"),
    "580": ("580.95.05", "580.126.09", "580.159.03"),
}
TOOLKIT = ("1.13.5-1", "1.14.6-1", "1.16.2-1", "1.17.4-1", "1.17.8-1", "1.18.1-1", "1.19.0-1")
TOOLKIT_PACKAGES = (
    "libnvidia-container1",
    "libnvidia-container-tools",
    "nvidia-container-toolkit-base",
    "nvidia-container-toolkit",
)
KUBELET = {
    "1.26": "1.26.15",
    "1.27": "1.27.16",
    "1.28": "1.28.15",
    "1.29": "1.29.15",
    "1.30": "1.30.14",
    "1.31": "1.31.14",
    "1.32": "1.32.11",
    "1.33": "1.33.8",
    "1.34": "1.34.5",
    "1.35": "1.35.2",
    "1.36": "1.36.0",
}
# The part of a base image's packages that matters, and enough others for a list to look like one.
UBUNTU_PACKAGES = (
    *("adduser", "apt", "base-files", "bash", "ca-certificates", "cloud-init", "coreutils", "curl", "dbus", "dpkg"),
    *("ena-dkms", "findutils", "gpg", "grep", "gzip", "iproute2", "kmod", "libc6", "linux-base", "lsb-release", "mawk"),
    *("netplan.io", "nfs-common", "openssh-server", "openssl", "psmisc", "python3", "python3-apt", "sed", "snapd"),
    *("sudo", "systemd", "tar", "tzdata", "ubuntu-minimal", "ubuntu-server", "unattended-upgrades", "util-linux"),
)
AMAZON_PACKAGES = (
    *(
        "amazon-ssm-agent",
        "aws-cfn-bootstrap",
        "awscli",
        "bash",
        "ca-certificates",
        "chrony",
        "cloud-init",
        "conntrack",
    ),
    *("containerd", "coreutils", "curl", "ec2-net-utils", "ethtool", "glibc", "grep", "iproute", "iptables", "jq"),
    *(
        "kernel",
        "kmod",
        "openssh-server",
        "openssl",
        "python3",
        "rpm",
        "runc",
        "sed",
        "socat",
        "sudo",
        "systemd",
        "tar",
    ),
)
UBUNTU_TOOLS = (
    *("apt-cache", "apt-get", "apt-mark", "cloud-init", "containerd", "ctr", "curl", "depmod", "df", "dmesg", "dpkg"),
    *("dpkg-query", "fuser", "gpg", "halt", "journalctl", "lab-shutdown", "lsmod", "modinfo", "modprobe", "poweroff"),
    *("reboot", "runc", "shutdown", "snap", "systemctl", "uname", "update-initramfs"),
)
AMAZON_TOOLS = (
    *(
        "aws",
        "cloud-init",
        "containerd",
        "ctr",
        "curl",
        "depmod",
        "df",
        "dmesg",
        "gpg",
        "halt",
        "journalctl",
        "kubelet",
    ),
    *(
        "lab-shutdown",
        "lsmod",
        "modinfo",
        "modprobe",
        "poweroff",
        "reboot",
        "rpm",
        "runc",
        "shutdown",
        "systemctl",
        "uname",
    ),
)

# Services that write something when they stop, so that what hygiene does too early shows.
AGENT = {
    "enabled": True,
    "boot": True,
    "writes": {
        "/var/log/amazon/ssm/amazon-ssm-agent.log": "INFO agent stops\n",
        "/var/lib/amazon/ssm/ipc/health": "0\n",
    },
}
RANDOM_SEED = {"enabled": True, "boot": True, "writes": {"/var/lib/systemd/random-seed": "seed saved at stop\n"}}

CONTAINERD_TEMPLATE = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "SANDBOX_IMAGE"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"""
NVIDIA_TEMPLATE = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "nvidia"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_type = "io.containerd.runc.v2"
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
"""
CONTAINERD_TEMPLATE_V3 = """\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "SANDBOX_IMAGE"

[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = "runc"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"""
NVIDIA_TEMPLATE_V3 = """\
version = 3

[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = "nvidia"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]
BinaryName = "/usr/bin/nvidia-container-runtime"
"""
BOOTSTRAP = """\
#!/bin/bash
# A stub of the lab, not Canonical's script: it does what leptonami's templates and guard depend on.
set -euo pipefail
runtime=containerd
pause=602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.10
while [ $# -gt 0 ]; do
  case "$1" in
    --container-runtime) runtime=$2 && shift 2 ;;
    --*) shift 2 ;;
    *) cluster=$1 && shift ;;
  esac
done
share=/usr/local/share/eks
case "$runtime" in
  nvidia-container-runtime) cp $share/nvidia-runtime-config.toml /etc/containerd/config.toml ;;
  *) sed "s,SANDBOX_IMAGE,$pause,g" $share/containerd-config.toml >/etc/containerd/config.toml ;;
esac
systemctl restart containerd
snap start kubelet-eks
echo "joined ${cluster:-no cluster}"
"""
MAX_PODS = "# instance type, pods\ng4dn.xlarge 29\ng5.xlarge 58\nm6i.large 29\n"


def _kubelet(kubernetes: str) -> str:
    return KUBELET.get(kubernetes, f"{kubernetes}.0")


def _kernel_packages(kernel: str) -> dict[str, str]:
    """Name what a kernel of Ubuntu needs to boot, with the versions of its packages."""
    return dict.fromkeys((f"linux-image-{kernel}", f"linux-modules-{kernel}"), kernel.removesuffix("-aws") + ".1")


def _boot_files(root: Path, kernel: str) -> None:
    """Put a kernel onto a disk."""
    safely.write(root, f"boot/vmlinuz-{kernel}", "lab kernel\n")
    safely.write(root, f"usr/lib/modules/{kernel}/modules.dep", "")


def _ubuntu_archive(release: str) -> dict[str, Any]:
    """Give what `apt-get` can install on an Ubuntu release."""
    found: dict[str, Any] = {}

    def add(name: str, *versions: str, depends: Mapping[str, list[str]] | None = None, **more: str) -> None:
        entry: dict[str, Any] = {"repository": "ubuntu", "versions": list(versions), **more}
        if depends:
            entry["depends"] = dict(depends)
        found[name] = entry

    for kernel in KERNELS[release]:
        packages = _kernel_packages(kernel)
        image, modules = packages
        add(image, packages[image], depends={"*": [modules]})
        add(modules, packages[modules])
        add(f"linux-headers-{kernel}", packages[image])
    for branch, upstream in DRIVERS.items():
        if (release == "26.04" and int(branch) < 570) or (release == "20.04" and int(branch) > 550):
            continue
        versions = [f"{each}-0ubuntu0.{release}.1" for each in upstream]
        for flavour in ("", "-server"):
            s = f"{branch}{flavour}"
            libraries = [f"{name}-{s}" for name in ("libnvidia-cfg1", "libnvidia-compute", "nvidia-compute-utils")]
            for name in (*libraries, f"nvidia-kernel-common-{s}", f"nvidia-firmware-{s}"):
                add(name, *versions)
            common = [f"{name}=same" for name in (*libraries, f"nvidia-kernel-common-{s}")]
            add(f"nvidia-utils-{s}", *versions, depends={"*": [f"libnvidia-compute-{s}=same"]})
            for opened in ("",) if branch == "470" else ("", "-open"):
                add(f"nvidia-headless-no-dkms-{s}{opened}", *versions, depends={"*": common})
                add(f"nvidia-dkms-{s}{opened}", *versions, depends={"*": ["dkms", "build-essential"]})
                for kernel in KERNELS[release]:
                    add(
                        f"linux-modules-nvidia-{s}{opened}-{kernel}",
                        kernel.removesuffix("-aws") + ".1",
                        depends={"*": [f"linux-image-{kernel}", f"nvidia-kernel-common-{s}"]},
                        driver=upstream[-1],
                    )
        add(f"nvidia-fabricmanager-{branch}", *(f"{each}-1" for each in upstream))
    for name in ("build-essential", "dkms", "htop", "jq", "nvme-cli", "tree"):
        add(name, f"1.0-lab{release}")
    # Something whose installation would move containerd to another release.
    newer = f"1.7.99-0ubuntu0~{release}.1"
    add("containerd", _containerd_package(release), newer)
    add("needs-newer-containerd", "1.0", depends={"1.0": [f"containerd={newer}"]})
    for name in TOOLKIT_PACKAGES:
        need = [
            f"{other}=same"
            for other in TOOLKIT_PACKAGES
            if TOOLKIT_PACKAGES.index(other) < TOOLKIT_PACKAGES.index(name)
        ]
        found[name] = {"repository": "nvidia", "versions": list(TOOLKIT), "depends": {"*": need[-1:]}}
    return found


def _containerd_package(release: str) -> str:
    return f"{CONTAINERD[release][0]}-0ubuntu0~{release}.1"


def _state(root: Path, name: str, value: Any) -> None:
    safely.write(root, f"lab/state/{name}.json", json.dumps(value, indent=1, sort_keys=True))


def _tools(root: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (root / "lab/bin" / name).symlink_to("/lab/tool")
    (root / "lab/bin/python3").symlink_to("/lab/python3")


def seed(root: Path, *, family: str, os: str, kubernetes: str, architecture: str, image_name: str) -> None:
    """Make the node root of a base AMI, believable for its family.

    Parameters
    ----------
    root
        A folder that does not exist yet, or is empty.
    family, os, kubernetes, architecture
        As in the catalog.
    image_name
        Name of the AMI; kept on the machine as the family does it.
    """
    layout(root)
    safely.write(root, "etc/passwd", "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n")
    safely.write(root, "etc/group", "root:x:0:\nubuntu:x:1000:\n")
    safely.write(root, "etc/hosts", "127.0.0.1 localhost\n")
    safely.write(root, "etc/fstab", "LABEL=root / auto defaults 0 1\n")
    safely.write(root, "etc/machine-id", "")
    safely.write(root, "etc/ssh/sshd_config", "PermitRootLogin prohibit-password\n")
    for folder in ("etc/cni/net.d", "etc/containerd", "etc/modprobe.d", "etc/systemd/system", "opt/cni/bin"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("var/lib/containerd", "var/lib/kubelet", "var/log/journal", "var/tmp", "var/cache", "var/lib/cloud"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "var/tmp").chmod(0o1777)
    (root / "var/run").symlink_to("/run")
    if family == "ubuntu-eks":
        _ubuntu(root, os, kubernetes, architecture, image_name)
    elif family.startswith("al2"):
        _amazon(root, family, kubernetes, architecture, image_name)
    else:
        _bottlerocket(root, family, os, kubernetes)


def _bottlerocket(root: Path, family: str, release: str, kubernetes: str) -> None:
    """Nothing can be installed there: what a variant has is all there is, driver and toolkit included."""
    variant = f"aws-k8s-{kubernetes}" + ("-nvidia" if family.endswith("nvidia") else "")
    safely.write(
        root,
        "etc/os-release",
        f'NAME=Bottlerocket\nID=bottlerocket\nVERSION_ID="{release}"\n'
        f'PRETTY_NAME="Bottlerocket OS {release} ({variant})"\nVARIANT_ID={variant}\n',
    )
    safely.write(root, "etc/hostname", "localhost\n")
    since = max((each for each in BOTTLEROCKET if each <= kubernetes), default="1.26")
    kernel, containerd = BOTTLEROCKET[since]
    versions = {"kernel": kernel, "containerd": containerd, "kubelet": _kubelet(kubernetes)}
    if family.endswith("nvidia"):
        versions |= {"nvidia": DRIVERS["580"][-1], "nvidia-toolkit": TOOLKIT[-1]}
    _state(root, "units", {})
    _state(root, "versions", versions)
    _tools(root, ("lab-shutdown", "systemctl"))


def _ubuntu(root: Path, release: str, kubernetes: str, architecture: str, image_name: str) -> None:
    codename, kernel = CODENAMES[release], KERNELS[release][0]
    containerd, runc = CONTAINERD[release]
    safely.write(
        root,
        "etc/os-release",
        f'PRETTY_NAME="Ubuntu {release} LTS"\nNAME="Ubuntu"\nVERSION_ID="{release}"\nVERSION_CODENAME={codename}\n'
        f"ID=ubuntu\nID_LIKE=debian\n",
    )
    safely.write(root, "etc/hostname", "ubuntu\n")
    safely.write(root, "etc/cloud/build.info", f"build_name: server\nserial: lab\nimage: {image_name}\n")
    port = "http://ports.ubuntu.com/ubuntu-ports" if architecture == "arm64" else "http://archive.ubuntu.com/ubuntu"
    safely.write(root, "etc/apt/sources.list", f"deb {port} {codename} main restricted\n")
    for folder in ("etc/apt/sources.list.d", "etc/apt/preferences.d", "var/lib/apt/lists", "var/cache/apt/archives"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _boot_files(root, kernel)
    (root / "boot/vmlinuz").symlink_to(f"vmlinuz-{kernel}")
    third = int(containerd.partition(".")[0]) >= 2
    share = "usr/local/share/eks"
    safely.write(root, f"{share}/containerd-config.toml", CONTAINERD_TEMPLATE_V3 if third else CONTAINERD_TEMPLATE)
    safely.write(root, f"{share}/nvidia-runtime-config.toml", NVIDIA_TEMPLATE_V3 if third else NVIDIA_TEMPLATE)
    safely.write(root, f"{share}/pull-sandbox-image.sh", "#!/bin/bash\nexit 0\n", mode=0o755)
    safely.write(root, "etc/eks/bootstrap.sh", BOOTSTRAP, mode=0o755)
    safely.write(root, "etc/eks/eni-max-pods.txt", MAX_PODS)
    safely.write(root, "etc/containerd/config.toml", "version = 2\n")
    installed = dict.fromkeys(UBUNTU_PACKAGES, f"1.0-{release}")
    installed |= {"containerd": _containerd_package(release), "runc": f"{runc}-0ubuntu1~{release}.1"}
    installed |= _kernel_packages(kernel)
    number = kernel.removesuffix("-aws") + ".2"
    installed |= dict.fromkeys(("linux-aws", "linux-image-aws", "linux-headers-aws"), number)
    _state(root, "packages", {"installed": installed, "held": []})
    _state(root, "archive", _ubuntu_archive(release))
    _state(root, "versions", {"containerd": containerd, "runc": runc, "kernel": kernel})
    version = _kubelet(kubernetes)
    channel = f"{version}/stable"
    snaps = {
        "amazon-ssm-agent": _snap("3.3.987.0", "9881", f"latest/stable/ubuntu-{release}", "aws", "classic"),
        "core22": _snap("20260128", "2339", "latest/stable", "canonical", "base"),
        "kubelet-eks": _snap(f"v{version}", "421", channel, "canonical", "classic"),
        "kubectl-eks": _snap(f"v{version}", "398", channel, "canonical", "classic"),
        "snapd": _snap("2.73", "25935", "latest/stable", "canonical", "snapd"),
    }
    if int(kubernetes.partition(".")[2]) >= 28:
        snaps["ecr-credential-provider"] = _snap(f"v{version}", "77", channel, "canonical", "classic")
    # The images of 2023 did not hold refreshes, those of today do.
    hold = None if release == "20.04" else "forever"
    safely.write(root, "var/lib/snapd/state.json", json.dumps({"snaps": snaps, "hold": hold, "held": []}))
    (root / "snap/bin").mkdir(parents=True)
    always: dict[str, Any] = {"enabled": True, "boot": True}
    never: dict[str, Any] = {"enabled": False}
    units = dict.fromkeys(
        ("containerd", "snapd", "ssh", "cron", "rsyslog", "snap.amazon-ssm-agent.amazon-ssm-agent"), always
    )
    units |= dict.fromkeys(("unattended-upgrades", "systemd-random-seed"), always)
    units |= dict.fromkeys(("apt-daily", "apt-daily-upgrade", "snap.kubelet-eks.daemon"), never)
    units["snap.amazon-ssm-agent.amazon-ssm-agent"] = AGENT
    units["systemd-random-seed"] = RANDOM_SEED
    named: dict[str, Any] = {f"{name}.service": unit for name, unit in units.items()}
    named |= {"apt-daily.timer": always, "apt-daily-upgrade.timer": always}
    _state(root, "units", named)
    (root / "home/ubuntu").mkdir(exist_ok=True)
    _tools(root, UBUNTU_TOOLS)


def _snap(version: str, revision: str, channel: str, publisher: str, notes: str) -> dict[str, str]:
    return {"version": version, "revision": revision, "channel": channel, "publisher": publisher, "notes": notes}


def _amazon(root: Path, family: str, kubernetes: str, architecture: str, image_name: str) -> None:
    release = "2023" if family.startswith("al2023") else "2"
    modern = release == "2023"
    gpu = family in ("al2-gpu", "al2023-nvidia")
    containerd, runc = CONTAINERD[release]
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    kernel = f"6.12.68-92.122.amzn2023.{machine}" if modern else f"5.10.245-241.978.amzn2.{machine}"
    pretty = "Amazon Linux 2023" if modern else "Amazon Linux 2"
    safely.write(
        root, "etc/os-release", f'NAME="Amazon Linux"\nVERSION_ID="{release}"\nID="amzn"\nPRETTY_NAME="{pretty}"\n'
    )
    safely.write(root, "etc/hostname", "localhost\n")
    safely.write(root, "etc/eks/release", f'BASE_AMI="{image_name}"\nARCH="{machine}"\n')
    safely.write(root, "etc/eks/eni-max-pods.txt", MAX_PODS)
    _boot_files(root, kernel)
    template = CONTAINERD_TEMPLATE_V3 if int(containerd.partition(".")[0]) >= 2 else CONTAINERD_TEMPLATE
    safely.write(root, "etc/containerd/config.toml", template)
    if modern:
        safely.write(root, "etc/eks/nodeadm/config.yaml", "# nodeadm reads its NodeConfig from user data\n")
    else:
        safely.write(
            root,
            "etc/eks/bootstrap.sh",
            BOOTSTRAP.replace("snap start kubelet-eks", "systemctl start kubelet"),
            mode=0o755,
        )
        safely.write(root, "etc/eks/containerd/containerd-config.toml", template)
    suffix = "amzn2023" if modern else "amzn2"
    installed = dict.fromkeys(AMAZON_PACKAGES, f"1.0-1.{suffix}")
    installed |= {"containerd": f"{containerd}-1.{suffix}.0.1", "runc": f"{runc}-1.{suffix}"}
    installed["kernel"] = kernel.rpartition(".")[0]
    if gpu:
        driver = "580.126.09" if modern else "570.172.08"
        installed |= {"nvidia-driver": f"{driver}-1.{suffix}", "nvidia-container-toolkit": "1.18.1-1"}
        module = {
            "version": driver,
            "vermagic": f"{kernel} SMP mod_unload",
            "license": "Dual MIT/GPL" if modern else "NVIDIA",
        }
        safely.write(root, f"usr/lib/modules/{kernel}/kernel/drivers/video/nvidia/nvidia.ko", json.dumps(module))
    _state(root, "packages", {"installed": installed, "held": []})
    _state(root, "archive", {n: {"repository": "amazon", "versions": ["1.0-1"]} for n in ("htop", "tree", "nvme-cli")})
    _state(
        root, "versions", {"containerd": containerd, "runc": runc, "kernel": kernel, "kubelet": _kubelet(kubernetes)}
    )
    always: dict[str, Any] = {"enabled": True, "boot": True}
    never: dict[str, Any] = {"enabled": False}
    units = {"amazon-ssm-agent.service": AGENT, "sshd.service": always, "systemd-random-seed.service": RANDOM_SEED}
    units |= {"containerd.service": never, "kubelet.service": never}
    if modern:
        units |= {"nodeadm-run.service": always, "nodeadm-config.service": always}
    if gpu and modern:
        units["nvidia-kmod-load.service"] = always
    _state(root, "units", units)
    (root / "home/ec2-user").mkdir(exist_ok=True)
    # Of the two, AL2023 has no crictl here, so that both ways to ask CRI are used in the lab.
    extra = ("dnf",) if modern else ("crictl",)
    graphics = ("nvidia-smi", "nvidia-ctk", "nvidia-container-cli") if gpu else ()
    _tools(root, (*AMAZON_TOOLS, *extra, "yum", *graphics))
