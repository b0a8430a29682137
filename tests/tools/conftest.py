from tests.forge.conftest import forged, heads

__all__ = ["forged", "heads"]
