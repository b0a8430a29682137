"""Parity: the same clips through every stage of the export, compared with the stage before.

torch -> fused graph -> tflite fp32 -> tflite int8, and torch -> onnx fp32 -> onnx int8. A float stage has to
stay within 1e-4 in logits. An INT8 stage is judged by what it decides, under the calibration and the threshold that the
bundle ships: no flip where the float logits are more than 0.1 away from the threshold, at most max(1, 1 %) flips in
all, p_fake within 0.05. NaN or Inf on either side fails.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from dfkit.clip import NUM_LANDMARKS, ClipSpec
from dfkit.errors import ParityError
from dfkit.export.graph import EncodeGraph, ScoreGraph
from dfkit.measures.decision import Decision, VideoScores, compare_decisions
from dfkit.measures.gates import MARGIN, MAX_P_CHANGE, max_flips
from dfkit.models.front_end import MfccFrontEnd
from dfkit.models.mmms_ba import MMMSBA, bi_modal_attention
from dfkit.models.motion import MotionFrontEnd
from dfkit.models.pictures import to_unit_range
from dfkit.runtime.backends import Graphs

LANDMARKS = "landmarks' points shifted by one"
"""A deliberate mistake, see `shifted_points`."""
FLOAT_TOLERANCE = 1e-4
"""Largest difference in logits between float stages: float32 sums of other order, with room for 30 x."""


@dataclass(frozen=True)
class ParityClip:
    """One input of all stages."""

    name: str
    kind: Literal["real", "worst case", "muted"]
    arrays: dict[str, np.ndarray]
    """`face`, `lip` (T, side, side, 3) uint8; `pcm` (num_samples,) or `mfcc` (T, n_mfcc) float32."""


FEW_CLIPS = {"coreai": 2}
"""Clips of each kind for a runtime whose interpreter takes 20 s a clip; it stands last."""


@dataclass(frozen=True)
class Logits:
    """Answers of one stage. N clips."""

    frame: np.ndarray
    """(N, T, 2)."""
    clip: np.ndarray
    """(N, 2)."""


@dataclass(frozen=True)
class StageResult:
    """One comparison."""

    stage: str
    reference: str
    kind: str
    num_clips: int
    max_difference: float
    """Largest absolute difference of frame and clip logits."""
    mean_difference: float
    flips: int
    """Clips whose decision changed."""
    flips_above_margin: int
    max_p_change: float
    quantized: bool
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values; a difference that is not finite is written as text."""
        values = dict(vars(self))
        return {k: (str(v) if isinstance(v, float) and not np.isfinite(v) else v) for k, v in values.items()}


@dataclass(frozen=True)
class ParityReport:
    """All comparisons, and what deliberate mistakes would have cost."""

    stages: tuple[StageResult, ...]
    controls: dict[str, float] = field(default_factory=dict)
    """Largest change of the torch logits per deliberate mistake; a parity that a mistake passes proves nothing."""

    @property
    def passed(self) -> bool:
        """Whether every stage passed; False for no stages at all."""
        return bool(self.stages) and all(stage.passed for stage in self.stages)

    def first_failure(self) -> StageResult | None:
        """The stage that broke."""
        return next((stage for stage in self.stages if not stage.passed), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "passed": self.passed,
            "stages": [s.to_json() for s in self.stages],
            "controls": self.controls,
        }


def torch_logits(network: MMMSBA, spec: ClipSpec, clips: Sequence[ParityClip], *, batched: bool = False) -> Logits:
    """The unfused network, the first stage of every chain; one clip after the other unless `batched`."""
    batches = [list(clips)] if batched else [[clip] for clip in clips]
    answers = [_torch_batch(network, spec, batch) for batch in batches]
    return Logits(np.concatenate([a.frame for a in answers]), np.concatenate([a.clip for a in answers]))


