"""The errors of this package: one tree, each class a cause that a caller can act on.

Where ``retry`` is false, another try ends the same: the task fails at once
(:func:`airflow_provider_aha.hooks.common.without_useless_retries`, and the triggers alike).

.. code-block:: text

    AhaError                      retry
    |-- AhaConfigurationError     -       a setting or an argument can't be right
    |   `-- AhaMappingError       -       a mapping is wrong
    |-- AhaConnectionError        retry   no answer came
    |-- AhaAuthenticationError    -       401
    |-- AhaPermissionError        -       403
    |-- AhaNotFoundError          -       404, or nobody has the email
    |-- AhaAmbiguousUserError     -       an email is several users'
    |-- AhaValidationError        -       400, 422: what was sent was refused
    |-- AhaRateLimitError         retry   429
    |-- AhaServerError            retry   408, 425, 5xx
    |-- AhaProtocolError          retry   an answer that Aha! wouldn't give
    |-- AhaIncompleteReadError    retry   the list kept changing
    |-- AhaCancelledError         retry   stopped from outside
    |-- AhaStorageError           retry   a path can't be used
    |-- AhaSnapshotError          retry   a snapshot can't be trusted now; the next extract may cure it
    |   |-- AhaNoSnapshotError    -       there is none yet
    |   |-- AhaRosterError        retry   a roster can't be trusted now; the next file may cure it
    |   `-- AhaRecordError        -       a record is missing, cut short or changed
    |-- AhaTargetError            retry   the target of a push failed
    |-- AhaRejectedError          -       too many records were refused
    |-- AhaGuardError             -       a guard holds the run back
    `-- AhaApprovalError          -       there is no valid approval

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

    retry = True
    """Whether another try of the task can help."""

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

    retry = False


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

    retry = False


class AhaPermissionError(AhaError):
    """403: the API key is valid, but its owner may not do this."""

    retry = False


class AhaNotFoundError(AhaError):
    """404: there is no such record, or this key can't see it."""

    retry = False


class AhaAmbiguousUserError(AhaError):
    """An email matches more than one user record; name the user by id."""

    retry = False


class AhaValidationError(AhaError):
    """400 or 422: Aha! refused what was sent."""

    retry = False


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
    """A snapshot can't be trusted now: it is being replaced, is too old, or has lost users."""


class AhaNoSnapshotError(AhaSnapshotError):
    """There is no snapshot yet, or it lacks a dataset: an extract must run first."""

    retry = False


class AhaRosterError(AhaSnapshotError):
    """A roster can't be trusted now: it is too old, too short, or says something that no roster says."""


class AhaRecordError(AhaSnapshotError):
    """A record (manifest, plan, approval, evidence, review, state) is missing, cut short or changed."""

    retry = False


class AhaTargetError(AhaError):
    """The target of a push can't be reached, or failed; what it had acknowledged is kept."""


class AhaRejectedError(AhaError):
    """More records were invalid or rejected than the mapping allows; the outcomes say which, and why."""

    retry = False


class AhaGuardError(AhaError):
    """A guard holds a whole run back (a cap, another run, other users than before); nothing was done."""

    retry = False


class AhaApprovalError(AhaError):
    """A plan has no valid approval; nothing was done."""

    retry = False
