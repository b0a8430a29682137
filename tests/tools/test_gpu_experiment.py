"""The pack of crops, what is done to it, and the jobs of `make experiment-gpu`, on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dfkit.clip import ClipSpec, PictureSpec
from dfkit.config import SplitConfig
from dfkit.data.storage import PreparedData
from dfkit.models import NetworkSpec
from tools.gpu import jobs
from tools.gpu.crops import SEEN, TEST, TRAIN, Crops, decode_pack, load_crops
from tools.gpu.degrade import REDUCED, Degradation, degrade, draw, quantize_blocks
from tools.gpu.pack import pack
from tools.gpu.table import network_table, read_facts, student_table
from tools.speed.made_data import make_synthetic_data

SPEC = ClipSpec(num_frames=6, hop_s=0.12, picture=PictureSpec(face_px=224, lip_px=96))
TINY = {"face_channels": (8, 8, 16), "lip_channels": (8, 8, 16), "gru_hidden": 16}
CUT = {"face_channels": (8, 8, 8), "lip_channels": (8, 8, 8), "gru_hidden": 8}
NUM_VIDEOS = 24
FAMILIES = ("One", "Two")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of made clips: half are fake, of two families in turn."""
    folder = make_synthetic_data(tmp_path_factory.mktemp("data") / "x", num_videos=NUM_VIDEOS, spec=SPEC)
    rows = [json.loads(line) for line in (folder / "videos.jsonl").read_text("utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["method"] = FAMILIES[number // 2 % 2] if row["label"] else None
    (folder / "videos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    path = folder.parent / "crops.npz"
    assert pack(PreparedData(folder), path, SplitConfig()) < 5
    return path


@pytest.fixture(scope="module")
def crops(packed: Path) -> Crops:
    decode_pack(packed, packed.parent / "decoded")
    return load_crops(packed, packed.parent / "decoded", torch.device("cpu"))


def test_pictures_come_back_and_smaller_ones_are_their_averages(packed: Path, crops: Crops) -> None:
    stored = PreparedData(packed.parent / "x").record(3).face.astype(np.float64)
    face = crops.pictures("face", 224)[3].numpy().astype(np.float64)
    # H.264 at a constant rate factor of 20, with colour at half the size, keeps made pictures to well above 30 dB.
    assert 10 * np.log10(255**2 / ((face - stored) ** 2).mean()) > 30
    half = face.reshape(len(face), 112, 2, 112, 2, 3).mean((2, 4))
    assert np.abs(crops.pictures("face", 112)[3].numpy() - half).max() <= 0.5
    assert crops.pictures("lip", 48).shape[1:] == (SPEC.num_frames, 48, 48, 3)
    assert crops.mfcc.shape[1:] == (SPEC.num_frames, 40)


def test_folds_hold_out_a_family_and_share_no_group(crops: Crops) -> None:
    assert crops.facts["folds"][0] == "grouped"
    videos = crops.facts["videos"]
    for fold, name in enumerate(crops.facts["folds"][1:], start=1):
        parts = crops.parts[fold]
        tested = {videos[v]["method"] for v in np.flatnonzero((parts == TEST) & (crops.labels == 1))}
        trained = {videos[v]["method"] for v in np.flatnonzero((parts == TRAIN) & (crops.labels == 1))}
        assert {name.split(" (")[0]} == tested and not tested & trained
        groups = [
            {videos[v]["group"] for v in np.flatnonzero(np.isin(parts, each))} for each in ([TRAIN], [SEEN, TEST])
        ]
        assert not groups[0] & groups[1]
        unseen, seen = crops.held_out(fold).values()
        assert set(crops.labels[crops.clip_video[unseen]]) == {0, 1}
        assert not {videos[v]["method"] for v in crops.clip_video[seen]} & tested


def test_quantized_blocks_are_those_of_libjpeg() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 64, 64, generator=generator), 5, 1, 2)
    rgb = (picture[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    whole_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    for quality in (35, 60, 90):
        _, blob = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality, *whole_colour])
        expected = cv2.imdecode(blob, cv2.IMREAD_COLOR)[..., ::-1] / 255
        ours = quantize_blocks(torch.from_numpy(rgb / 255.0).float().permute(2, 0, 1)[None], quality).clamp(0, 1)
        error = np.abs(ours[0].permute(1, 2, 0).numpy() - expected).mean()
        # libjpeg rounds coefficients, samples and colours to whole numbers, this rounds the coefficients alone.
        assert error < 2 / 255 < np.abs(rgb / 255 - expected).mean()


def test_degradation_is_drawn_without_the_label_and_does_what_it_says() -> None:
    first, again = (draw(torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == again
    pictures = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    nothing = Degradation(side_px=112, quality=100)
    torch.testing.assert_close(degrade(pictures, nothing), pictures)
    torch.testing.assert_close(degrade(pictures, Degradation(112, 100, mirrored=True)), pictures.flip(-1))
    # Noise of neighbouring pixels is gone at half the side.
    assert float(degrade(pictures, REDUCED).var()) < 0.5 * float(pictures.var())


def test_jobs_go_seed_by_seed_and_have_names_of_their_own() -> None:
    planned = jobs.plan(4, seeds=2)
    assert [job.seed for job in planned] == sorted(job.seed for job in planned)
    assert len(planned) == len(set(planned)) == 2 * (len(jobs.STUDENTS) + 3 * len(jobs.NETWORKS))


def test_a_network_and_its_students_are_trained_and_measured(crops: Crops, packed: Path) -> None:
    job = jobs.Network("tiny", NetworkSpec(**TINY), degraded=True, epochs=1, students=True, widths=CUT)
    rows = []
    for fold in range(1, len(crops.facts["folds"])):
        found = jobs.train_network(job, crops, fold, seed=0, lite0=Path("not read"))
        assert set(found["students"]) == {"distilled", "own_cnn", "scratch", "prune_only"}
        name = crops.facts["folds"][fold]
        rows.append(json.loads(json.dumps({"row": "tiny", "fold": fold, "seed": 0, "family": name, **found})))
    facts, parts = read_facts(packed)
    (line,) = network_table(rows, facts, parts)[2:]
    assert line.startswith("| tiny | 1 |")
    if len(rows) > 1:
        (line,) = network_table(rows[:1], facts, parts)[2:]
        assert line.startswith(f"| tiny (1 of {len(rows)} folds) | 1 |")


def test_what_the_experiment_needs_is_what_it_says() -> None:
    """Packages that a machine with a GPU lacks must not be imported by the experiment and the tests that it runs."""
    code = """
import importlib.abc, sys
missing = {"av", "ai_edge_litert", "litdata", "litert_torch", "ai_edge_quantizer"}
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import tools.gpu.experiment, tests.training.test_gpu_resume, tests.training.test_precision
"""
    here = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, check=False)
    assert done.returncode == 0, done.stderr


def test_students_stand_in_their_table_with_their_spread() -> None:
    rows = [
        {"row": "a", "steps": 5, "divergence": value, "p_change": 0.1, "same_verdict": 0.9, "auc": 0.8}
        for value in (0.01, 0.03)
    ]
    assert student_table(rows)[2] == "| a | 2, 5 | 20.000 ± 14.142 | 0.100 ± 0.000 | 90.000 ± 0.000 | 0.800 ± 0.000 |"
