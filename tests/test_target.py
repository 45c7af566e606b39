"""The seam to AWS: errors with a way out, polling that ends, regions that exist."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from leptonami.errors import CredentialsError, InputError, LeptonamiError, Timeout
from leptonami.target import AwsError, Pace, Target, check_region, connect, is_loopback


def refusal(code: str, message: str = "no", operation: str = "RunInstances") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def target(clock: Clock) -> Target:
    session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="a-secret", region_name="us-west-2")
    return Target(session=session, region="us-west-2", pace=Pace(1, 4), clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("code", ["ExpiredToken", "UnrecognizedClientException", "AuthFailure"])
def test_bad_credentials_are_credentials_errors(target: Target, code: str) -> None:
    def call() -> None:
        raise refusal(code)

    with pytest.raises(CredentialsError, match=code) as caught:
        target.call(call)
    assert caught.value.exit_code == 4
    assert caught.value.hint


def test_a_denied_call_names_the_call(target: Target) -> None:
    def call() -> None:
        raise refusal("UnauthorizedOperation")

    with pytest.raises(CredentialsError, match="may not") as caught:
        target.call(call)
    assert "RunInstances" in str(caught.value.hint)


def test_other_refusals_keep_their_code(target: Target) -> None:
    def call() -> None:
        raise refusal("InsufficientInstanceCapacity", "none left")

    with pytest.raises(AwsError, match="none left") as caught:
        target.call(call)
    assert (caught.value.code, caught.value.operation) == ("InsufficientInstanceCapacity", "RunInstances")


def test_no_credentials_say_what_to_do() -> None:
    with connect(region="us-west-2") as target, pytest.raises(CredentialsError, match="credentials") as caught:
        target.identity()
    assert "--aws lab" in str(caught.value.hint)


def test_unknown_profile() -> None:
    with pytest.raises(CredentialsError, match="nobody"):
        connect(region="us-west-2", profile="nobody")


def test_no_region() -> None:
    with pytest.raises(InputError, match="no region"):
        connect()


def test_unknown_region_names_the_nearest() -> None:
    with pytest.raises(InputError, match="us-wst-2") as caught:
        check_region(boto3.Session(), "us-wst-2")
    assert "us-west-2" in str(caught.value.hint)


def test_unknown_target() -> None:
    with pytest.raises(InputError, match="nowhere") as caught:
        connect("nowhere", region="us-west-2")
    assert "lab" in str(caught.value.hint)


def test_an_unreachable_endpoint_is_not_a_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    with connect(region="us-west-2") as target, pytest.raises(LeptonamiError, match="cannot be reached") as caught:
        target.identity()
    assert "AWS_ENDPOINT_URL" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://localhost:1", True),
        ("http://[::1]:80", True),
        ("https://ec2.us-west-2.amazonaws.com", False),
        ("http://127.evil.example", False),
        ("https://localhost.example.com", False),
    ],
)
def test_what_is_on_this_machine_is_simulated(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


def test_poll_asks_ever_more_slowly_and_ends(target: Target, clock: Clock) -> None:
    ticks: list[float] = []
    with pytest.raises(Timeout, match="gave up after 12 s waiting for rain") as caught:
        target.poll(lambda: None, what="rain", timeout=12, tick=ticks.append)
    assert clock.slept == [1, 1.5, 2.25, 3.375, 3.875]
    assert caught.value.exit_code == 5
    assert ticks[0] == 0


def test_poll_gives_the_first_answer(target: Target, clock: Clock) -> None:
    answers = iter([None, None, "yes"])
    assert target.poll(lambda: next(answers), what="it", timeout=60) == "yes"
    assert len(clock.slept) == 2


def test_poll_lets_errors_through(target: Target) -> None:
    def check() -> Any:
        raise refusal("Boom")

    with pytest.raises(ClientError):
        target.poll(check, what="it", timeout=1)


@pytest.mark.parametrize("value", ["x", "1", "5:1", "0:1", "1:2:3"])
def test_bad_pace(value: str) -> None:
    with pytest.raises(InputError, match="LEPTONAMI_POLL"):
        Pace.parse(value)


def test_credentials_never_show(target: Target) -> None:
    assert "secret" not in repr(target)