@torch.no_grad()
def _torch_batch(network: MMMSBA, spec: ClipSpec, clips: Sequence[ParityClip]) -> Logits:
    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([clip.arrays[name] for clip in clips]))

    modalities = network.spec.modalities
    audio = motion = None
    if "audio" in modalities:
        dense = spec.preset == "clip2s"
        audio = MfccFrontEnd(spec.audio, spec.num_frames)(stacked("pcm")) if dense else stacked("mfcc")
    if "motion" in modalities:
        motion = MotionFrontEnd(spec.fps)(stacked("landmarks"))
    pictures = {m: to_unit_range(stacked(m)) for m in network.spec.pictures}
    output = network(audio, pictures.get("face"), pictures.get("lip"), motion=motion)
    return Logits(output.frame_logits.numpy(), output.clip_logits.numpy())


def swapped_attention(network: MMMSBA) -> MMMSBA:
    """The same network with the two arguments of every bi-modal attention swapped: a deliberate mistake."""
    mistaken = copy.copy(network)
    mistaken.attend = lambda x, y, x_mask=None, y_mask=None: bi_modal_attention(y, x, y_mask, x_mask)
    return mistaken


def fused_logits(network: MMMSBA, spec: ClipSpec, clips: Sequence[ParityClip]) -> Logits:
    """The export graphs run by torch."""
    encode, score = EncodeGraph(network).eval(), ScoreGraph(network, spec).eval()
    frames, whole = [], []
    for clip in clips:
        arrays = clip.arrays
        with torch.no_grad():
            pictures = [torch.from_numpy(arrays[m]).float() / 255 for m in encode.modalities]
            steps = dict(zip(encode.modalities, encode(*pictures), strict=True))
            steps["audio"] = torch.from_numpy(arrays["pcm"][None] if "pcm" in arrays else arrays["mfcc"])
            if "landmarks" in arrays:
                steps["motion"] = torch.from_numpy(arrays["landmarks"])
            frame, clip_value = score(*(steps[m] for m in score.modalities))
        frames.append(frame.numpy())
        whole.append(clip_value[0].numpy())
    return Logits(np.stack(frames), np.stack(whole))


def graph_logits(graphs: Graphs, clips: Sequence[ParityClip]) -> Logits:
    """A backend's two graphs, as the runtime calls them."""
    frames, whole = [], []
    for clip in clips:
        features = graphs.encode({m: clip.arrays[m] for m in ("face", "lip") if m in clip.arrays})
        frame, value = graphs.score(features | tracks_of(clip.arrays))
        frames.append(frame)
        whole.append(value)
    return Logits(np.stack(frames), np.stack(whole))


def tracks_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `score` takes straight from a clip's arrays: sound and landmarks."""
    return {name: value for name, value in arrays.items() if name in ("pcm", "mfcc", "landmarks")}


def compare(
    stage: str, reference: str, kind: str, got: Logits, expected: Logits, *, decision: Decision, quantized: bool
) -> StageResult:
    """One stage against another; shapes first, then values.

    Args:
        stage: Name of what is judged.
        reference: Name of what it is held against.
        kind: Of the clips.
        got: The stage's answers.
        expected: The reference's.
        decision: What the bundle decides by; each clip counts as a video of its own.
        quantized: Whether decisions are judged, or the logits themselves.
    Raises:
        ParityError: The shapes differ.
    """
    for name in ("frame", "clip"):
        if getattr(got, name).shape != getattr(expected, name).shape:
            raise ParityError(
                f"{stage}: {name} logits have shape {getattr(got, name).shape}, "
                f"{reference} gives {getattr(expected, name).shape}"
            )
    pairs = ((got.frame, expected.frame), (got.clip, expected.clip))
    differences = np.abs(np.concatenate([(a - b).ravel() for a, b in pairs]).astype(np.float64))
    change = compare_decisions(
        [VideoScores.of_clip(row) for row in expected.clip],
        [VideoScores.of_clip(row) for row in got.clip],
        decision,
        margin_limit=MARGIN,
    )
    largest = float(differences.max())
    finite = bool(np.isfinite(differences).all())
    if quantized:
        few = change.num_flips <= max_flips(change.num) and change.num_flips_above_margin == 0
        passed = finite and few and change.max_p_change <= MAX_P_CHANGE
    else:
        passed = finite and largest <= FLOAT_TOLERANCE
    return StageResult(
        stage=stage,
        reference=reference,
        kind=kind,
        num_clips=change.num,
        max_difference=largest,
        mean_difference=float(differences.mean()),
        flips=change.num_flips,
        flips_above_margin=change.num_flips_above_margin,
        max_p_change=change.max_p_change,
        quantized=quantized,
        passed=passed,
    )


