"""A checkpoint through the runtime: the same answer as the exported graph, and as the original called by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dfkit.clip import CLIP2S
from dfkit.errors import CheckpointError, ConfigError, ShapeError
from dfkit.evaluation.attention import attention_over_time
from dfkit.evaluation.gallery import draw_gallery
from dfkit.evaluation.torch_graphs import CheckpointDetector
from dfkit.media.uniform50 import view_uniform50
from dfkit.models import load_teacher
from dfkit.runtime.detector import Detector
from dfkit.runtime.predict import predict_videos
from dfkit.training.checkpoints import save_checkpoint
from tests.runtime.bundles import make_network, write_bundle

DECISION = {
    "calibration": {"calibration_temperature": 1.5},
    "operating_point": {"threshold": 0.5, "review_low": 0.45, "review_high": 0.55, "name": "chosen by hand"},
}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("student") / "best.pth"
    save_checkpoint(path, make_network(), CLIP2S, kind="student", facts=DECISION)
    return path


def test_a_student_equals_its_exported_fp32_graph(student: Path, talk: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "onnx", backends=("onnx",))
    exported = predict_videos([talk], Detector(bundle))[0].result
    own = predict_videos([talk], CheckpointDetector(student))[0].result
    assert own is not None and exported is not None
    assert own.status == exported.status == "ok" and own.verdict == exported.verdict
    assert own.p_fake == pytest.approx(exported.p_fake, abs=1e-4)
    (mine,), (theirs,) = own.tracks, exported.tracks
    np.testing.assert_allclose(np.array(mine.clips), np.array(theirs.clips), atol=1e-4)
    np.testing.assert_allclose(np.array(mine.frames), np.array(theirs.frames), atol=1e-4)


def test_an_original_teacher_equals_itself_called_by_hand(shared: Path, talk: Path) -> None:
    path = shared / "teacher" / "fold4.pth"
    seen: list[int] = []
    result = CheckpointDetector(path).detect(talk, watch=lambda face: seen.append(face.index))
    view = view_uniform50(talk)
    with torch.no_grad():
        output = load_teacher(path)(
            torch.from_numpy(view.mfcc)[None],
            torch.from_numpy(view.face).permute(0, 3, 1, 2)[None].float() / 255,
            torch.from_numpy(view.lip).permute(0, 3, 1, 2)[None].float() / 255,
        )
    assert view.mfcc.shape[0] != 50, "the sound has its own length here"
    assert result.p_fake == pytest.approx(float(output.clip_logits.softmax(-1)[0, 1]), abs=1e-6)
    np.testing.assert_allclose(
        [p for _, p in result.tracks[0].frames], output.frame_logits.softmax(-1)[0, :, 1].numpy(), atol=1e-6
    )
    assert seen == list(range(50))


def test_what_cannot_be_opened_is_named(student: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        CheckpointDetector(tmp_path / "gone.pth")
    graphs = CheckpointDetector(student).torch_graphs
    with pytest.raises(ShapeError, match="'lip'"):
        graphs.encode({"face": np.zeros((1, 224, 224, 3), np.uint8)})
    with pytest.raises(ShapeError, match="'pcm'"):
        graphs.score({})


def test_a_gallery_of_good_and_bad_videos(student: Path, talk: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos & more"
    videos.mkdir()
    (videos / "말하는 #1.mpg").write_bytes(talk.read_bytes())
    (videos / "broken.mp4").write_text("no video")
    gallery = draw_gallery([videos], CheckpointDetector(student), tmp_path / "out")
    page = gallery.index.read_text(encoding="utf-8")
    good = next(entry for entry in gallery.entries if entry.result.status == "ok")
    for name in (good.figure, good.thumbnail, good.attention):
        content = np.frombuffer((tmp_path / "out" / str(name)).read_bytes(), np.uint8)
        assert cv2.imdecode(content, cv2.IMREAD_COLOR).std() > 20
    # A '#' in a link would be cut off by the reader.
    assert "%231.png" in page and "#1.png" not in page.replace("%231.png", "")
    assert "unreadable" in page and f"{good.result.p_fake:.3f}" in page
    assert "2 figures" in gallery.summary()[-1] and len(gallery.to_json()["videos"]) == 2
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        draw_gallery([videos], CheckpointDetector(student), tmp_path / "out")


def test_attention_of_overlapping_clips_by_hand() -> None:
    even, second = np.full(4, 0.25), np.array([0.0, 0.0, 0.5, 0.5])
    joined = attention_over_time([{"a_b": even}, {"a_b": second}], [(0.0, 2.0), (1.0, 3.0)], steps_per_s=2)
    # 0-1 s: even; 1-2 s: even and nothing; 2-3 s: twice even.
    np.testing.assert_allclose(joined["a_b"], [1, 1, 0.5, 0.5, 2, 2])
    gap = attention_over_time([{"a_b": even}], [(1.0, 3.0)], steps_per_s=2)["a_b"]
    assert np.isnan(gap[:2]).all() and (gap[2:] == 1).all()
