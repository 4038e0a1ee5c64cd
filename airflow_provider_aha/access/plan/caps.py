"""The caps: how many users of an account may be changed within seven days."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_aha.exceptions import AhaGuardError

# Unless a Variable or DAG code says otherwise.
MAX_USERS, MAX_PERCENT = 25, 20.0


@dataclass(frozen=True)
class Caps:
    """How many users a run may change.

    :param max_users: at most this many users.
    :param max_percent: at most this many percent of the enabled users, 0 to 100.
    :param approved_plan_sha256: the SHA-256 of the one larger plan that is let through.
    """

    max_users: int = MAX_USERS
    max_percent: float = MAX_PERCENT
    approved_plan_sha256: str | None = None

    def allowed(self, enabled: int) -> int:
        """Return how many users may be changed within seven days.

        :param enabled: enabled users of the account.
        """
        return min(self.max_users, self._by_percent(enabled))

    def check(self, wanted: int, recent: int, enabled: int, plan_sha256: str | None) -> None:
        """Refuse a run that would change too many.

        :param wanted: users that this run would change.
        :param recent: other users that were changed within the last seven days, or may be by a run under way.
        :param enabled: enabled users of the account when the run was planned.
        :param plan_sha256: the plan's SHA-256, where there is a plan.
        :raises AhaGuardError: when a cap is exceeded.
        """
        if plan_sha256 is not None and plan_sha256 == self.approved_plan_sha256:
            return
        if wanted and wanted + recent > self.allowed(enabled):
            raise AhaGuardError(
                f"This run would change the access of {wanted} users, after {recent} within the last seven days; "
                f"allowed are {self.max_users} users and {self.max_percent:g} % of {enabled} enabled users "
                f"({self._by_percent(enabled)}). Nothing was done. Look at the plan: if it is right, pass its "
                "SHA-256 as approved_plan_sha256; don't raise the cap."
            )

    def _by_percent(self, enabled: int) -> int:
        # In the smallest accounts a fifth is less than one person, and one must be possible; none means none.
        return max(int(enabled * self.max_percent / 100), 1) if self.max_percent else 0
