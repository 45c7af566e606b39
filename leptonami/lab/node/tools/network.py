"""What a machine reaches: instance metadata, ECR, NVIDIA's key, CRI's socket. Nothing else."""

# pathlib would cost 5 ms at every call.
# ruff: noqa: PTH123

from __future__ import annotations

import json
import re
import sys

from .containerd import containerd_needed, cri, ecr_token
from .core import NVIDIA_KEY, SOCKET, Failed, Refused, fault, flags, machine, out, read, write


def _credentials() -> dict[str, str]:
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIALABLABLABLABLAB0",
        "SecretAccessKey": "lab-secret-lab-secret-lab-secret-lab0000",
        "Token": "lab-session-token",
        "Expiration": "2099-01-01T00:00:00Z",
    }


def _metadata(path: str) -> str | None:
    """Instance metadata, the part of it that scripts ask for."""
    facts = machine()
    arch = {"amd64": "x86_64", "arm64": "arm64"}[facts["architecture"]]
    document = {
        "accountId": facts["account"],
        "architecture": arch,
        "availabilityZone": facts["availability_zone"],
        "imageId": facts["image_id"],
        "instanceId": facts["instance_id"],
        "instanceType": facts["instance_type"],
        "region": facts["region"],
    }
    values = {
        "meta-data/instance-id": facts["instance_id"],
        "meta-data/instance-type": facts["instance_type"],
        "meta-data/ami-id": facts["image_id"],
        "meta-data/placement/region": facts["region"],
        "meta-data/placement/availability-zone": facts["availability_zone"],
        "meta-data/services/domain": "amazonaws.com",
        "dynamic/instance-identity/document": json.dumps(document, indent=1),
    }
    if facts.get("instance_profile"):
        values["meta-data/iam/security-credentials"] = facts["instance_profile"]
        values[f"meta-data/iam/security-credentials/{facts['instance_profile']}"] = json.dumps(_credentials())
    return values.get(path.strip("/"))


