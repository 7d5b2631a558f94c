"""The model folder of tests.model.models."""

from tests.model.models import faces, folder, measured

__all__ = ["faces", "folder", "measured"]
