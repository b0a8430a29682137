from tests.runtime.fixtures import talk

__all__ = ["talk"]
