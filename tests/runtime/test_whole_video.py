"""The preset `uniform50`: one answer for a whole video, MFCC pooled onto its 50 frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfkit.clip import UNIFORM50
from dfkit.errors import ConfigError
from dfkit.runtime.bundle import open_bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.whole_video import pool_steps
from tests.media.media_files import numbered, tone, write_media
from tests.runtime.bundles import entry_of, make_network, reseal, write_bundle


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    from dfkit.export import onnx_graph

    network = make_network()
    graphs = onnx_graph.convert(network, UNIFORM50)
    backend = onnx_graph.describe(graphs, network, UNIFORM50, "fp32")
    folder = write_bundle(
        tmp_path_factory.mktemp("uniform") / "u",
        backends=("onnx",),
        clip_spec=UNIFORM50.model_dump(mode="json"),
    )
    import json

    data = json.loads((folder / "manifest.json").read_text())
    data["backends"] = {"onnx": backend.model_dump(mode="json")}
    data["files"] |= {name: entry_of(content) for name, content in graphs.items()}
    (folder / "manifest.json").write_text(json.dumps(data))
    for name, content in graphs.items():
        (folder / name).write_bytes(content)
    reseal(folder)
    return Detector(open_bundle(folder))


@pytest.mark.parametrize("length", [50, 51, 94, 313, 7])
def test_pooling_is_torchs_adaptive_average(length: int) -> None:
    import torch

    steps = np.random.default_rng(length).standard_normal((length, 40)).astype(np.float32)
    expected = torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(steps.T)[None], 50)[0].T.numpy()
    # float32 means of up to seven rows in another order.
    assert np.abs(pool_steps(steps, 50) - expected).max() < 1e-6


def test_a_whole_video_is_scored_as_torch_scores_its_view(uniform: Detector, talk: Path) -> None:
    import torch

    from dfkit.media.uniform50 import view_uniform50

    result = uniform.detect(talk)
    assert result.status == "ok" and len(result.tracks) == 1 and len(result.tracks[0].clips) == 1
    frames = result.tracks[0].frames
    assert len(frames) == 50 and frames[0][0] == 0 and 2.9 < frames[-1][0] < 3.0
    view = view_uniform50(talk)
    pooled = torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(view.mfcc.T)[None], 50).transpose(1, 2)
    with torch.no_grad():
        face, lip = (torch.from_numpy(p).permute(0, 3, 1, 2)[None].float() / 255 for p in (view.face, view.lip))
        logits = make_network()(pooled, face, lip).clip_logits
    # The fixture's calibration temperature is 1.5; ONNX against torch is within 1e-4 in logits.
    assert result.p_fake == pytest.approx(torch.softmax(logits / 1.5, dim=-1)[0, 1].item(), abs=1e-4)


def test_a_video_of_few_frames_gets_no_score(uniform: Detector, tmp_path: Path) -> None:
    path = write_media(tmp_path / "short.mp4", numbered(30), sound=tone(1.2))
    assert uniform.detect(path).status == "too_short"
    silent = write_media(tmp_path / "silent.mp4", numbered(75))
    assert uniform.detect(silent).status == "no_audio"


def test_there_is_no_stream_of_whole_videos(uniform: Detector) -> None:
    with pytest.raises(ConfigError, match="whole videos"):
        uniform.open_stream()
