"""What lands in a store is read from an account, as in the tests of the datasets."""

from tests.datasets.conftest import connect

__all__ = ["connect"]
