"""Videos without sound: judged by the picture alone where the model was trained for it, `no_audio` else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import BundleError
from dfkit.measures.decision import Aggregation, Calibration, Decision, OperatingPoint, p_fake_of
from dfkit.measures.familiarity import Familiarity, FeatureSpread
from dfkit.media.stream import Clip, read_clips
from dfkit.media.video import read_frames
from dfkit.runtime.backends import open_backend
from dfkit.runtime.bundle import Bundle, open_bundle
from dfkit.runtime.detector import Detector
from dfkit.runtime.manifest import DecisionEntry
from tests.media.media_files import write_media
from tests.runtime.bundles import write_bundle

MUTED = Decision(
    Calibration(calibration_temperature=3.0),
    OperatingPoint(threshold=0.25, review_low=0.2, review_high=0.3, name="chosen by hand"),
    Aggregation(name="top_k", k=1),
)


def with_manifest(bundle: Bundle, **changes: object) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=changes))


@pytest.fixture(scope="module")
def clips(talk: Path) -> list[Clip]:
    return list(read_clips(talk, CLIP2S))


@pytest.fixture(scope="module")
def videos(talk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same pictures with sound, without a track, with zeros, and with channels that cancel each other out."""
    folder = tmp_path_factory.mktemp("muted")
    pictures = [rgb for _, _, rgb in read_frames(talk, 25.0)]
    wave = (0.3 * np.sin(np.arange(48000) / 20)).astype(np.float32)
    silence = np.zeros((1, 48000), np.float32)
    sounds = {"heard": wave[None], "no track": None, "silence": silence, "opposite": np.stack([wave, -wave])}
    return {name: write_media(folder / f"{name}.mkv", pictures, sound=sound) for name, sound in sounds.items()}


@pytest.mark.parametrize("kind", ["no track", "silence", "opposite"])
def test_without_training_for_it_there_is_no_verdict(tiny_bundle: Bundle, videos: dict[str, Path], kind: str) -> None:
    result = Detector(tiny_bundle).detect(videos[kind])
    assert (result.status, result.p_fake, result.no_sound) == ("no_audio", None, None)


@pytest.mark.parametrize("kind", ["no track", "silence", "opposite"])
def test_the_picture_alone_is_judged_by_its_own_decision(
    tiny_bundle: Bundle, videos: dict[str, Path], kind: str
) -> None:
    detector = Detector(with_manifest(tiny_bundle, decision_muted=DecisionEntry.of(MUTED)))
    result = detector.detect(videos[kind])
    assert result.status == "ok" and result.modalities == ("face", "lip") and result.threshold == 0.25
    # What training hides sound with: a waveform of zeros, of every clip.
    graphs = open_backend(tiny_bundle)
    expected = []
    for clip in read_clips(videos["heard"], CLIP2S):
        features = graphs.encode({"face": clip.face, "lip": clip.lip})
        logits = graphs.score(features | {"pcm": np.zeros(CLIP2S.num_samples, np.float32)})[1]
        expected.append(float(p_fake_of(logits, calibration_temperature=3.0)))
    assert result.p_fake == pytest.approx(max(expected))
    assert [p for _, _, p in result.tracks[0].clips] == pytest.approx(expected)
    data = result.to_json()
    assert data["modalities"] == ["face", "lip"] and data["read"]["sound"] is None
    assert data["reason"].startswith("no sound (") and data["reason"].endswith("judged by the picture alone")
    assert any("judged by the picture alone" in line for line in result.summary())
    assert not any("review, because" in line for line in result.summary())


def test_a_video_with_sound_is_judged_as_ever(tiny_bundle: Bundle, talk: Path) -> None:
    can_do_without = Detector(with_manifest(tiny_bundle, decision_muted=DecisionEntry.of(MUTED))).detect(talk)
    assert can_do_without == Detector(tiny_bundle).detect(talk)
    assert can_do_without.modalities == ("audio", "face", "lip")


