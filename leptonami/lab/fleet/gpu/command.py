"""`leptonami lab gpu-operator`: the objects that install the GPU operator in a lab, for kubectl."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("gpu-operator")
@click.argument("version", default="latest")
@click.option("--no-driver", is_flag=True, help="driver.enabled=false: the AMI brings it.")
@click.option("--no-toolkit", is_flag=True, help="toolkit.enabled=false: the AMI brings it.")
@click.option("--no-nfd", is_flag=True, help="Without node feature discovery, so that no node is known to have a GPU.")
@click.option("--device-plugin-only", is_flag=True, help="Only NVIDIA's device plugin, without an operator.")
@click.option("--crds", is_flag=True, help="Only the definitions, which must be there before the rest.")
def command(
    version: str, *, no_driver: bool, no_toolkit: bool, no_nfd: bool, device_plugin_only: bool, crds: bool
) -> None:
    """Print what installs NVIDIA's GPU operator in a lab (v23.3, v26.7, latest), for kubectl.

    For instance: `leptonami lab gpu-operator v23.3 --crds | kubectl apply -f -`, then the same without --crds. The
    objects are those of the Helm chart, as far as the lab goes by them; what the pods do is simulated.
    """
    import yaml

    from leptonami.lab.fleet.gpu.manifests import device_plugin, gpu_operator

    if device_plugin_only:
        objects = device_plugin(version)
    else:
        objects = gpu_operator(version, driver=not no_driver, toolkit=not no_toolkit, nfd=not no_nfd)
    chosen = [each for each in objects if not crds or each["kind"] == "CustomResourceDefinition"]
    click.echo(yaml.safe_dump_all(chosen, sort_keys=False, width=120), nl=False)
