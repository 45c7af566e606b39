"""The device plugin's log. Synthetic, in the wording of k8s-device-plugin's source, unless it says "recorded"."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.deviceplugin import PluginState, looks_like_device_plugin_log, read_device_plugin_log

RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "original" / "device-plugin.log"

IDLE = """I0624 10:01:18.772990       1 main.go:235] Starting OS watcher.
I0624 10:01:18.773000       1 main.go:256] Retrieving plugins.
E0624 10:01:18.773660       1 factory.go:112] Incompatible strategy detected auto
E0624 10:01:18.773661       1 factory.go:113] If this is a GPU node, did you configure the NVIDIA Container Toolkit?
I0624 10:01:18.773686       1 main.go:381] No devices found. Waiting indefinitely.
"""
OLD = """2020/12/04 06:30:28 Loading NVML
2020/12/04 06:30:28 Starting FS watcher.
2020/12/04 06:30:28 Retreiving plugins.
2020/12/04 06:30:28 Starting GRPC server for 'nvidia.com/gpu'
2020/12/04 06:30:28 Starting to serve 'nvidia.com/gpu' on /var/lib/kubelet/device-plugins/nvidia-gpu.sock
2020/12/04 06:30:28 Registered device plugin for 'nvidia.com/gpu' with Kubelet
"""
OLD_FAILED = """2020/12/04 06:30:28 Loading NVML
2020/12/04 06:30:28 Failed to initialize NVML: could not load NVML library.
2020/12/04 06:30:28 If this is a GPU node, did you set the docker default runtime to `nvidia`?
"""


def test_recorded_log() -> None:
    """The original log (recorded 2023-06-24): the driver is the host's, one resource is registered."""
    log = read_device_plugin_log(RECORDED.read_bytes(), "device-plugin.log")
    assert log.state is PluginState.SERVING
    assert log.resources == ("nvidia.com/gpu",)
    assert log.environment == {"NVIDIA_DRIVER_ROOT": "/", "CONTAINER_DRIVER_ROOT": "/host"}
    assert log.driver_on_host is True
    assert (log.mig_strategy, log.fails_on_init_error) == ("single", True)
    assert log.config["flags"]["plugin"]["deviceListStrategy"] == ["envvar"]
    assert log.platform == "NVML: found NVML library"
    assert log.pod == "nvidia-device-plugin-daemonset-gtcpb"
    assert log.proof is not None and "Registered device plugin" in log.proof.text
    assert not log.errors


def test_idle() -> None:
    log = read_device_plugin_log(IDLE, "x")
    assert log.state is PluginState.IDLE
    assert log.proof is not None and log.proof.place == "line 5"
    assert [each.place for each in log.errors] == ["line 3"]
    assert not log.resources


def test_old_text() -> None:
    assert read_device_plugin_log(OLD, "x").resources == ("nvidia.com/gpu",)
    assert read_device_plugin_log(OLD_FAILED, "x").state is PluginState.FAILED


def test_restart_in_its_container_begins_anew() -> None:
    log = read_device_plugin_log(OLD + "2020/12/04 06:31:00 Starting nvidia-device-plugin\n" + IDLE, "x")
    assert (log.state, log.resources) == (PluginState.IDLE, ())
    assert read_device_plugin_log(IDLE + OLD, "x").state is PluginState.SERVING


def test_failing_to_start() -> None:
    text = (
        IDLE.splitlines()[2]
        + "\nE0624 10:01:18.8 1 main.go:132] error starting plugins: invalid device discovery strategy\n"
    )
    log = read_device_plugin_log(text, "x")
    assert log.state is PluginState.FAILED
    assert len(log.errors) == 2


