"""Whole inputs that cases damage: small videos in many containers, a bundle, checkpoints. Made once, in one folder."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

HEADS_FILE, BUNDLE_FOLDER, VIDEOS_FOLDER, WEIGHTS_FOLDER = "heads.npy", "bundle", "videos", "weights"
HEAD_PX, NUM_HEADS = 192, 56
SOUND_S = 2.3


@dataclass(frozen=True)
class Material:
    """What `make_material` wrote."""

    folder: Path

    @cached_property
    def heads(self) -> np.ndarray:
        """(56, 192, 192, 3) uint8 RGB: a head that moves."""
        return np.load(self.folder / HEADS_FILE)

    @property
    def bundle(self) -> Path:
        """A tiny bundle with a .tflite and two .onnx."""
        return self.folder / BUNDLE_FOLDER

    def videos(self, *suffixes: str) -> list[Path]:
        """Whole videos, sorted; of these suffixes where some are given, else all."""
        found = sorted((self.folder / VIDEOS_FOLDER).iterdir())
        return [path for path in found if not suffixes or path.suffix in suffixes]

    def weights(self) -> list[Path]:
        """Whole checkpoints, sorted."""
        return sorted((self.folder / WEIGHTS_FOLDER).iterdir())


def make_material(folder: Path, *, bundle: Path | None = None) -> Material:
    """Makes all whole inputs.

    Args:
        folder: Where to; a complete one from before is taken as it is.
        bundle: A tiny bundle that is copied; converted anew where None, which takes a minute.
    """
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_videos(folder)
        _write_weights(folder / WEIGHTS_FOLDER)
        shutil.rmtree(folder / BUNDLE_FOLDER, ignore_errors=True)
        if bundle is None:
            from tests.runtime.bundles import write_bundle

            write_bundle(folder / BUNDLE_FOLDER)
        else:
            shutil.copytree(bundle, folder / BUNDLE_FOLDER)
        (folder / "complete").touch()
    return Material(folder)


def _write_videos(folder: Path) -> None:
    from tests.media.face_cases import synthetic_head
    from tests.media.media_files import tone, write_media

    heads = np.stack(list(synthetic_head(NUM_HEADS, size=HEAD_PX)))
    np.save(folder / HEADS_FILE, heads)
    sound, wide = tone(SOUND_S), tone(SOUND_S, sample_rate=48000)
    blank = [np.full((96, 96, 3), 90, np.uint8)] * 52
    fast = {"movflags": "faststart"}
    easy: dict[str, Any] = {"options": {"b": "1500000"}}
    cuts = {"threads": "1", "g": "12", "bf": "2", "preset": "veryfast", "crf": "18"}
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "fast.mp4": (heads, {"sound": sound, "container_options": fast}),
        "behind.mp4": (heads, {"sound": sound}),
        "fragments.mp4": (heads, {"sound": sound, "options": cuts,
                                  "container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        "reordered.mp4": (heads, {"sound": np.concatenate([wide, wide]), "sample_rate": 48000, "options": cuts,
                                  "container_options": fast}),
        "silent.mp4": (heads, {"container_options": fast}),
        "blank.mp4": (blank, {"sound": sound, "container_options": fast}),
        "short.mp4": (heads[:30], {"sound": tone(1.2), "container_options": fast}),
        "sound.mp4": ((), {"sound": sound}),
        "part4.mov": (heads, {"sound": sound, "codec": "mpeg4", "container_options": fast, **easy}),
        "plain.3gp": (heads, {"sound": sound, "codec": "mpeg4", **easy}),
        "plain.mkv": (heads, {"sound": sound}),
        "reordered.mkv": (heads, {"sound": sound, "options": cuts}),
        "silent.mkv": (heads, {}),
        "free.webm": (heads, {"sound": wide, "sample_rate": 48000, "codec": "libvpx", "sound_codec": "libopus",
                              "options": {"deadline": "realtime", "b": "1500000"}}),
        "plain.ts": (heads, {"sound": sound, "options": cuts}),
        "part2.ts": (heads, {"sound": wide, "sample_rate": 48000, "codec": "mpeg2video", "sound_codec": "mp2", **easy}),
        "part1.mpg": (heads, {"sound": sound, "codec": "mpeg1video", "sound_codec": "mp2", **easy}),
        "plain.avi": (heads, {"sound": sound, "codec": "mpeg4", "sound_codec": "mp3", **easy}),
        "moving.avi": (heads[::2], {"sound": sound, "codec": "mjpeg", "pixel_format": "yuvj420p",
                                    "sound_codec": "pcm_s16le", "fps": 13}),
        "plain.flv": (heads, {"sound": wide, "sample_rate": 44100, "options": cuts}),
        "plain.wmv": (heads, {"sound": wide, "sample_rate": 44100, "codec": "wmv2", "sound_codec": "mp3", **easy}),
        "plain.nut": (heads, {"sound": sound, "codec": "mpeg4", "sound_codec": "pcm_f32le", **easy}),
    }  # fmt: skip
    target = folder / VIDEOS_FOLDER
    target.mkdir(exist_ok=True)
    for name, (pictures, options) in made.items():
        write_media(target / name, pictures, **options)


def _write_weights(folder: Path) -> None:
    """Checkpoints of a tiny network: dfkit's own, the original's, wrapped, averaged, safetensors."""
    import torch
    from safetensors.torch import save_file

    from dfkit.clip import CLIP2S
    from dfkit.models.mmms_ba import MMMSBA, NetworkSpec
    from dfkit.training.checkpoints import save_checkpoint

    folder.mkdir(exist_ok=True)
    torch.manual_seed(3)
    spec = NetworkSpec(face_channels=(4, 4, 4), lip_channels=(4, 4, 4), gru_hidden=4, dense_dim=4)
    network = MMMSBA(spec)
    save_checkpoint(folder / "own.pth", network, CLIP2S, kind="student", facts={"epoch": 3, "best_val_f1": 0.5})
    plain = OrderedDict((name, value.detach().clone()) for name, value in network.state_dict().items())
    averaged = {f"module.{name}": value * 0.5 for name, value in plain.items()}
    torch.save({"epoch": 7, "model_state_dict": plain, "best_val_f1": np.float64(0.6)}, folder / "original.pth")
    torch.save({"state_dict": {f"model._orig_mod.{n}": v.half() for n, v in plain.items()},
                "model_ema": averaged, "args": {"lr": 1e-3, "names": ["a", "b"]}}, folder / "averaged.pth")  # fmt: skip
    torch.save(plain, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(plain, folder / "plain.safetensors", metadata={"format": "pt"})


def read_json(path: Path) -> Any:
    """A JSON document."""
    return json.loads(path.read_text(encoding="utf-8"))
