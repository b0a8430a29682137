"""Fills the manifest's section `serving` in from the constants of the code: no number is typed here."""

from __future__ import annotations

import numpy as np

from dfkit import clip
from dfkit.clip import ClipSpec, FaceVariant
from dfkit.errors import BundleError
from dfkit.measures import decision, evidence
from dfkit.media import (
    audio,
    channels,
    color,
    container,
    crop,
    cut,
    detect,
    faces,
    geometry,
    landmark,
    picture,
    resample,
    smooth,
    stream,
    survey,
    track,
    uniform50,
    video,
)
from dfkit.media.faces import FaceDetector
from dfkit.runtime import results
from dfkit.runtime.contract import (
    BoxServing,
    CutServing,
    DecisionServing,
    DetectorServing,
    EvidenceServing,
    LandmarkServing,
    PictureServing,
    Serving,
    SoundServing,
    TrackServing,
    Triple,
    WholeVideoServing,
)
from dfkit.runtime.evidence import SAMPLE_STEP
from dfkit.runtime.manifest import Manifest


def serving_of(spec: ClipSpec, variant: FaceVariant, *, second_stage: bool = True) -> Serving:
    """What this dfkit serves with.

    Args:
        spec: Whose preset says which parts there are.
        variant: Face models of the bundle.
        second_stage: Whether the full-range detector is among them.
    """
    common = {"pictures": _pictures(), "sound": _sound(), "decision": _decision()}
    if spec.preset == "uniform50":
        return Serving.model_validate(common | {"whole_video": _whole_video()})
    tracker = _tracker()
    if not second_stage:
        tracker = tracker.model_copy(update={"full_range_every": None})
    tracked = {
        "detector": _detector(faces.SHORT_RANGE),
        "full_range_detector": _detector(faces.FULL_RANGE) if second_stage else None,
        "landmarks": _landmarks(variant),
        "tracker": tracker,
        "cuts": _cuts(),
        "boxes": _boxes(),
        "evidence": _evidence(),
    }
    return Serving.model_validate(common | tracked)


def check_serving(manifest: Manifest, variant: FaceVariant, *, where: str) -> None:
    """Refuses a bundle that was made for other constants: its crops or its sound would not be those of training.

    Args:
        manifest: Of the bundle; one of version 1 or 2 has no such section and passes.
        variant: Face models that it names.
        where: Names the bundle.
    Raises:
        BundleError: Names every key that differs.
    """
    if manifest.serving is None:
        return
    second_stage = faces.has_second_stage(manifest.face_models)
    served = serving_of(manifest.clip_spec, variant, second_stage=second_stage)
    found, own = (leaves(serving) for serving in (manifest.serving, served))
    differing = [
        f"serving.{key} is {found.get(key)}, this dfkit serves with {own.get(key)}"
        for key in sorted(found.keys() | own.keys())
        if found.get(key) != own.get(key)
    ]
    if differing:
        raise BundleError(
            "\n  ".join([f"{where} was made for another way of serving:", *differing]),
            fix=f"install dfkit {manifest.dfkit_version}, or export again with this version",
        )


def leaves(serving: Serving) -> dict[str, object]:
    """Every value by its path, such as `tracker.detect_every`; parts that the preset lacks are left out."""
    return {
        f"{part}.{key}": value
        for part, section in serving
        if section is not None
        for key, value in section
    }  # fmt: skip


def _pictures() -> PictureServing:
    return PictureServing(
        demuxers=container.FORMATS,
        end_tolerance=video.END_TOLERANCE,
        tie_tolerance_s=video.TIE_TOLERANCE_S,
        default_step_s=survey.DEFAULT_STEP_S,
        max_hole_s=survey.MAX_HOLE_S,
        max_side_px=container.MAX_SIDE_PX,
        max_area_px=container.MAX_AREA_PX,
        max_tracked_px=stream.MAX_TRACKED_PX,
        matrices=color.MATRICES,
        untagged_hd_from=color.HD_LINES,
        untagged_hd=color.BT709,
        untagged_sd=color.BT601,
        stating_demuxers=survey.STATING_FORMATS,
        min_pictures=survey.MIN_PICTURES,
        clock_back_s=survey.CLOCK_BACK_S,
        max_aspect=geometry.MAX_ASPECT,
        square_tolerance=geometry.SQUARE_TOLERANCE,
        average_from=picture.AVERAGE_FROM,
        transfers=dict(color.TRANSFERS),
        hlg_white=color.HLG_WHITE,
        pq_white=color.PQ_WHITE,
        gammas={str(name): gamma for name, gamma in color.GAMMAS.items()},
        knee=color.KNEE,
        bt2020_to_hd=_rows(color.TO_BT709),
        bt2020_to_sd=_rows(color.TO_SMPTE170M),
    )


