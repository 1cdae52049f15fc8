"""Results of other wings."""

from tests.editing.conftest import concepts, edit  # noqa: F401
from tests.reconstruction.conftest import layers  # noqa: F401
