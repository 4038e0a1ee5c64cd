"""A review is opened by the report, so these tests share its accounts."""

from tests.report.conftest import desk, hostile_desk, landed, make_desk, page_data, small, someone

__all__ = ["desk", "hostile_desk", "landed", "make_desk", "page_data", "small", "someone"]