def test_a_stored_decision_reads_back_and_a_wrong_band_is_refused(tmp_path: Path) -> None:
    entry = DecisionEntry.of(MUTED)
    assert entry is not None and entry.decision == MUTED
    (tmp_path / "good").mkdir()
    good = write_bundle(tmp_path / "good", backends=("onnx",), decision_muted=entry.model_dump())
    manifest = open_bundle(good).manifest
    assert manifest.decision_by(("face", "lip")) == MUTED and manifest.decision_by(("audio", "face")) != MUTED
    wrong = entry.model_dump() | {"operating_point": {**MUTED.operating_point.model_dump(), "review_low": 0.9}}
    (tmp_path / "bad").mkdir()
    bad = write_bundle(tmp_path / "bad", backends=("onnx",), decision_muted=wrong)
    with pytest.raises(BundleError, match=r"decision_muted\.operating_point: review_low 0\.9"):
        open_bundle(bad)


def familiarity(bundle: Bundle, clips: list[Clip], *, max_distance: float) -> Familiarity:
    """Fitted by hand: the mean of this video's clips, one unit each way."""
    encode = open_backend(bundle).encode
    features = [encode({"face": clip.face, "lip": clip.lip}) for clip in clips]
    spreads = {}
    for name in features[0]:
        mean = np.mean([each[name].mean(axis=0) for each in features], axis=0).astype(float)
        axis = [1000, *[0] * (len(mean) - 1)]
        spreads[name] = FeatureSpread(mean=tuple(mean), axes=(tuple(axis),), scales=(0.05, 0.05))
    return Familiarity(spreads=spreads, max_distance=max_distance, fitted_on="by hand")


def test_features_far_from_training_are_review_and_near_ones_are_not(
    tiny_bundle: Bundle, talk: Path, clips: list[Clip]
) -> None:
    near = familiarity(tiny_bundle, clips, max_distance=10.0)
    encode = open_backend(tiny_bundle).encode
    by_hand = np.median([near.distance(encode({"face": clip.face, "lip": clip.lip})) for clip in clips])
    point = OperatingPoint(threshold=0.5, review_low=0.5, review_high=0.5, name="no band")
    found = Detector(with_manifest(tiny_bundle, familiarity=near, operating_point=point)).detect(talk)
    assert found.distance == pytest.approx(by_hand, rel=1e-6) and found.reason is None
    assert found.verdict in ("real", "fake")
    assert found.to_json()["evidence"]["distance"] == round(by_hand, 3)
    assert found.to_json()["evidence"]["max_distance"] == 10.0
    moved = {
        name: spread.model_copy(update={"mean": tuple(m + 5 for m in spread.mean)})
        for name, spread in near.spreads.items()
    }
    far = Detector(with_manifest(tiny_bundle, familiarity=near.model_copy(update={"spreads": moved}))).detect(talk)
    assert far.verdict == "review" and far.reason is not None and "unlike" in far.reason
    assert far.p_fake == found.p_fake


def test_muted_and_far_are_both_said(tiny_bundle: Bundle, videos: dict[str, Path], clips: list[Clip]) -> None:
    far = familiarity(tiny_bundle, clips, max_distance=1e-6)
    muted = with_manifest(tiny_bundle, familiarity=far, decision_muted=DecisionEntry.of(MUTED))
    result = Detector(muted).detect(videos["no track"])
    assert result.verdict == "review" and result.reason is not None
    assert result.reason.startswith("no sound (it has no sound track): judged by the picture alone; the face is unlike")
    _, first, second = result.summary()[:3]
    assert "judged by the picture alone" in first and second.startswith("  review, because the face is unlike")


def test_a_section_that_does_not_fit_the_graphs_is_refused(tmp_path: Path) -> None:
    spread = FeatureSpread(mean=(0.0, 0.0), axes=((1000, 0),), scales=(1.0, 1.0))
    wrong = Familiarity(spreads={"face_features": spread}, max_distance=1.0)
    bundle = write_bundle(tmp_path, backends=("onnx",), familiarity=wrong.model_dump())
    with pytest.raises(BundleError, match=r"familiarity\.spreads\.face_features: does not fit"):
        open_bundle(bundle)
