"""What serving has to agree on beside `ClipSpec`: the constants of decoding, faces, boxes, sound and decision.

An app is written from these numbers and MODEL_CARD.md, which says what is done with them. `dfkit.runtime.serving` fills
them in from the constants of the code; a detector refuses a bundle whose numbers are not its own.
A key that comes later needs a default, which stands for what was done before: bundles are out that lack it.
"""

from __future__ import annotations

from pydantic import BaseModel

Pair = tuple[float, float]


class PictureServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """From a file to pictures on the clip's grid."""

    demuxers: tuple[str, ...]
    """FFmpeg's demuxers that may open a file; any other one's is `unreadable`."""
    end_tolerance: float
    """Share of a grid step that the last picture may lack for one more grid point."""
    tie_tolerance_s: float
    """A grid point up to this far behind the middle between two pictures takes the earlier one, s."""
    default_step_s: float
    """Duration of a picture where neither it nor its stream says one, s."""
    max_hole_s: float
    """Pictures behind a longer hole are not read, s; no picture is shown longer."""
    max_side_px: int
    """Longer pictures are `unreadable`."""
    max_area_px: int
    """Larger pictures are `unreadable`, pixels."""
    max_tracked_px: int
    """Larger pictures are divided by a whole number until they fit, pixels."""
    matrices: dict[int, str]
    """YUV matrix by the stream's number (ITU-T H.273)."""
    rgb_coefficients: dict[str, tuple[int, int, int, int]]
    """By matrix: V to R, U to B, U to G, V to G in 1 / 65536 of a grey level, limited range."""
    untagged_hd_from: int
    """Coded lines from which on an untagged picture is BT.709, else BT.601."""


class DetectorServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The face detector."""

    input_px: int
    """Side of its input."""
    input_range: Pair
    """Values of grey levels 0 and 255."""
    anchor_grids: tuple[tuple[int, int], ...]
    """Cells a side and anchors a cell, in the order of the outputs."""
    score_clip: float
    """Raw scores are clipped to +- this before the sigmoid."""
    min_score: float
    """Least score of a detection."""
    merge_iou: float
    """Detections that overlap the best by more are merged into it."""
    eyes: tuple[int, int]
    """Key points of the person's right and left eye."""
    roi_scale: float
    """Side of the landmark region as a multiple of the longer side of the box."""


class LandmarkServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The landmark network."""

    input_px: int
    """Side of its input."""
    input_range: Pair
    """Values of grey levels 0 and 255."""
    num_points: int
    """Landmarks."""
    values_per_point: int
    """Values per landmark in the output, x and y first."""
    min_presence: float
    """Least probability that the region holds a face."""
    eyes: tuple[int, int]
    """Landmarks whose line is made level, left on the picture first."""
    roi_scale: float
    """Side of the next picture's region as a multiple of the longer side of the landmarks' box."""


class TrackServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """From picture to picture."""

    detect_every: int
    """Grid pictures from one run of the detector to the next while all faces are followed."""
    same_region_iou: float
    """Regions that overlap by more hold one face."""
    same_face_iou: float
    """A found face takes up a missing track whose last box it overlaps by more."""
    smooth_half: int
    """Pictures to either side that steady a box."""


class CutServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Where a scene ends."""

    grid: int
    """Luma samples a side."""
    luma_weights: tuple[int, int, int]
    """Of R, G and B, in 1 / 256."""
    bins: int
    """Bins of the histogram."""
    min_difference: float
    """Mean absolute difference from which on a cut is possible, grey levels."""
    min_histogram_distance: float
    """Share of samples in another bin that makes it one."""
    sure_difference: float
    """Mean absolute difference that is a cut by itself, grey levels."""


class BoxServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """From landmarks to crops; scales and sizes stand in `clip_spec.picture`."""

    outer_lip: tuple[int, ...]
    """Landmarks whose mean is the centre of the lip box."""
    min_longer_px: float
    """Shortest longer side of the landmarks' box."""
    max_longer_px: float
    """Longest longer side of the landmarks' box."""
    average_from: int
    """Source pixels per crop pixel from which on blocks are averaged first."""


class SoundServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """From a file to PCM."""

    max_rate_hz: int
    """Highest sample rate that is read."""
    max_drift_s: float
    """Sound that lies further from where it should is moved, s."""
    max_ahead_s: float
    """Sound behind a longer jump is not read, s."""
    nan_as: float
    """What a sample that is no number is read as."""
    infinite_as: float
    """What an infinite sample is read as, with its sign."""
    stop_band_db: float
    """Attenuation of the resampling filter."""
    transition: float
    """Its transition band as a share of the lower Nyquist frequency."""
    kaiser_beta: Pair
    """a, b of beta = a (attenuation - b)."""
    kaiser_length: Pair
    """a, b of taps = (attenuation - a) / (b pi x transition)."""


class WholeVideoServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Crops under the preset `uniform50`, which tracks no face."""

    haar_scale: float
    """Step between sizes of OpenCV's frontal face cascade."""
    haar_neighbours: int
    """Its least number of neighbours."""
    haar_min_px: int
    """Its smallest face."""
    lip_rows: Pair
    """Rows of the lip box, shares of the face's height."""
    lip_columns: Pair
    """Columns of the lip box, shares of the face's width."""


class DecisionServing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """From logits to an answer; threshold, temperature and aggregation have sections of their own."""

    statuses: tuple[str, ...]
    """Reasons for no verdict, the first that holds is given."""
    small_sum: float
    """`noisy_or`: sums of softplus below it go the other way."""


class Serving(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Constants of serving; what is done with them stands in MODEL_CARD.md. Parts that the preset lacks are null."""

    pictures: PictureServing
    sound: SoundServing
    decision: DecisionServing
    detector: DetectorServing | None = None
    landmarks: LandmarkServing | None = None
    tracker: TrackServing | None = None
    cuts: CutServing | None = None
    boxes: BoxServing | None = None
    whole_video: WholeVideoServing | None = None
    """Of `uniform50`; the five above are of `clip2s`."""
