"""Client tokens: one that was used before gets the answer that it got then, as long as what it was about is there."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from leptonami.lab.wire import ApiError

__all__ = ["Idempotent"]

USED: dict[tuple[str, str, str, str], tuple[str, Any, object]] = {}


class Idempotent:
    """Comes before moto's class for a service.

    Attributes
    ----------
    idempotency
        The parameter with the token.
    mismatch
        Code and words of the refusal of a token that was used with other parameters.
    """

    idempotency: ClassVar[str]
    mismatch: ClassVar[tuple[str, str]]

    def subject(self, params: dict[str, Any]) -> object:  # noqa: ARG002
        """Give what a request of these parameters is about; once it is gone, its token is new again."""
        return None

    def call_action(self: Any) -> Any:
        """Answer, or give the answer of the first time."""
        token = self.params.get(self.idempotency)
        if not token or self.params.get("DryRun"):
            return super().call_action()  # type: ignore[misc]
        asked = json.dumps({**self.params, self.idempotency: ""}, sort_keys=True, default=str)
        key = (self.service_name, self.region, self._get_action(), token)
        before, answer, about = USED.get(key, (asked, None, None))
        if answer is None or about is not self.subject(json.loads(before)):
            answer = super().call_action()  # type: ignore[misc]
            if answer[0] < 300:
                USED[key] = (asked, answer, self.subject(json.loads(asked)))
        elif before != asked:
            raise ApiError(*self.mismatch)
        return answer[0], dict(answer[1]), answer[2]
