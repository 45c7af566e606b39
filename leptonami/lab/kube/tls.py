"""The certificates of a lab's API server: an authority of its own, and a server certificate for 127.0.0.1.

Elliptic-curve keys, since they are made in a millisecond. The authority's key is forgotten at once: nothing else is
ever signed with it.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["server_context"]

VALID_DAYS = 365
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def server_context() -> tuple[ssl.SSLContext, str]:
    """Make an authority and a server certificate; give the server's TLS context and the authority's PEM."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject = named("leptonami lab CA (simulated)")
    ca = certificate(subject, subject, ca_key, ca_key, authority=True)
    own = certificate(named("kube-apiserver (leptonami lab)"), subject, key, ca_key, authority=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # The ssl module reads keys from files only. The folder is ours alone, and gone at once.
    with tempfile.TemporaryDirectory(prefix="leptonami-tls-") as folder:
        file = Path(folder) / "server.pem"
        file.touch(0o600)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(own.public_bytes(serialization.Encoding.PEM) + secret)
        context.load_cert_chain(file)
    return context, ca.public_bytes(serialization.Encoding.PEM).decode()


def named(common_name: str) -> x509.Name:
    """Give a distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    """Sign a certificate, with every extension that strict clients (Go, Python 3.13) look for."""
    now = datetime.datetime.now(datetime.UTC)
    allowed = {"key_cert_sign", "crl_sign", "digital_signature"} if authority else {"digital_signature"}
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(x509.KeyUsage(**{each: each in allowed for each in USAGES}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        names += [x509.DNSName(each) for each in ("kubernetes", "kubernetes.default", "kubernetes.default.svc")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())
