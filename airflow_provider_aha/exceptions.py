"""The errors of this package: one tree, each class a cause that a caller can act on.

``str(error)`` is a sentence for the person who reads the log: what happened, to which account or user id,
and what to do. It never holds a key, a header or text of a response body; the facts are attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class AhaError(Exception):
    """Base of every error that this package raises.

    :param message: the sentence for the log.
    :param status: HTTP status, where there was an answer.
    :param method: HTTP method of the request.
    :param path: path of the request below ``/api/v1``; no query, no host.
    :param attempts: how many times the request was sent.
    :param request_id: the ``X-Request-Id`` of the answer, for Aha!'s support.
    :param retry_after: seconds until a new try makes sense, where the server said so.
    :param detail: what the service that records are pushed to says of a refused one. It may hold personal data: it
        goes into the file of outcomes, never into a log.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        method: str | None = None,
        path: str | None = None,
        attempts: int = 0,
        request_id: str | None = None,
        retry_after: float | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.method = method
        self.path = path
        self.attempts = attempts
        self.request_id = request_id
        self.retry_after = retry_after
        self.detail = detail


class AhaConfigurationError(AhaError):
    """A field of the connection or an argument is wrong; no request was sent."""


class AhaMappingError(AhaConfigurationError):
    """A mapping is wrong; all its faults are listed, and nothing was sent.

    :param message: the sentence for the log.
    :param faults: each fault, beginning with its path in the mapping.
    """

    def __init__(self, message: str = "", faults: Sequence[str] = (), **facts: Any) -> None:
        super().__init__("\n- ".join([message, *faults]), **facts)
        self.faults = list(faults)


class AhaConnectionError(AhaError):
    """No answer came: unknown name, refused connection, TLS, proxy or timeout."""


class AhaAuthenticationError(AhaError):
    """401: the API key is not valid (any more)."""


class AhaPermissionError(AhaError):
    """403: the API key is valid, but its owner may not do this."""


class AhaNotFoundError(AhaError):
    """404: there is no such record, or this key can't see it."""


class AhaAmbiguousUserError(AhaError):
    """An email matches more than one user record; name the user by id."""


class AhaValidationError(AhaError):
    """400 or 422: Aha! refused what was sent."""


class AhaRateLimitError(AhaError):
    """429, and the wait that the server asks for exceeds the retry budget."""


class AhaServerError(AhaError):
    """5xx, 408 or 425, and the retries are used up."""


class AhaProtocolError(AhaError):
    """The answer is not what Aha! would say: a web page, cut JSON, a redirect, a missing part."""


class AhaIncompleteReadError(AhaError):
    """The list kept changing while it was read, so that a complete copy can't be vouched for."""


class AhaCancelledError(AhaError):
    """The work was cancelled from outside; nothing was published."""


class AhaStorageError(AhaError):
    """A path can't be used, or could not be written."""


class AhaSnapshotError(AhaError):
    """A snapshot is missing, or its files are not the ones that its manifest names."""


class AhaTargetError(AhaError):
    """The target of a push can't be reached, or failed; what it had acknowledged is kept."""


class AhaRejectedError(AhaError):
    """More records were invalid or rejected than the mapping allows; the outcomes say which, and why."""


class AhaGuardError(AhaError):
    """A guard holds a whole run back (a cap, another run, other users than before); nothing was done."""


class AhaApprovalError(AhaError):
    """A plan has no valid approval; nothing was done."""
