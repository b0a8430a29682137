"""Does a network trained on 50 frames over the whole video fail on dense frames? An experiment.

Builds the original's fault from labelled clips: reals looped to 90 s, fakes to 20 s, 50 frames spread over all
of it, MFCC of the whole sound track. Audits that data, trains a narrow network on it fold by fold, and scores
the held-out groups of each fold in four views: as trained, both classes 20 s, both 90 s, and 2 s of dense
frames. The same network trained where both classes have 20 s is the control.

    python tools/leak_experiment.py CLIPS.csv --out OUT --epochs 12
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from dfkit.audit.audit import audit
from dfkit.audit.findings import FoldedVideos
from dfkit.clip import UNIFORM50
from dfkit.data import catalog
from dfkit.data.catalog import ClipRow, DataInfo, VideoRow
from dfkit.data.samples import PictureCache, VideoLabels, encode_uniform
from dfkit.data.shards import ChunkWriter, write_index
from dfkit.data.storage import PreparedData
from dfkit.files import write_atomically
from dfkit.measures.bootstrap import group_bootstrap
from dfkit.measures.metrics import auc
from dfkit.media.mfcc import mfcc
from dfkit.media.picture import PictureMaker
from dfkit.media.survey import survey_file
from dfkit.media.uniform50 import centre_square, haar_lip, read_sound
from dfkit.media.video import PictureDecoder
from dfkit.models.mmms_ba import MMMSBA, NetworkSpec

REAL_S, FAKE_S, DENSE_S = 90.0, 20.0, 2.0
VIEWS = {
    "leaky": (REAL_S, FAKE_S),
    "both 20 s": (FAKE_S, FAKE_S),
    "both 90 s": (REAL_S, REAL_S),
    "dense 2 s": (2.0, 2.0),
}
RATE = UNIFORM50.audio.sample_rate
NETWORK = NetworkSpec(face_channels=(8, 16, 32), lip_channels=(8, 16, 32), gru_hidden=32)
FACE_PX, LIP_PX = 112, 48


@dataclass(frozen=True)
class Sample:
    """One video in one view."""

    face: np.ndarray
    lip: np.ndarray
    mfcc: np.ndarray
    times_s: np.ndarray


@dataclass(frozen=True)
class Source:
    """One clip, read once."""

    path: Path
    label: int
    group: str
    squares: np.ndarray
    times_s: np.ndarray
    sound: np.ndarray

    def view(self, length_s: float) -> Sample:
        """The clip looped (or cut) to a length, 50 frames over all of it."""
        times_s = np.arange(50) * length_s / 50
        looped_s = times_s % (self.times_s[-1] + 0.04)
        frames = self.squares[np.abs(self.times_s[None] - looped_s[:, None]).argmin(axis=1)]
        sound = np.resize(self.sound, int(length_s * RATE))
        lips = np.stack([haar_lip(frame, UNIFORM50.picture.lip_px) for frame in frames])
        return Sample(frames, lips, mfcc(sound, UNIFORM50.audio), times_s)


def read_source(path: Path, label: int, group: str) -> Source:
    """Decodes a clip: centre squares and sound."""
    survey = survey_file(path)
    maker = PictureMaker(aspect=survey.aspect)
    squares, times_s = [], []
    for picture in PictureDecoder(survey, num_threads=1):
        squares.append(centre_square(maker.make(picture.frame).rgb(), 224))
        times_s.append(picture.start_s)
    return Source(path, label, group, np.stack(squares), np.asarray(times_s) - times_s[0], read_sound(path, RATE))


def store(folder: Path, sources: list[dict[str, Any]], samples: list[Sample]) -> PreparedData:
    """Prepared data of the preset `uniform50`, as from the original's NPZ files."""
    folder.mkdir(parents=True)
    rows = []
    for source, sample in zip(sources, samples, strict=True):
        sha256 = hashlib.sha256(str(source["path"]).encode()).hexdigest()
        labels = VideoLabels(source["path"].name, sha256, source["label"], (source["group"],), None, None, (), None)
        cache = PictureCache()
        with ChunkWriter(folder, sha256) as writer:
            writer.add(encode_uniform(sample.face, sample.lip, sample.mfcc, sample.times_s, labels, cache))
            chunks = writer.finish()
        clip = ClipRow(0, 0.0, float(sample.times_s[-1]), 50, 50 * source["label"])
        fixed: dict[str, Any] = {"size_bytes": 0, "mtime_ns": 0, "method": None, "split": None, "intervals": ()}
        rows.append(
            VideoRow(
                key=sha256,
                path=str(source["path"]),
                sha256=sha256,
                label=source["label"],
                groups=(source["group"],),
                status="ok",
                reason=None,
                facts=None,
                clips=(clip,),
                chunks=chunks,
                **fixed,
            )
        )
    write_index(folder, [chunk for row in rows for chunk in row.chunks])
    catalog.write_videos(folder, rows)
    info = DataInfo(UNIFORM50, catalog.now(), True, True, "tools/leak_experiment.py")
    write_atomically(folder / catalog.DATA_FILE, catalog.dump_info(info))
    return PreparedData(folder)


