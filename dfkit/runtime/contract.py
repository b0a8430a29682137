"""What serving has to agree on beside `ClipSpec`: the constants of decoding, faces, boxes, sound and decision.

An app is written from these numbers and MODEL_CARD.md, which says what is done with them. `dfkit.runtime.serving` fills
them in from the constants of the code; a detector refuses a bundle whose numbers are not its own.
A key that comes later needs a default, which stands for what was done before: bundles are out that lack it.
"""

from __future__ import annotations

from pydantic import BaseModel

Pair = tuple[float, float]
Triple = tuple[float, float, float]


class PictureServing(BaseModel, frozen=True, extra="forbid"):
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
    matrices: dict[int, Pair]
    """Shares of red and of blue in luma by the stream's matrix number (ITU-T H.273)."""
    untagged_hd_from: int
    """Coded lines from which on an untagged picture has the shares `untagged_hd`, else `untagged_sd`."""
    untagged_hd: Pair
    """Shares of red and of blue in luma: BT.709."""
    untagged_sd: Pair
    """Shares of red and of blue in luma: BT.601."""
    stating_demuxers: tuple[str, ...]
    """Demuxers whose header states a length that was not estimated."""
    min_pictures: int
    """A stream of fewer pictures is taken only where there is no other."""
    clock_back_s: float
    """A clock that goes back by more starts again: another recording begins, s."""
    max_aspect: float
    """Pixels that are longer, either way, count as square."""
    square_tolerance: float
    """So do pixels whose width by height differs from 1 by less."""
    average_from: int
    """Pixels of a plane per pixel of a crop from which on blocks are averaged first."""
    transfers: dict[int, str]
    """Transfers of high dynamic range by the stream's number (H.273); pictures of all others are shown as they are."""
    hlg_white: float
    """Scene light of HLG that becomes SDR's white, of full scale."""
    pq_white: float
    """Display light of PQ that becomes SDR's white, of full scale."""
    gammas: dict[str, float]
    """By transfer: mapped light is SDR's signal to this power."""
    knee: float
    """Linear light from which on what is brighter is compressed, as a share of SDR's white."""
    bt2020_to_hd: tuple[Triple, Triple, Triple]
    """Linear BT.2020 to linear BT.709, from `untagged_hd_from` lines on."""
    bt2020_to_sd: tuple[Triple, Triple, Triple]
    """Linear BT.2020 to linear SMPTE 170M, below."""


class DetectorServing(BaseModel, frozen=True, extra="forbid"):
    """A face detector."""

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


class LandmarkServing(BaseModel, frozen=True, extra="forbid"):
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


class TrackServing(BaseModel, frozen=True, extra="forbid"):
    """From picture to picture."""

    detect_every: int
    """Grid pictures from one run of the detector to the next while all faces are followed."""
    same_region_iou: float
    """Regions that overlap by more hold one face."""
    same_face_iou: float
    """A found face takes up a missing track whose last box it overlaps by more."""
    smooth_half: int
    """Pictures to either side that steady a box."""
    full_range_every: int | None = None
    """Grid pictures at least from one run of the full-range detector to the next; none without a second stage."""


class CutServing(BaseModel, frozen=True, extra="forbid"):
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


class BoxServing(BaseModel, frozen=True, extra="forbid"):
    """From landmarks to crops; scales and sizes stand in `clip_spec.picture`."""

    outer_lip: tuple[int, ...]
    """Landmarks whose mean is the centre of the lip box."""
    min_longer_px: float
    """Shortest longer side of the landmarks' box."""
    max_longer_px: float
    """Longest longer side of the landmarks' box."""


class SoundServing(BaseModel, frozen=True, extra="forbid"):
    """From a file to PCM."""

    max_rate_hz: int
    """Highest sample rate that is read."""
    max_drift_s: float
    """Sound that lies further from where it should is moved, s."""
    max_ahead_s: float
    """Sound behind a longer jump is not read, s."""
    channel_weights: dict[str, float]
    """Weight in the mix by FFmpeg's name of a channel."""
    digital_silence: float
    """Sound that never exceeds this, of full scale, is none."""
    cancelled_share: float
    """Nor is sound whose mix has at most this share of the power of channels with nothing in common."""
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


class EvidenceServing(BaseModel, frozen=True, extra="forbid"):
    """What a verdict needs; with less it is `review`."""

    min_read_share: float
    """Least share of pictures, and of sound, that was read."""
    missing_s: float
    """A file that ends less before what its header states is whole, s."""
    min_pictures_per_s: float
    """Least number of different pictures a second."""
    min_face_px: float
    """Least longer side of the landmarks' box, median of the track."""
    min_face_luma: float
    """Least mean luma of the face crop, median of the track, 0 to 255."""
    min_change: float
    """Least mean absolute change of the face crop from a picture to the next, median of the track, grey levels."""
    sample_step: int
    """Every so many rows and columns of a crop are looked at."""


class WholeVideoServing(BaseModel, frozen=True, extra="forbid"):
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


class DecisionServing(BaseModel, frozen=True, extra="forbid"):
    """From logits to an answer; threshold, temperature and aggregation have sections of their own."""

    statuses: tuple[str, ...]
    """Reasons for no verdict, the first that holds is given."""
    small_sum: float
    """`noisy_or`: sums of softplus below it go the other way."""


class Serving(BaseModel, frozen=True, extra="forbid"):
    """Constants of serving; what is done with them stands in MODEL_CARD.md. Parts that the preset lacks are null."""

    pictures: PictureServing
    sound: SoundServing
    decision: DecisionServing
    detector: DetectorServing | None = None
    landmarks: LandmarkServing | None = None
    tracker: TrackServing | None = None
    cuts: CutServing | None = None
    evidence: EvidenceServing | None = None
    boxes: BoxServing | None = None
    whole_video: WholeVideoServing | None = None
    """Of `uniform50`; the six above are of `clip2s`."""
    full_range_detector: DetectorServing | None = None
    """Of `clip2s`, the second stage; none in a bundle of before it, which is served without."""
