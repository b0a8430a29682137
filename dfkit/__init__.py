"""dfkit takes an audio-visual deepfake detector from a GPU to a phone."""

__version__ = "0.1.0"