def _varint(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _grpc_images() -> bytes:
    """CRI's ListImages answer (k8s.io/cri-api, api.proto): Image with id, repo_tags, repo_digests, size, pinned."""
    message = b""
    for image in cri():
        body = _field(1, image["id"].encode())
        body += b"".join(_field(2, tag.encode()) for tag in image["repoTags"])
        body += b"".join(_field(3, name.encode()) for name in image["repoDigests"])
        body += _varint(4 << 3) + _varint(int(image["size"]))
        if image["pinned"]:
            body += _varint(8 << 3) + _varint(1)
        message += _field(1, body)
    return b"\0" + len(message).to_bytes(4, "big") + message


CURL_VALUED = "-o --output -X --request -H --header --max-time -m --connect-timeout --proto --retry --retry-delay -K"
CURL_VALUED += " --config --unix-socket --data-binary --data -d"
CURL_PLAIN = "-f -s -S -L --fail --silent --show-error --location --http2-prior-knowledge --compressed"


def curl(arguments: list[str]) -> None:
    """Fetch what exists in the lab: instance metadata, ECR's API, NVIDIA's key, CRI's socket, files."""
    options, urls = flags(arguments, CURL_VALUED, CURL_PLAIN)
    headers = [h for name in ("-H", "--header") for h in options.get(name, [])]
    body = (options.get("--data-binary") or options.get("--data") or options.get("-d") or [""])[0]
    for config in [*options.get("-K", []), *options.get("--config", [])]:
        text = sys.stdin.read() if config == "-" else read(config)
        for line in text.splitlines():
            key, _, value = (part.strip() for part in line.partition("="))
            value = json.loads(value) if value.startswith('"') else value
            if key == "header":
                headers.append(value)
            elif key == "url":
                urls.append(value)
            elif key == "data":
                body = value
            else:
                raise Refused
    if len(urls) != 1:
        raise Refused
    given = {name.strip().lower(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    method = (options.get("-X") or options.get("--request") or ["GET"])[0]
    socket = (options.get("--unix-socket") or [""])[0]
    answer = _fetch(method, urls[0], given, body, socket)
    target = (options.get("-o") or options.get("--output") or ["-"])[0]
    if target == "-":
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    else:
        with open(target, "wb") as file:
            file.write(answer)


def _fetch(method: str, url: str, headers: dict[str, str], body: str, socket: str) -> bytes:
    if socket:
        if socket != SOCKET or not url.endswith("/runtime.v1.ImageService/ListImages"):
            raise Refused
        containerd_needed("curl")
        if body == "@-" and sys.stdin.buffer.read() != b"\0\0\0\0\0":
            raise Refused
        return _grpc_images()
    if url.startswith("file://"):
        try:
            with open(url.removeprefix("file://"), "rb") as file:
                return file.read()
        except OSError as error:
            raise Failed(f"curl: (37) Couldn't open file {url}", 37) from error
    host, _, path = re.sub(r"^[a-z]+://", "", url).partition("/")
    if host == "169.254.169.254":
        if method == "PUT" and path == "latest/api/token":
            return b"lab-imds-token"
        if headers.get("x-aws-ec2-metadata-token") != "lab-imds-token":
            raise Failed("curl: (22) The requested URL returned error: 401", 22)
        value = _metadata(path.removeprefix("latest/"))
        if value is None:
            raise Failed("curl: (22) The requested URL returned error: 404", 22)
        return value.encode()
    match = re.fullmatch(r"api\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?", host)
    if match:
        import base64

        signed = headers.get("authorization", "")
        scope = f"/{match[1]}/ecr/aws4_request"
        if not signed.startswith("AWS4-HMAC-SHA256 Credential=ASIALAB") or scope not in signed:
            raise Failed("curl: (22) The requested URL returned error: 403", 22)
        token = base64.b64encode(f"AWS:{ecr_token(match[1])}".encode()).decode()
        return json.dumps({"authorizationData": [{"authorizationToken": token}]}).encode()
    if host == "nvidia.github.io" and path.endswith("gpgkey"):
        fingerprint = "0" * 40 if fault("wrong_key") else NVIDIA_KEY
        text = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\nlab-fingerprint: {fingerprint}\n"
        return (text + "-----END PGP PUBLIC KEY BLOCK-----\n").encode()
    raise Failed(f"curl: (6) Could not resolve host: {host}", 6)


def gpg(arguments: list[str]) -> None:
    """Show a key's fingerprint, and write it as a keyring. The lab's keys name their fingerprint in plain text."""
    plain = "--batch --no-options --show-keys --with-colons --yes --dearmor --quiet"
    options, rest = flags(arguments, "--homedir -o --output", plain)
    if len(rest) != 1:
        raise Refused
    found = re.findall(r"lab-fingerprint: ([0-9A-F]{40})", read(rest[0]))
    if "--show-keys" in options:
        if not found:
            raise Failed("gpg: no valid OpenPGP data found.", 2)
        for fingerprint in found:
            out(f"pub:-:4096:1:{fingerprint[-16:]}:1505775600:::-:::scSC::::::23::0:", f"fpr:::::::::{fingerprint}:")
            out("uid:-::::1505775600::0::lab stand-in of a key::::::::::0:")
    elif "--dearmor" in options:
        if not found:
            raise Failed("gpg: no valid OpenPGP data found.", 2)
        write((options.get("-o") or options.get("--output") or ["/dev/stdout"])[0], read(rest[0]))
    else:
        raise Refused


def aws(arguments: list[str]) -> None:
    """Be the AWS CLI: ecr get-login-password."""
    options, rest = flags(arguments, "--region --output", "")
    if rest != ["ecr", "get-login-password"]:
        raise Refused
    if not machine().get("instance_profile"):
        raise Failed('Unable to locate credentials. You can configure credentials by running "aws configure".', 253)
    out(ecr_token((options.get("--region") or [machine()["region"]])[0]))
