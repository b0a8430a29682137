"""The clip contract: how a video becomes the arrays that a model sees.

One `ClipSpec` is stored in every checkpoint and bundle. Training, export, the Python runtime and the
phone read the same numbers from it, so that a clip gives the same features everywhere.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, NonNegativeInt, model_validator

SCHEMA_VERSION = 1
FaceVariant = Literal["float16", "int8"]
"""The two forms in which the face models are shipped; `dfkit.media.faces` runs them."""
FoundBy = Literal["short_range", "full_range"]
"""The face detector that found a face first: the one for faces within about 2 m, or the one for distant faces."""
DEFAULT_FACES: FaceVariant = "int8"
"""What new data is prepared with, and so what its students are served with: half the bytes on a phone."""
Modality = Literal["audio", "face", "lip", "motion"]
MODALITIES: tuple[Modality, ...] = ("audio", "face", "lip")
NUM_LANDMARKS = 468
"""Points of the face mesh that the tracker follows (MediaPipe's, without the irises)."""

LIP_MULTIPLE = 16
"""A CNN divides the side of a picture by 32 in all, by 16 until its last layer."""

# A spec comes out of files that somebody sent: bounds far beyond any use keep a damaged one from filling the memory.
Samples = Annotated[int, Field(gt=0, le=1_000_000)]
Side = Annotated[int, Field(gt=0, le=4096)]
Count = Annotated[int, Field(gt=0, le=10_000)]
Ratio = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class AudioSpec(BaseModel, frozen=True, extra="forbid"):
    """Sound front end: mono PCM to MFCC, (T, n_mfcc)."""

    sample_rate: Samples = 16000
    """Hz."""
    n_fft: Samples = 2048
    """FFT and Hann window size in samples (periodic window)."""
    hop_length: Samples = 640
    """Samples between STFT frames; 640 at 16 kHz is one picture at 25 fps."""
    centered: bool = False
    """Whether the STFT pads n_fft / 2 zeros on both sides (librosa's default); never within `clip2s`."""
    n_mels: Count = 128
    """Slaney mel bands from 0 Hz to half the sample rate, area-normalised."""
    n_mfcc: Count = 40
    """Coefficients kept of the orthonormal DCT-II."""
    amin: Ratio = 1e-10
    """Floor of the mel power before the logarithm."""
    top_db: Ratio = 80.0
    """Dynamic range kept below the loudest band of the clip, dB."""


class PictureSpec(BaseModel, frozen=True, extra="forbid"):
    """Crops around a tracked face, RGB uint8, NHWC."""

    face_px: Side = 112
    """Side of the face crop; the original's is 224."""
    lip_px: Side = 48
    """Side of the lip crop; the original's is 96."""
    face_scale: Ratio = 1.3
    """Side of the face box as a multiple of the longer side of the box around the 468 landmarks."""
    lip_scale: Ratio = 0.5
    """Side of the lip box as a multiple of that same longer side, centred on the mouth landmarks."""

    def resized(self, face_px: int | None, lip_px: int | None) -> PictureSpec:
        """Crops of the same boxes with other sides.

        Args:
            face_px: Side of faces; None leaves it.
            lip_px: Side of lips; None leaves their proportion to the faces, to a multiple of 16.
        """
        face = face_px or self.face_px
        proportional = max(LIP_MULTIPLE, round(self.lip_px * face / self.face_px / LIP_MULTIPLE) * LIP_MULTIPLE)
        lip = lip_px or (self.lip_px if face == self.face_px else proportional)
        return self.model_copy(update={"face_px": face, "lip_px": lip})


class TrackSpec(BaseModel, frozen=True, extra="forbid"):
    """Face tracker: causal with a fixed look-ahead."""

    look_ahead_s: Seconds = 0.5
    """Delay after which a frame's boxes are final, seconds."""
    max_gap_s: Seconds = 0.5
    """Longest stretch without a face that is interpolated, seconds."""
    max_faces: Count = 4
    """Tracks followed at once."""


class ClipSpec(BaseModel, frozen=True, extra="forbid"):
    """Everything that has to agree between training and serving."""

    schema_version: NonNegativeInt = SCHEMA_VERSION
    preset: Literal["clip2s", "uniform50"] = "clip2s"
    """`clip2s`: dense 2 s clips. `uniform50`: 50 frames spread over the whole video (leaks its length)."""
    fps: Ratio = 25.0
    """Pictures per second on the clip's grid; frames are chosen by time, nearest first."""
    num_frames: Count = 50
    """T, pictures in a clip."""
    hop_s: Seconds = 1.0
    """Seconds between the starts of two clips; the last clip ends with the video."""
    audio: AudioSpec = AudioSpec()
    picture: PictureSpec = PictureSpec()
    track: TrackSpec = TrackSpec()

    @model_validator(mode="after")
    def _rises(self) -> ClipSpec:
        if self.hop_frames < 1:
            raise ValueError(f"hop_s {self.hop_s:g} is less than a picture at {self.fps:g} fps")
        return self

    @property
    def clip_s(self) -> float:
        """Length of a clip in seconds."""
        return self.num_frames / self.fps

    @property
    def hop_frames(self) -> int:
        """Grid frames between the starts of two clips."""
        return round(self.hop_s * self.fps)

    @property
    def num_samples(self) -> int:
        """PCM samples of a clip: (T - 1) hops and one window, 33,408 by default."""
        return (self.num_frames - 1) * self.audio.hop_length + self.audio.n_fft

    @property
    def lead_samples(self) -> int:
        """Samples of a clip's PCM that lie before its first picture: half a window."""
        return self.audio.n_fft // 2

    @property
    def max_gap_frames(self) -> int:
        """Longest interpolated gap in grid frames."""
        return int(self.track.max_gap_s * self.fps)

    @property
    def look_ahead_frames(self) -> int:
        """Look-ahead in grid frames."""
        return int(self.track.look_ahead_s * self.fps)

    def different_fields(self, other: ClipSpec) -> str:
        """Names of the fields in which two contracts differ, for messages; empty where they are equal."""
        mine, theirs = self.model_dump(), other.model_dump()
        return ", ".join(sorted(name for name in mine if mine[name] != theirs[name]))

    def with_pictures_of(self, other: ClipSpec) -> ClipSpec:
        """This contract with the sides of the other one's pictures.

        Two contracts that are equal then make the same clips of a video, cut to other sizes.
        """
        return self.resized(other.picture.face_px, other.picture.lip_px)

    def resized(self, face_px: int | None, lip_px: int | None = None) -> ClipSpec:
        """This contract with pictures of other sides; see `PictureSpec.resized`."""
        return self.model_copy(update={"picture": self.picture.resized(face_px, lip_px)})

    def clip_starts(self, num_grid_frames: int) -> list[int]:
        """First grid frame of every clip of a video.

        Args:
            num_grid_frames: Frames of the video on the clip's grid.
        Returns:
            Starts in rising order, one per hop, and one whose clip ends with the video. Empty when
            the video is shorter than a clip.
        """
        last = num_grid_frames - self.num_frames
        if last < 0:
            return []
        starts = list(range(0, last + 1, self.hop_frames))
        return starts if starts[-1] == last else [*starts, last]


CLIP2S = ClipSpec()
UNIFORM50 = ClipSpec(
    preset="uniform50",
    audio=AudioSpec(hop_length=512, centered=True),
    fps=25.0,
    num_frames=50,
    picture=PictureSpec(face_px=224, lip_px=96),
)
PRESETS: dict[str, ClipSpec] = {"clip2s": CLIP2S, "uniform50": UNIFORM50}
