"""Where to act: the one seam to AWS.

A `Target` is an account and a region as seen with some credentials, or the lab. Sessions, retries, timeouts, polling
and the translation of errors from AWS are set here and nowhere else. Whether what it answers is *measured* or
*simulated* is decided here too, by the endpoint, and goes with every piece of evidence.
"""

from __future__ import annotations

import difflib
import functools
import ipaddress
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload
from urllib.parse import urlsplit

from leptonami.errors import BuildError, CredentialsError, InputError, LeptonamiError, Timeout

if TYPE_CHECKING:
    import boto3
    from types_boto3_autoscaling import AutoScalingClient
    from types_boto3_ec2 import EC2Client
    from types_boto3_eks import EKSClient
    from types_boto3_iam import IAMClient
    from types_boto3_ssm import SSMClient
    from types_boto3_sts import STSClient

__all__ = ["TRANSIENT_CODES", "AwsError", "AwsUnreachable", "Pace", "Provenance", "Target", "connect", "owner_of"]

Provenance = Literal["measured", "recorded", "simulated"]
P = ParamSpec("P")
T = TypeVar("T")

CREDENTIAL_CODES = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
# The call may be sent again: server errors and throttling.
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
TRANSIENT_CODES = {
    "InternalError",
    "InternalFailure",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "Unavailable",
}
DENIED_CODES = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


