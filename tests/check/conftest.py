"""The assertions of the helpers are rewritten like those of a test, so that a failure shows its values."""

import pytest

pytest.register_assert_rewrite("tests.check.exercise_pages")