def worst_cases(spec: ClipSpec) -> list[ParityClip]:
    """Silence, clipping, black and noise; a still face, one without extent, one that shakes."""
    rng = np.random.default_rng(0)
    face, lip = spec.picture.face_px, spec.picture.lip_px
    length = spec.num_samples
    times_s = np.arange(length) / spec.audio.sample_rate
    tone = 0.5 * np.sin(2 * np.pi * 180 * times_s) * (1 + np.sin(2 * np.pi * 3 * times_s))

    def noise(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    points_rng = np.random.default_rng(1)
    mesh = points_rng.uniform(0, face, (1, NUM_LANDMARKS, 2))
    still = np.repeat(mesh, spec.num_frames, axis=0)
    shaking = still + points_rng.normal(0, 0.05 * face, (spec.num_frames, NUM_LANDMARKS, 2))

    def case(
        name: str, face_value: np.ndarray, lip_value: np.ndarray, pcm: np.ndarray, points: np.ndarray
    ) -> ParityClip:
        arrays = {"face": face_value, "lip": lip_value, "landmarks": points.astype(np.float32)}
        return ParityClip(name, "worst case", arrays | sound_arrays(pcm.astype(np.float32), spec))

    grey_face = np.full((spec.num_frames, face, face, 3), 128, np.uint8)
    grey_lip = np.full((spec.num_frames, lip, lip, 3), 128, np.uint8)
    return [
        case("silence", grey_face, grey_lip, np.zeros(length), still),
        case("clipping", grey_face, grey_lip, np.sign(tone), still),
        # All landmarks in one place: a face without extent.
        case("black", np.zeros_like(grey_face), np.zeros_like(grey_lip), tone * 0.1, np.zeros_like(still)),
        case("noise", noise(*grey_face.shape), noise(*grey_lip.shape), 0.1 * rng.standard_normal(length), shaking),
    ]


def without_sound(clip: ParityClip) -> ParityClip:
    """A clip as it is scored where its video has no sound: PCM of zeros."""
    return ParityClip(clip.name, "muted", {**clip.arrays, "pcm": np.zeros_like(clip.arrays["pcm"])})


def sound_arrays(pcm: np.ndarray, spec: ClipSpec) -> dict[str, np.ndarray]:
    """What `score` takes for sound: PCM itself, or MFCC pooled onto the pictures for `uniform50`."""
    if spec.preset == "clip2s":
        return {"pcm": pcm}
    from dfkit.media.mfcc import mfcc
    from dfkit.runtime.whole_video import pool_steps

    return {"mfcc": pool_steps(mfcc(pcm, spec.audio), spec.num_frames)}


def negative_controls(
    network: MMMSBA, spec: ClipSpec, clips: Sequence[ParityClip], expected: Logits | None = None
) -> dict[str, float]:
    """What each deliberate mistake changes in the torch logits, at most over frames and clips.

    Args:
        network: In eval mode.
        spec: Its clips.
        clips: Those that INT8's largest change is taken over, so that both are the largest of as many.
        expected: What `torch_logits` says of them, where that is known.
    """
    expected = expected or torch_logits(network, spec, clips)

    def changed(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> float:
        mistaken = [ParityClip(c.name, c.kind, {**c.arrays, **change(c.arrays)}) for c in clips]
        got = torch_logits(network, spec, mistaken)
        return largest_change(got, expected)

    step = spec.audio.hop_length
    pictures, modalities = network.spec.pictures, network.spec.modalities
    controls = {}
    if pictures:
        controls["channels swapped"] = changed(lambda a: {m: np.ascontiguousarray(a[m][..., ::-1]) for m in pictures})
    if "lip" in pictures:
        controls["lips zeroed"] = changed(lambda a: {"lip": np.zeros_like(a["lip"])})
    if "audio" in modalities:
        controls["sound shifted by one step"] = changed(
            lambda a: {"pcm": np.roll(a["pcm"], step)} if "pcm" in a else {"mfcc": np.roll(a["mfcc"], 1, axis=0)}
        )
    if "motion" in modalities:
        controls[LANDMARKS] = changed(lambda a: {"landmarks": shifted_points(a["landmarks"])})
    if network.spec.attention == "bi_modal" and network.spec.pairs:
        swapped = torch_logits(swapped_attention(network), spec, clips)
        controls["attention arguments swapped"] = largest_change(swapped, expected)
    return controls


def shifted_points(landmarks: np.ndarray) -> np.ndarray:
    """Every landmark in the place of the one before it: a mistake to any network, where clip statistics would not know
    x from y.

    Args:
        landmarks: (..., 468, 2).
    """
    return np.roll(landmarks, 1, axis=-2)


def largest_change(got: Logits, expected: Logits) -> float:
    """Largest absolute difference over frame and clip logits."""
    return float(max(np.abs(got.frame - expected.frame).max(), np.abs(got.clip - expected.clip).max()))


def run_parity(
    network: MMMSBA,
    spec: ClipSpec,
    clips: Sequence[ParityClip],
    backends: dict[str, Graphs],
    *,
    decision: Decision | None = None,
    muted: Decision | None = None,
    require_int8: bool = True,
) -> ParityReport:
    """All stages over all clips, real ones, worst cases and muted ones apart.

    Args:
        network: The torch network, in eval mode.
        spec: Its clips.
        clips: At least one.
        backends: Loaded graphs by stage: `tflite fp32`, `tflite int8`, `onnx fp32`, `onnx int8`; the quantized
            ones are compared with the float ones of the same kind, those with torch.
        decision: What the bundle will decide by; the default one where left out.
        muted: What it will decide by where a video has no sound: the real clips are compared once more without it.
        require_int8: Whether quantized stages are judged by the gates; otherwise only reported.
    Raises:
        ParityError: No clips at all, or shapes differ.
    """
    if not clips:
        raise ParityError("parity needs clips and got none", fix="prepare data, or give a data set with --data")
    silenced = [] if muted is None else [without_sound(clip) for clip in clips if clip.kind == "real"]
    stages = []
    answers: dict[str, Logits] = {}
    for kind in ("real", "worst case", "muted"):
        chosen = [clip for clip in (*clips, *silenced) if clip.kind == kind]
        if not chosen:
            continue
        rule = (muted if kind == "muted" else decision) or Decision()
        answers[kind] = expected = torch_logits(network, spec, chosen)
        stages.append(
            compare(
                "fused", "torch", kind, fused_logits(network, spec, chosen), expected, decision=rule, quantized=False
            )
        )
        for runtime in ("tflite", "onnx", "executorch", "coreai"):
            chosen = chosen[: FEW_CLIPS.get(runtime, len(chosen))]
            before, reference = Logits(expected.frame[: len(chosen)], expected.clip[: len(chosen)]), "torch"
            for precision in ("fp32", "int8"):
                name = f"{runtime} {precision}"
                if name not in backends:
                    continue
                got = graph_logits(backends[name], chosen)
                quantized = precision == "int8"
                result = compare(name, reference, kind, got, before, decision=rule, quantized=quantized)
                if quantized and not require_int8:
                    result = StageResult(**{**vars(result), "passed": bool(np.isfinite(result.max_difference))})
                stages.append(result)
                before, reference = got, name
    real = [clip for clip in clips if clip.kind == "real"] or list(clips)
    return ParityReport(tuple(stages), negative_controls(network, spec, real, answers.get("real")))
