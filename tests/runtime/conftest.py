from tests.runtime.fixtures import own_folder, talk, tiny_bundle, tiny_folder

__all__ = ["own_folder", "talk", "tiny_bundle", "tiny_folder"]
