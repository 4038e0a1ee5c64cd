"""Which accounts a DAG over several of them works on; looked up when a task runs."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, Variable

from airflow_provider_aha.common.values import is_unset, to_list, unknown_ones
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.aha import AhaHook

CONNECTIONS_VARIABLE = "aha_conn_ids"


def connection_ids(chosen: object = None) -> list[str]:
    """Return the Airflow connections of the accounts that a DAG works on, for dynamic task mapping.

    ::

        @task
        def accounts(params):
            return connection_ids(params["aha_conn_ids"])

        AhaExtractUsersOperator.partial(task_id="extract", base_path="/data/aha").expand(aha_conn_id=accounts())

    :param chosen: some of the ids that the Variable ``aha_conn_ids`` lists, such as a person typed into a form;
        not set: all of them. A form can't name others: who may only press Trigger chooses no keys.
    :return: the ids, each once.
    :raises AirflowFailException: when there are none, an id is not among the Variable's, or two of them lead to
        the same account, whose snapshots would replace each other.
    """
    listed = _listed()
    try:
        wanted = to_list(chosen, CONNECTIONS_VARIABLE)
    except AhaConfigurationError as error:
        raise AirflowFailException(str(error)) from None
    if not listed:
        raise AirflowFailException(
            f"No account is listed: set the Variable {CONNECTIONS_VARIABLE} to the ids of the Airflow connections, "
            'such as ["aha_emea", "aha_us"].'
        )
    if foreign := unknown_ones(wanted or (), listed):
        raise AirflowFailException(
            f"The Variable {CONNECTIONS_VARIABLE} doesn't list all that were chosen; it lacks {foreign}."
        )
    found = list(dict.fromkeys(wanted or listed))
    _refuse_the_same_account_twice(found)
    return found


def connection_id(chosen: object = None) -> str:
    """Return the Airflow connection that a form has chosen; a macro, so that it is looked up when a task runs.

    :param chosen: what a person typed into the form; null and empty text mean ``aha_default``.
    :return: the connection's id.
    :raises AirflowFailException: when it is neither ``aha_default`` nor one that the Variable ``aha_conn_ids``
        lists: who may only press Trigger chooses no keys.
    """
    own, wanted = AhaHook.default_conn_name, str(chosen).strip()
    if is_unset(chosen) or wanted == own:
        return own
    listed = _listed()
    if wanted not in listed:
        choices = ", ".join(dict.fromkeys([own, *listed]))
        # What was typed isn't repeated: it may be a key.
        raise AirflowFailException(
            f"The form names a connection that the Variable {CONNECTIONS_VARIABLE} doesn't list. Choose one of "
            f"{choices}, or have the connection added to the Variable."
        )
    return wanted


def _listed() -> list[str]:
    """Return the connections that the Variable lists, none where it isn't set."""
    try:
        return to_list(Variable.get(CONNECTIONS_VARIABLE, None), f"The Variable {CONNECTIONS_VARIABLE}") or []
    except AhaConfigurationError as error:
        raise AirflowFailException(str(error)) from None


def _refuse_the_same_account_twice(ids: list[str]) -> None:
    by_account: dict[str, str] = {}
    for name in ids:
        try:
            with AhaHook(name).get_conn() as client:
                account = client.config.account
        except (AirflowException, AhaConfigurationError):
            # One that is missing or wrong fails in its own task, and holds up no other account.
            continue
        if account in by_account:
            raise AirflowFailException(
                f"The connections {by_account[account]} and {name} both lead to the account {account}: "
                "list one of them."
            )
        by_account[account] = name
