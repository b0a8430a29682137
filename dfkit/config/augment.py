"""Section `augment`: augmentation of training clips, drawn anew for each (seed, epoch, clip)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, model_validator

from dfkit.config.section import Section


def _check_range(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"a range goes from low to high, got {list(value)}")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_check_range)]
PositiveRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_check_range)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareRange = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]], AfterValidator(_check_range)
]
Crf = Annotated[int, Field(ge=0, le=51)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Step(Section):
    """Settings that every augmentation has."""

    prob: Share = 0.0
    """Probability per clip; 0 switches it off."""
    only: Literal["all", "real", "fake"] = "all"
    """Clips of which label; anything but `all` puts its traces beside the label, where a network may find them."""


class FlipStep(Step):
    """Left and right exchanged, landmarks too."""


class RotateStep(Step):
    """A small turn and change of size, the same for all pictures of a clip."""

    max_degrees: float = Field(default=5.0, ge=0, le=30)
    """Largest turn to either side."""
    scale: PositiveRange = (1.0, 1.0)
    """Range of the magnification."""


class ColorJitterStep(Step):
    """Brightness, contrast, saturation and hue, the same for all pictures of a clip."""

    brightness: Share = 0.1
    """Largest relative change."""
    contrast: Share = 0.1
    """Largest relative change, around the clip's mean."""
    saturation: Share = 0.1
    """Largest relative change."""
    hue: float = Field(default=0.05, ge=0, le=0.5)
    """Largest turn of the hue as a share of the colour circle."""


class BlurStep(Step):
    """Gaussian blur."""

    sigma_px: PositiveRange = (0.5, 2.0)
    """Standard deviation in pixels of the crop."""


class ResizeStep(Step):
    """Shrunk and brought back to size, as by a small picture on the way."""

    scale: ShareRange = (0.3, 0.8)
    """Size in between as a share of the crop."""


class FaceSizeStep(Step):
    """Shrunk until the face has a width in pixels, and brought back to size: the size of its source is gone."""

    face_px: PositiveRange = (40.0, 112.0)
    """Width of the face in between; a crop whose face is narrower stays as it is."""


class NoiseStep(Step):
    """Gaussian noise, new for every pixel and picture."""

    std: PositiveRange = (0.01, 0.03)
    """Standard deviation as a share of full scale (255)."""


class H264Step(Step):
    """Encoded as H.264 and decoded."""

    crf: Annotated[tuple[Crf, Crf], AfterValidator(_check_range)] = (23, 28)
    """Range of the constant rate factor, whole numbers, both ends included."""


class JpegStep(Step):
    """Each picture encoded as JPEG (4:2:0) and decoded, all of a clip at one quality."""

    quality: Annotated[tuple[Quality, Quality], AfterValidator(_check_range)] = (35, 95)
    """Range of the quality, whole numbers, both ends included."""


class EraseStep(Step):
    """A rectangle of one colour over all pictures of a clip, in the place of the face that it covers."""

    area: ShareRange = (0.02, 0.15)
    """Share of the face crop."""
    aspect: PositiveRange = (0.5, 2.0)
    """Width by height."""


class SoundNoiseStep(Step):
    """White noise at a set distance below the sound."""

    snr_db: Range = (15.0, 25.0)
    """Power of the clip's sound over that of the noise."""


class SoundCodecStep(Step):
    """Encoded with loss and decoded; stays in its place."""

    codecs: tuple[Literal["aac", "opus", "mp3"], ...] = Field(default=("aac", "opus", "mp3"), min_length=1)
    """One of these is drawn."""
    bitrate_kbps: PositiveRange = (16.0, 48.0)
    """Range of the bit rate, mono."""


class SoundRateStep(Step):
    """Brought to a lower sample rate and back."""

    rates: tuple[Annotated[int, Field(ge=4000, le=48_000)], ...] = Field(default=(8000, 11_025, 12_000), min_length=1)
    """One of these is drawn, Hz; one that the sound has already leaves it as it is."""


class LoudnessStep(Step):
    """Brought to a level; the noise of the recording with it."""

    level_db: Range = (-36.0, -16.0)
    """RMS of the clip, dBFS; less where its peak would leave full scale. Silence stays silent."""


class SoundBandStep(Step):
    """Band limits without delay."""

    kinds: tuple[Literal["telephone", "low_pass"], ...] = Field(default=("telephone", "low_pass"), min_length=1)
    """One of these is drawn; `telephone` is 300 to 3,400 Hz."""
    cutoff_hz: PositiveRange = (2500.0, 6000.0)
    """Of `low_pass`."""


class TimeMaskStep(Step):
    """A stretch of the clip without pictures, sound or both: black, silent, the landmarks standing still."""

    share: ShareRange = (0.05, 0.3)
    """Length as a share of the clip."""
    of: tuple[Literal["both", "pictures", "sound"], ...] = Field(default=("both", "pictures", "sound"), min_length=1)
    """One of these is drawn."""


class MismatchConfig(Section):
    """Training clips that get sound which is not that of their pictures, and are fake from then on; needs `clip2s`."""

    swap: Share = 0.0
    """Share of the clips that get the sound of a clip of another group, as loud as their own."""
    shift: Share = 0.0
    """Share that gets the sound of another moment of their own video, where enough of it is prepared."""
    shift_s: PositiveRange = (0.2, 1.0)
    """How much earlier or later that is, seconds."""
    of: Literal["all", "real"] = "all"
    """Training clips: `real` leaves the fakes out, so that a network learns of wrong sound alone; what it is worth on
    fakes is measured as always."""

    @property
    def share(self) -> float:
        """Share of the clips that get other sound; less where a shift finds none."""
        return self.swap + self.shift

    @model_validator(mode="after")
    def _leaves_some(self) -> MismatchConfig:
        if self.share >= 1:
            raise ValueError(f"swap {self.swap:g} and shift {self.shift:g}: no clip would keep its own sound")
        if self.of == "real" and not self.share:
            raise ValueError("of real: without swap or shift nothing would be fake")
        return self


PIXEL_STEPS = ("color_jitter", "blur", "resize", "face_size", "noise", "jpeg", "h264", "erase")
"""Steps of `AugmentConfig` that leave sound and landmarks as they are."""


class AugmentConfig(Section):
    """Augmentation of training clips, in the order in which it is done; everything is off unless `prob` is set."""

    flip: FlipStep = FlipStep()
    rotate: RotateStep = RotateStep()
    color_jitter: ColorJitterStep = ColorJitterStep()
    blur: BlurStep = BlurStep()
    resize: ResizeStep = ResizeStep()
    face_size: FaceSizeStep = FaceSizeStep()
    noise: NoiseStep = NoiseStep()
    jpeg: JpegStep = JpegStep()
    h264: H264Step = H264Step()
    erase: EraseStep = EraseStep()
    sound_rate: SoundRateStep = SoundRateStep()
    sound_band: SoundBandStep = SoundBandStep()
    sound_noise: SoundNoiseStep = SoundNoiseStep()
    sound_codec: SoundCodecStep = SoundCodecStep()
    loudness: LoudnessStep = LoudnessStep()
    time_mask: TimeMaskStep = TimeMaskStep()

    def without_pixels(self) -> AugmentConfig:
        """The same without steps that change nothing but pixels, for a network that sees none."""
        return self.model_copy(update={name: type(getattr(self, name))() for name in PIXEL_STEPS})

    def active(self) -> dict[str, Step]:
        """Steps with a probability above zero by name, in order; empty where nothing is augmented."""
        steps = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: step for name, step in steps.items() if step.prob > 0}
