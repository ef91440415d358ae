"""Errors that carry their meaning: what to tell the user, and with which status."""

from __future__ import annotations


class ApplicationError(Exception):
    """A request that can't be carried out; `message` says why and what to do.

    `code` is stable and machine-readable, `status` the HTTP status, `param` the field at fault.
    """

    code = "invalid_request"
    status = 400

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status or self.status
        self.param = param


class NotAllowed(ApplicationError):
    """The row is in a state that does not allow the change."""

    code = "conflict"
    status = 409


class JobFailed(Exception):
    """An expected failure of a job: the message is for the user, no traceback is kept."""

    def __init__(self, message: str, *, code: str = "job_failed") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class JobCancelled(Exception):
    """Raised between units of work once a cancel has been asked for."""


class JobHeld(Exception):
    """Raised between units of work once a pause has been asked for."""


class JobWaits(Exception):
    """Raised by a runner that has done its part: the job ends with the last of its children."""


class JobInterrupted(Exception):
    """What did the work was cut off and may well go on in the next attempt."""


class LeaseLost(Exception):
    """Another worker, or the reaper, holds the job now: this one must stop and write nothing."""


class EngineUnavailable(JobFailed):
    """An engine's library, program or model is missing; the message names what installs it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="engine_unavailable")


class NotInstalled(EngineUnavailable):
    """It is the engine's library or program itself that is missing on this machine."""