def test_unhealthy_devices() -> None:
    text = OLD + (
        "I0810 15:36:05.551834       1 health.go:169] "
        "XidCriticalError: Xid=48 on Device=GPU-455e; marking device as unhealthy.\n"
        "I0810 15:36:05.552532       1 server.go:278] 'nvidia.com/gpu' device marked unhealthy: GPU-455e\n"
        "I0810 15:36:06.552532       1 server.go:278] 'nvidia.com/gpu' device marked unhealthy: GPU-9999\n"
    )
    log = read_device_plugin_log(text, "x")
    assert [(each.device, each.xid) for each in log.unhealthy] == [("GPU-455e", 48), ("GPU-9999", None)]
    assert log.unhealthy_marks == 2
    assert log.state is PluginState.SERVING


def test_prefixes_and_structured_lines() -> None:
    text = (
        "[pod/nvidia-device-plugin-daemonset-x/toolkit-validation] waiting for nvidia container stack to be setup\n"
        "[pod/nvidia-device-plugin-daemonset-x/nvidia-device-plugin] IS_HOST_DRIVER=false\n"
        "[pod/nvidia-device-plugin-daemonset-x/nvidia-device-plugin] NVIDIA_DRIVER_ROOT=/run/nvidia/driver\n"
        "[pod/nvidia-device-plugin-daemonset-x/nvidia-device-plugin] I0624 10:01:18.772290       1 main.go:235] "
        '"Starting NVIDIA Device Plugin" version="v0.17.1"\n'
        "[pod/nvidia-device-plugin-daemonset-x/nvidia-device-plugin] I0624 10:01:18.773173       1 main.go:253] \n"
        "[pod/nvidia-device-plugin-daemonset-x/nvidia-device-plugin] Running with config:\n"
        + "".join(
            f"[pod/nvidia-device-plugin-daemonset-x/nvidia-device-plugin] {each}\n"
            for each in ("{", '  "version": "v1",', '  "flags": {', '    "migStrategy": "none"', "  }", "}")
        )
        + "[pod/nvidia-device-plugin-daemonset-x/nvidia-device-plugin] I0624 10:01:18.800073       1 server.go:146] "
        "Registered device plugin for 'nvidia.com/mig-1g.5gb' with Kubelet\n"
    )
    log = read_device_plugin_log(text, "x")
    assert log.pod == "nvidia-device-plugin-daemonset-x"
    assert log.driver_on_host is False
    assert log.version == "v0.17.1"
    assert log.mig_strategy == "none"
    assert log.resources == ("nvidia.com/mig-1g.5gb",)


def test_json_lines() -> None:
    messages = ("Starting NVIDIA Device Plugin", "Registered device plugin for 'nvidia.com/gpu' with Kubelet")
    lines = [
        {"ts": 1687600878773.1, "caller": "nvidia-device-plugin/main.go:235", "msg": each, "v": 0} for each in messages
    ]
    text = "\n".join(map(json.dumps, lines))
    assert read_device_plugin_log(text, "x").resources == ("nvidia.com/gpu",)


def test_nothing_to_go_by() -> None:
    log = read_device_plugin_log("hello\n", "x")
    assert (log.state, log.proof, log.driver_on_host) == (PluginState.NOT_DETERMINED, None, None)
    assert not looks_like_device_plugin_log("hello\n")
    assert looks_like_device_plugin_log(RECORDED.read_text())


LINES = st.sampled_from([*IDLE.splitlines(), *OLD.splitlines(), *RECORDED.read_text().splitlines(), "{", "}", "A_B=1"])


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES | st.text(max_size=40), max_size=12).map("\n".join) | st.binary(max_size=200))
def test_any_text(data: str | bytes) -> None:
    log = read_device_plugin_log(data, "x")
    assert (log.proof is None) == (log.state is PluginState.NOT_DETERMINED)
    log.as_dict()


@pytest.mark.parametrize(
    "unit", ["{\n", "}\n", '"a": {\n', "A=" + "x" * 900 + "\n", "Detected NVML " + " " * 500 + "\n"]
)
def test_linear(unit: str) -> None:
    def took(count: int) -> float:
        began = time.process_time()
        read_device_plugin_log(unit * count, "x")
        return time.process_time() - began

    took(10)
    assert took(8000) < max(1.5, 30 * took(1000))  # eight times as much, and not sixty-four times as long