class AwsError(BuildError):
    """AWS refused a call: `code` is its error code, `operation` the call."""

    def __init__(self, code: str, operation: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{code}: {message}", resource=operation, hint=hint)
        self.code = code
        self.operation = operation
        self.aws_message = message


class AwsUnreachable(LeptonamiError):
    """No answer came; the call may have taken effect all the same."""


@dataclass(frozen=True)
class Pace:
    """How often a wait asks: after `first` seconds, then ever more slowly, up to `longest` seconds."""

    first: float = 2.0
    longest: float = 15.0

    @classmethod
    def parse(cls, value: str) -> Pace:
        """Read `first:longest` (seconds), the form of `LEPTONAMI_POLL`.

        Raises
        ------
        InputError
            If it is something else.
        """
        try:
            first, longest = (float(part) for part in value.split(":"))
        except ValueError as error:
            raise InputError(
                f"not two numbers of seconds: {value!r}",
                resource="LEPTONAMI_POLL",
                hint="write it as first:longest, such as 2:15, or unset it",
            ) from error
        if not 0 < first <= longest:
            raise InputError("needs 0 < first <= longest", resource="LEPTONAMI_POLL")
        return cls(first, longest)

    def delays(self) -> Iterator[float]:
        """Give the seconds to sleep between one question and the next, for ever."""
        delay = self.first
        while True:
            yield delay
            delay = min(delay * 1.5, self.longest)


def owner_of(arn: str) -> str:
    """Give what `leptonami:owner` says for who calls: the last part of the caller's ARN. A sweep compares by it."""
    return arn.rsplit("/", 1)[-1].rsplit(":", 1)[-1]


@dataclass(frozen=True)
class Identity:
    """Who we are. The account is twelve digits, a string for ever: it may start with a zero."""

    account: str
    arn: str

    @property
    def partition(self) -> str:
        """The partition: `aws`, `aws-cn`, `aws-us-gov`."""
        return self.arn.split(":")[1]

    @property
    def name(self) -> str:
        """The user's or the session's name."""
        return owner_of(self.arn)


class Plugin(Protocol):
    """What a target plug-in (the lab) gives: the environment to act in, until it is stopped."""

    environment: Mapping[str, str]

    def stop(self) -> None:
        """End it."""


@dataclass
class Target:
    """An AWS account and region, with the clients of one run.

    Attributes
    ----------
    session
        The boto3 session; credentials as boto3 finds them.
    region
        The region to act in.
    endpoint
        The endpoint URL when it is not AWS's own (the lab's).
    provenance
        `measured` on AWS, `simulated` on a loopback endpoint.
    calls
        How many calls were made, by `service.Operation`; retries inside botocore count as one.
    """

    session: boto3.Session
    region: str
    endpoint: str | None = None
    provenance: Provenance = "measured"
    pace: Pace = field(default_factory=Pace)
    calls: Counter[str] = field(default_factory=Counter)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    plugin: Plugin | None = None
    _clients: dict[tuple[str, str, int], Any] = field(default_factory=dict, repr=False)
    _identity: Identity | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was started for this target, if anything was."""
        if self.plugin is not None:
            self.plugin.stop()
            self.plugin = None

    @overload
    def client(self, service: Literal["ec2"], region: str | None = None, *, attempts: int = 8) -> EC2Client: ...
    @overload
    def client(self, service: Literal["ssm"], region: str | None = None, *, attempts: int = 8) -> SSMClient: ...
    @overload
    def client(self, service: Literal["iam"], region: str | None = None) -> IAMClient: ...
    @overload
    def client(self, service: Literal["sts"], region: str | None = None) -> STSClient: ...
    @overload
    def client(self, service: Literal["autoscaling"], region: str | None = None) -> AutoScalingClient: ...
    @overload
    def client(self, service: Literal["eks"], region: str | None = None) -> EKSClient: ...

    def client(self, service: str, region: str | None = None, *, attempts: int = 8) -> Any:
        """Give the client of a service, made once: standard retries (`attempts` in all), and time-outs that end."""
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        key = (service, region or self.region, attempts)
        with self._lock:
            if key not in self._clients:
                config = Config(
                    # botocore's default mode is `legacy`: fewer attempts and a narrower list of errors.
                    retries={"mode": "standard", "total_max_attempts": attempts},
                    connect_timeout=10,
                    read_timeout=60,
                    user_agent_extra="leptonami",
                )
                try:
                    made: Any = self.session.client(  # type: ignore[call-overload]
                        service, region_name=key[1], endpoint_url=self.endpoint, config=config
                    )
                except BotoCoreError as error:
                    raise translate_botocore(error, service) from error
                made.meta.events.register("before-call", self._count)
                self._clients[key] = made
            return self._clients[key]

    def _count(self, model: Any, **_: Any) -> None:
        # Several threads call at once when an image is copied to several regions.
        with self._lock:
            self.calls[f"{model.service_model.service_name}.{model.name}"] += 1

    def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call AWS, with its errors translated.

        Raises
        ------
        CredentialsError
            No credentials, wrong or expired ones, or ones that may not do this.
        AwsError
            AWS refused; `code` tells why.
        LeptonamiError
            AWS could not be reached.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        operation = getattr(method, "__name__", "call")
        try:
            return method(*args, **kwargs)
        except ClientError as error:
            raise translate_client(error) from error
        except BotoCoreError as error:
            raise translate_botocore(error, operation) from error

    def poll(
        self,
        check: Callable[[], T | None],
        *,
        what: str,
        timeout: float,
        hint: str | None = None,
        tick: Callable[[float], None] | None = None,
        patient: bool = False,
    ) -> T:
        """Ask until there is an answer, ever more slowly, up to a deadline.

        Parameters
        ----------
        check
            Gives the answer, or None while there is none. What it raises ends the wait.
        what
            What is being waited for, in words, for the message.
        timeout
            Seconds until the wait gives up.
        tick
            Called after each unsuccessful question with the seconds waited so far.
        patient
            Wait before the first question too: for what has just been asked for and cannot be there yet.

        Raises
        ------
        Timeout
            If the deadline passes.
        """
        started = self.clock()
        if patient:
            self.sleep(min(self.pace.first, timeout))
        for delay in self.pace.delays():
            answer = check()
            if answer is not None:
                return answer
            waited = self.clock() - started
            if tick is not None:
                tick(waited)
            if waited >= timeout:
                raise Timeout(f"gave up after {waited:.0f} s waiting for {what}", hint=hint)
            self.sleep(min(delay, max(timeout - waited, 0.01)))
        raise AssertionError("unreachable: the delays never end")

    def identity(self) -> Identity:
        """Ask once who we are."""
        if self._identity is None:
            answer = self.call(self.client("sts").get_caller_identity)
            self._identity = Identity(answer["Account"], answer["Arn"])
        return self._identity


def translate_client(error: Any) -> LeptonamiError:
    """Turn botocore's ClientError into one of ours, with a way out where we know one."""
    details = error.response.get("Error", {})
    code, message = str(details.get("Code", "Unknown")), str(details.get("Message", ""))
    operation = str(getattr(error, "operation_name", "call"))
    if code in CREDENTIAL_CODES:
        return CredentialsError(
            f"AWS does not accept these credentials ({code}): {message}",
            resource=operation,
            hint="check AWS_PROFILE, or log in again (aws sso login)",
        )
    if code in DENIED_CODES:
        return CredentialsError(
            f"these credentials may not do this ({code}): {message}",
            resource=operation,
            hint=f"allow {operation} to the role or user that runs this: `leptonami policy PLAN` prints what it needs",
        )
    return AwsError(code, operation, message)


def translate_botocore(error: Exception, operation: str) -> LeptonamiError:
    """Turn botocore's own errors (no credentials, no answer, a bad parameter) into ours."""
    from botocore import exceptions

    match error:
        case exceptions.ProfileNotFound():
            return CredentialsError(str(error), hint="set AWS_PROFILE to a profile of ~/.aws/config, or unset it")
        case (
            exceptions.NoCredentialsError()
            | exceptions.PartialCredentialsError()
            | exceptions.CredentialRetrievalError()
            | exceptions.TokenRetrievalError()
            | exceptions.SSOError()
        ):
            return CredentialsError(
                f"no usable AWS credentials: {error}",
                resource=operation,
                hint="set AWS_PROFILE or log in (aws sso login); to try without an account use --aws lab",
            )
        case exceptions.NoRegionError():
            return InputError("no region", hint="set `region` in the plan, or AWS_REGION")
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError() | exceptions.HTTPClientError():
            return AwsUnreachable(
                f"AWS cannot be reached: {error}",
                resource=operation,
                hint="check the region's name, the network and AWS_ENDPOINT_URL",
            )
    return LeptonamiError(f"{type(error).__name__}: {error}", resource=operation)


def is_loopback(url: str) -> bool:
    """Tell whether an endpoint is on this machine, where nothing is real."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@functools.cache
def models() -> Any:
    """Read each of botocore's files once in this process: EC2's model alone costs a session a tenth of a second."""
    from botocore.loaders import JSONFileLoader

    class Remembering(JSONFileLoader):
        load_file = functools.cache(JSONFileLoader.load_file)

    return Remembering()


@functools.cache
def known_regions() -> tuple[str, ...]:
    """Name the regions with EC2 that botocore knows, of all partitions. Reads its files; calls nothing."""
    from botocore.loaders import Loader

    found: list[str] = []
    for partition in Loader(file_loader=models()).load_data("endpoints")["partitions"]:
        endpoints = partition["services"].get("ec2", {}).get("endpoints", {})
        found += [name for name in partition["regions"] if name in endpoints]
    return tuple(found)


@functools.cache
def known_types() -> frozenset[str]:
    """Name the instance types that botocore knows. EC2 may have newer ones."""
    from botocore.loaders import Loader

    model = Loader(file_loader=models()).load_service_model("ec2", "service-2")
    return frozenset(model["shapes"]["InstanceType"]["enum"])


def check_region(session: boto3.Session, region: str) -> None:
    """Refuse a region that botocore does not know, its own files or those that the session has beside them.

    Raises
    ------
    InputError
        With the nearest names.
    """
    known: list[str] = [*known_regions()]
    if region in known:
        return
    for partition in session.get_available_partitions():
        known += session.get_available_regions("ec2", partition_name=partition)
    if region in known:
        return
    near = difflib.get_close_matches(region, known, n=3)
    raise InputError(
        f"unknown AWS region {region!r}",
        resource="region",
        hint=(f"did you mean {', '.join(near)}? " if near else "")
        + "a region newer than the installed botocore needs a newer botocore",
    )


def connect(aws: str = "account", *, region: str | None = None, profile: str | None = None) -> Target:
    """Open a target: `account` for what boto3's credentials name, or an installed plug-in such as `lab`.

    A lab that is already running (its environment is set) is used; otherwise one is started, and ends with the target
    (`close()`, or the end of a `with` block, or of this process).

    Raises
    ------
    InputError
        If there is no such kind of target, or no such region.
    CredentialsError
        If the profile does not exist.
    """
    if aws == "account":
        return open_target(os.environ, region=region, profile=profile)
    if os.environ.get(f"LEPTONAMI_{aws.upper()}"):
        return open_target(os.environ, region=region, alone=True)
    plugin = start(aws)
    try:
        target = open_target({**os.environ, **plugin.environment}, region=region, alone=True)
    except BaseException:
        plugin.stop()
        raise
    target.plugin = plugin
    return target


def start(aws: str) -> Plugin:
    """Start an installed target plug-in (entry point group `leptonami.targets`)."""
    from importlib.metadata import entry_points

    found = entry_points(group="leptonami.targets", name=aws)
    if not found:
        known = sorted({"account", *(entry.name for entry in entry_points(group="leptonami.targets"))})
        raise InputError(f"no such kind of target: {aws!r}", resource="aws", hint=f"one of {', '.join(known)}")
    try:
        plugin: Plugin = next(iter(found)).load()()
    except ModuleNotFoundError as error:
        raise InputError(
            f"{aws!r} needs {error.name!r}, which is not installed", hint=f"pip install 'leptonami[{aws}]'"
        ) from error
    return plugin


# Where botocore looks for a profile and its files: nowhere.
ALONE = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


def open_target(
    environment: Mapping[str, str], *, region: str | None, profile: str | None = None, alone: bool = False
) -> Target:
    """Make the target that an environment describes (AWS_ENDPOINT_URL, AWS_REGION, the usual credentials).

    `alone` leaves the user's own profile and AWS files out: a lab needs none of them, nor stumbles over a stale one.
    """
    import boto3
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    endpoint = environment.get("AWS_ENDPOINT_URL")
    credentials: dict[str, str] = {}
    if alone:
        credentials = {
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        }
    chosen = region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    try:
        own: Any = Session(session_vars=ALONE if alone else None)
        session = boto3.Session(
            profile_name=profile,
            region_name=chosen,
            botocore_session=own,
            **credentials,
        )
        own.get_component("data_loader").file_loader = models()
    except BotoCoreError as error:
        raise translate_botocore(error, "session") from error
    if not session.region_name:
        raise InputError("no region", hint="set `region` in the plan, or AWS_REGION")
    check_region(session, session.region_name)
    loopback = endpoint is not None and is_loopback(endpoint)
    pace = Pace()
    if poll := environment.get("LEPTONAMI_POLL"):
        pace = Pace.parse(poll)
    return Target(
        session=session,
        region=session.region_name,
        endpoint=endpoint,
        provenance="simulated" if loopback else "measured",
        pace=pace,
    )