def _rows(matrix: np.ndarray) -> tuple[Triple, Triple, Triple]:
    first, second, third = ((float(a), float(b), float(c)) for a, b, c in matrix)
    return first, second, third


def _sound() -> SoundServing:
    return SoundServing(
        max_rate_hz=resample.MAX_RATE,
        max_drift_s=audio.MAX_DRIFT_S,
        max_ahead_s=audio.MAX_AHEAD_S,
        channel_weights=channels.CHANNEL_WEIGHTS,
        digital_silence=audio.DIGITAL_SILENCE,
        cancelled_share=audio.CANCELLED_SHARE,
        nan_as=channels.NAN_AS,
        infinite_as=channels.INFINITE_AS,
        stop_band_db=resample.STOP_BAND_DB,
        transition=resample.TRANSITION,
        kaiser_beta=resample.KAISER_BETA,
        kaiser_length=resample.KAISER_LENGTH,
    )


def _decision() -> DecisionServing:
    return DecisionServing(statuses=results.STATUS_ORDER, small_sum=decision.SMALL_SUM)


def _detector(detector: FaceDetector) -> DetectorServing:
    return DetectorServing(
        input_px=detector.input_px,
        input_range=detector.input_range,
        anchor_grids=detector.anchor_grids,
        score_clip=detect.SCORE_CLIP,
        min_score=detector.min_score,
        merge_iou=detect.MERGE_IOU,
        eyes=(detect.RIGHT_EYE, detect.LEFT_EYE),
        roi_scale=detect.ROI_SCALE,
    )


def _landmarks(variant: FaceVariant) -> LandmarkServing:
    return LandmarkServing(
        input_px=faces.LANDMARK_PX,
        input_range=faces.LANDMARK_RANGE,
        num_points=clip.NUM_LANDMARKS,
        values_per_point=faces.VALUES_PER_LANDMARK[variant],
        min_presence=landmark.MIN_PRESENCE,
        eyes=landmark.EYE_CORNERS,
        roi_scale=landmark.ROI_SCALE,
    )


def _tracker() -> TrackServing:
    return TrackServing(
        detect_every=track.DETECT_EVERY,
        same_region_iou=track.SAME_REGION_IOU,
        same_face_iou=track.SAME_FACE_IOU,
        smooth_half=smooth.SMOOTH_HALF,
        full_range_every=track.FULL_RANGE_EVERY,
    )


def _cuts() -> CutServing:
    return CutServing(
        grid=cut.GRID,
        luma_weights=cut.LUMA_WEIGHTS,
        bins=cut.BINS,
        min_difference=cut.MIN_DIFFERENCE,
        min_histogram_distance=cut.MIN_HISTOGRAM_DISTANCE,
        sure_difference=cut.SURE_DIFFERENCE,
    )


def _boxes() -> BoxServing:
    return BoxServing(
        outer_lip=landmark.OUTER_LIP,
        min_longer_px=crop.MIN_BOX_PX,
        max_longer_px=crop.MAX_BOX_PX,
    )


def _evidence() -> EvidenceServing:
    return EvidenceServing(
        min_read_share=evidence.MIN_READ_SHARE,
        missing_s=survey.MIN_MISSING_S,
        min_pictures_per_s=evidence.MIN_PICTURES_PER_S,
        min_face_px=evidence.MIN_FACE_PX,
        min_face_luma=evidence.MIN_FACE_LUMA,
        min_change=evidence.MIN_CHANGE,
        sample_step=SAMPLE_STEP,
    )


def _whole_video() -> WholeVideoServing:
    return WholeVideoServing(
        haar_scale=uniform50.HAAR_SCALE,
        haar_neighbours=uniform50.HAAR_NEIGHBOURS,
        haar_min_px=uniform50.HAAR_MIN_PX,
        lip_rows=uniform50.LIP_ROWS,
        lip_columns=uniform50.LIP_COLUMNS,
    )