def shrink(sample: Sample) -> Sample:
    """Half the sides: a quarter of the time, and enough for a leak that is not in the pixels."""
    face = np.stack([cv2.resize(frame, (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA) for frame in sample.face])
    lip = np.stack([cv2.resize(frame, (LIP_PX, LIP_PX), interpolation=cv2.INTER_AREA) for frame in sample.lip])
    return Sample(face, lip, sample.mfcc, sample.times_s)


def logits_of(network: MMMSBA, samples: list[Sample]) -> torch.Tensor:
    """Clip logits of a padded batch, (B, 2)."""

    def pictures(name: str) -> torch.Tensor:
        batch = np.stack([getattr(sample, name) for sample in samples]).astype(np.float32) / 255
        return torch.from_numpy(batch).permute(0, 1, 4, 2, 3)

    lengths = torch.tensor([len(sample.mfcc) for sample in samples])
    sound = pad_sequence([torch.from_numpy(sample.mfcc) for sample in samples], batch_first=True)
    mask = torch.arange(sound.shape[1])[None] < lengths[:, None]
    return network(sound, pictures("face"), pictures("lip"), audio_mask=mask).clip_logits


def train(samples: list[Sample], labels: np.ndarray, *, epochs: int, seed: int) -> MMMSBA:
    """Trains with balanced cross-entropy, batches of 8."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = MMMSBA(NETWORK)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
    weight = torch.tensor(len(labels) / (2 * np.bincount(labels, minlength=2)), dtype=torch.float32)
    for _ in range(epochs):
        for batch in np.array_split(generator.permutation(len(samples)), max(1, len(samples) // 8)):
            logits = logits_of(network, [samples[i] for i in batch])
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[batch]), weight=weight)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
    return network.eval()


def p_fake(network: MMMSBA, samples: list[Sample]) -> np.ndarray:
    """P(fake) of each sample, one at a time: no padding."""
    with torch.inference_mode():
        return np.array([torch.softmax(logits_of(network, [sample]), 1)[0, 1].item() for sample in samples])


def report(labels: np.ndarray, groups: tuple[str, ...], scores: np.ndarray) -> dict[str, float]:
    """AUC with its interval, and how each class is answered at 0.5."""
    interval = group_bootstrap(groups, lambda rows: auc(labels[rows], scores[rows]))
    return {
        "auc": interval.value,
        "low": interval.low,
        "high": interval.high,
        "reals_called_fake": float((scores[labels == 0] >= 0.5).mean()),
        "fakes_called_fake": float((scores[labels == 1] >= 0.5).mean()),
        "mean_p_fake_real": float(scores[labels == 0].mean()),
        "mean_p_fake_fake": float(scores[labels == 1].mean()),
    }


def read_views(clips: Path) -> tuple[list[dict[str, Any]], dict[str, list[Sample]], list[Sample]]:
    """Path, label and group of each clip, its small samples by view, and its leaky sample at full size."""
    with clips.open(encoding="utf-8", newline="") as file:
        rows = [(clips.parent / row["path"], int(row["label"] == "fake"), row["group"]) for row in csv.DictReader(file)]
    kept: list[dict[str, Any]] = []
    views: dict[str, list[Sample]] = {name: [] for name in VIEWS}
    leaky = []
    for path, label, group in rows:
        source = read_source(path, label, group)
        kept.append({"path": path, "label": label, "group": group})
        for name, lengths_s in VIEWS.items():
            sample = source.view(lengths_s[label])
            views[name].append(shrink(sample))
            if name == "leaky":
                leaky.append(sample)
    return kept, views, leaky


def cross_validate(
    folds: FoldedVideos, views: dict[str, list[Sample]], *, trained_on: str, epochs: int
) -> dict[str, dict[str, float]]:
    """Trains on one view of each fold's other groups and scores its own groups in every view."""
    scores = {name: np.full(len(folds.labels), np.nan) for name in views}
    for number, test in enumerate(folds.test_parts, start=1):
        rest = np.setdiff1d(np.arange(len(folds.labels)), test)
        samples = [views[trained_on][i] for i in rest]
        network = train(samples, folds.labels[rest], epochs=epochs, seed=folds.seed)
        for name in views:
            scores[name][test] = p_fake(network, [views[name][i] for i in test])
            part = folds.labels[test]
            means = [round(float(scores[name][test][part == label].mean()), 3) for label in (0, 1)]
            print(f"  fold {number}, {name}: mean p_fake of reals {means[0]}, of fakes {means[1]}", flush=True)
    return {name: report(folds.labels, folds.groups, values) for name, values in scores.items()}


def main() -> None:
    """Runs it all; prints progress and writes leak.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="CSV path,label,group; paths relative to it")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kept, views, leaky = read_views(arguments.clips)
    data = store(arguments.out / "leaky", kept, leaky)
    print("\n".join(audit(data, folds=arguments.folds, seed=arguments.seed).summary()), flush=True)
    folds = FoldedVideos.from_data(data, folds=arguments.folds, seed=arguments.seed)
    results = {}
    for trained_on in ("leaky", "both 20 s"):
        print(f"trained on {trained_on}:", flush=True)
        results[trained_on] = cross_validate(folds, views, trained_on=trained_on, epochs=arguments.epochs)
        for name, values in results[trained_on].items():
            print(f"  all folds, {name}: {json.dumps({key: round(value, 3) for key, value in values.items()})}")
    (arguments.out / "leak.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
