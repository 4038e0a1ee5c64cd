"""Where files lie under a base path: a contract with every reader."""

import pytest

from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.store.layout import Layout, snapshot_of


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_dataset_lies_in_a_folder_by_account_and_day(dataset: str):
    path = Layout("mycompany.use3").dataset(dataset, "2026-09-01")
    assert path == f"{dataset}/account=mycompany.use3/snapshot=2026-09-01/{dataset}.parquet"


def test_a_manifest_lies_beside_the_datasets():
    layout = Layout("mycompany")
    assert layout.manifest("2026-09-01") == "manifests/account=mycompany/snapshot=2026-09-01/manifest.json"
    assert layout.manifests == "manifests/account=mycompany"


@pytest.mark.parametrize("account", ["", "..", ".", "a/b", "a..b", ".a", "a.", "A", "a b", "a\n", "a=b", "é"])
def test_an_account_that_could_leave_the_base_path_is_refused(account: str):
    with pytest.raises(AhaConfigurationError, match="can't be an Aha! account"):
        Layout(account)


@pytest.mark.parametrize("day", ["", "2026-9-1", "../2026-09-01", "2026-09-01/", "2026-09-01\n", "٢٠٢٦-٠٩-٠١"])
def test_a_day_that_is_none_is_refused(day: str):
    layout = Layout("mycompany")
    for path in (layout.manifest, lambda snapshot: layout.dataset("users", snapshot)):
        with pytest.raises(AhaConfigurationError, match="not the day of a snapshot"):
            path(day)


@pytest.mark.parametrize("dataset", ["", "..", "a/b", "Users", "users\n"])
def test_a_dataset_that_could_leave_the_base_path_is_refused(dataset: str):
    with pytest.raises(AhaConfigurationError, match="can't be a dataset"):
        Layout("mycompany").dataset(dataset, "2026-09-01")


@pytest.mark.parametrize(
    ("path", "day"),
    [
        ("/data/users/account=a/snapshot=2026-09-01/users.parquet", "2026-09-01"),
        ("/data/manifests/account=a/snapshot=2026-09-01", "2026-09-01"),
        ("/data/manifests/account=a/snapshot=2026-09-01.bak", None),
        ("/data/manifests/account=a", None),
        ("snapshot=2026-09-01", "2026-09-01"),
        ("/data/manifests/account=a/old-snapshot=2026-09-01", None),
    ],
)
def test_the_day_is_read_from_a_path_that_the_layout_made(path: str, day: str | None):
    assert snapshot_of(path) == day
