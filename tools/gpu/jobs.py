"""What is trained on a pack of crops: networks under left-out families, and students of a given teacher."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfkit.config import DistillConfig, TrainConfig
from dfkit.distill.prune import prune
from dfkit.measures.metrics import auc
from dfkit.models import MMMSBA, NetworkOutput, NetworkSpec
from dfkit.models.checkpoint import load_checkpoint
from dfkit.models.efficientnet_lite import load_lite0_blocks
from dfkit.models.pictures import to_unit_range
from dfkit.training.hints import HintLosses, hint_names
from dfkit.training.losses import balanced_class_weights, distill_loss
from dfkit.training.objective import TeacherLogits, label_loss, teacher_loss
from dfkit.training.schedules import LearningRateFactor, make_optimizer
from tools.gpu.crops import SIDES, TEST, TRAIN, Crops
from tools.gpu.degrade import REDUCED, Degradation, degrade, draw

HALF = DistillConfig().widths.model_dump()
"""The default student's."""
QUARTER = {"face_channels": (16, 32, 64), "lip_channels": (8, 16, 32), "gru_hidden": 128}
BATCH = 16
TRUNK_RATE = 0.1
"""Learning rate of a tuned trunk, as a share of the rest's."""
Variant = Literal["distilled", "own_cnn", "scratch", "prune_only"]
Batch = dict[str, Tensor]
Row = dict[str, Any]
"""A line of a run: the job, and what it measured or its `error`."""


@dataclass(frozen=True)
class Network:
    """A network trained by labels under left-out families, at 112 px."""

    name: str
    spec: NetworkSpec
    degraded: bool = False
    trunk_rate: float = 0.0
    """Of an `efficientnet_lite0` trunk, as a share of the learning rate; 0: frozen."""
    epochs: int = 8
    students: bool = False
    """Whether students are made of it: distilled, from scratch and pruned only, at equal steps."""
    widths: dict[str, Any] = field(default_factory=lambda: HALF)
    """Of the students."""


@dataclass(frozen=True)
class Student:
    """A student of the given teacher, on the fold that leaves nothing out."""

    name: str
    spec: NetworkSpec
    face_px: int
    epochs: int = 10
    feature_weight: float = 0.0
    attention_weight: float = 0.0

    @property
    def config(self) -> DistillConfig:
        """Section of the run."""
        weights = {"feature_weight": self.feature_weight, "attention_weight": self.attention_weight}
        return STUDENT_CONFIG.model_copy(update=weights)


LITE0 = {"face_trunk": "efficientnet_lite0"}
NETWORKS = (
    Network("lite0 tuned, degraded", NetworkSpec(**LITE0), degraded=True, trunk_rate=TRUNK_RATE),
    Network("mmms_ba", NetworkSpec()),
    Network("lite0 frozen, degraded", NetworkSpec(**LITE0), degraded=True),
    Network("lite0 tuned, face alone", NetworkSpec(modalities=("face",), **LITE0), True, TRUNK_RATE),
    Network("mmms_ba, degraded", NetworkSpec(), degraded=True),
    Network("mmms_ba at a student's widths", NetworkSpec(**HALF)),
    Network("lite0 frozen", NetworkSpec(**LITE0)),
)
PATCH4 = NetworkSpec(**HALF, stem="patch4")
STUDENT_CONFIG = DistillConfig(batch_size=8)
STUDENTS = (
    *(
        Student(f"{side} {stem}", NetworkSpec(**HALF, stem=stem), side)
        for side in SIDES
        for stem in ("conv3", "patch4")
    ),
    Student("224 conv3 quarter", NetworkSpec(**QUARTER), 224),
    Student("112 patch4 quarter", NetworkSpec(**QUARTER, stem="patch4"), 112),
    Student("112 conv3 quarter", NetworkSpec(**QUARTER), 112),
    Student("112 patch4 features", PATCH4, 112, feature_weight=1.0),
    Student("112 patch4 maps", PATCH4, 112, attention_weight=1.0),
    Student("112 patch4 features, maps", PATCH4, 112, feature_weight=1.0, attention_weight=1.0),
)


def make_batch(
    crops: Crops, clips: NDArray[np.int64], spec: NetworkSpec, face_px: int, how: Sequence[Degradation] | None = None
) -> Batch:
    """Clips as tensors.

    Args:
        crops: The pack.
        clips: Which clips, (B,).
        spec: Modalities.
        face_px: Side of the face pictures; lips follow.
        how: A degradation for each clip; None: as they are.
    """
    rows = torch.from_numpy(clips).to(crops.device)
    labels = torch.from_numpy(crops.labels[crops.clip_video[clips]]).to(crops.device)
    batch: Batch = {"label": labels, "index": rows, "frame_labels": labels[:, None].expand(-1, crops.mfcc.shape[1])}
    for name, side in (("face", face_px), ("lip", SIDES[face_px])):
        if name in spec.pictures:
            pictures = to_unit_range(crops.pictures(name, side)[rows])
            if how is not None:
                # The lip crop shows the face at about the scale of the face crop: a share of the side means the same.
                pictures = torch.stack(
                    [degrade(each, h, scale=side / face_px) for each, h in zip(pictures, how, strict=True)]
                )
            batch[name] = pictures
    if "audio" in spec.modalities:
        batch["mfcc"] = crops.mfcc[rows]
    return batch


def run_network(network: MMMSBA, batch: Batch) -> NetworkOutput:
    """Logits of a batch, multiplied in bf16 where the device is a GPU."""
    device = batch["label"].device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        output = network(batch.get("mfcc"), batch.get("face"), batch.get("lip"))
    return replace(output, clip_logits=output.clip_logits.float(), frame_logits=output.frame_logits.float())


def fit(
    network: MMMSBA,
    crops: Crops,
    clips: NDArray[np.int64],
    config: TrainConfig | DistillConfig,
    *,
    face_px: int,
    epochs: int,
    seed: int,
    degraded: bool = False,
    trunk_rate: float = 1.0,
    batch_size: int = BATCH,
    teacher: TeacherLogits | None = None,
    hints: HintLosses | None = None,
) -> int:
    """Trains a network in place for a fixed number of epochs; nothing is chosen on any clip.

    Args:
        network: On the device of the crops.
        crops: The pack.
        clips: Training clips.
        config: Optimizer, schedule and loss.
        face_px: Side of the faces.
        epochs: Passes.
        seed: Of order, degradation and dropout.
        degraded: Whether each clip is degraded anew each time, whatever its label.
        trunk_rate: Learning rate of an `efficientnet_lite0` trunk as a share; 0: frozen.
        batch_size: Clips per step.
        teacher: Logits to match, by clip; `config` is a `DistillConfig` then.
        hints: Features and maps to match beside them.
    Returns:
        Steps taken.
    """
    torch.manual_seed(seed)
    generator, order = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    weights = balanced_class_weights(crops.labels[crops.clip_video[clips]].tolist()).to(crops.device)
    parameters = [*network.parameters(), *([] if hints is None else hints.parameters())]
    optimizer = make_optimizer(parameters, config.optimizer, trunk=network.trunk_parameters(), trunk_rate=trunk_rate)
    per_epoch = max(1, len(clips) // batch_size)
    factor = LearningRateFactor(
        config.optimizer, config.schedule, total_steps=per_epoch * epochs, steps_per_epoch=per_epoch
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    network.train()
    for _ in range(epochs):
        for chosen in np.array_split(order.permutation(clips), per_epoch):
            how = [draw(generator) for _ in chosen] if degraded else None
            batch = make_batch(crops, chosen, network.spec, face_px, how)
            output = run_network(network, batch)
            loss = label_loss(output, batch, config.loss, weights)
            if teacher is not None:
                assert isinstance(config, DistillConfig)
                matched = teacher_loss(output, batch, teacher, config)
                terms = {} if hints is None else hints(output, batch, network)
                matched = matched + sum(weight * term for weight, term in terms.values())
                loss = config.alpha * matched + (1 - config.alpha) * loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.optimizer.max_norm is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.max_norm)
            optimizer.step()
            schedule.step()
    return per_epoch * epochs


@torch.no_grad()
def run_clips(
    network: MMMSBA, crops: Crops, clips: NDArray[np.int64], face_px: int, how: Degradation | None = None
) -> list[NetworkOutput]:
    """Outputs for some clips, batch by batch, in evaluation mode.

    Args:
        network: On the device of the crops.
        crops: The pack.
        clips: Which clips.
        face_px: Side of the faces.
        how: What all of them are degraded by; None: as they are.
    """
    network.eval()
    return [
        run_network(
            network, make_batch(crops, chosen, network.spec, face_px, None if how is None else [how] * len(chosen))
        )
        for chosen in np.array_split(clips, max(1, -(-len(clips) // BATCH)))
    ]


def joined_logits(outputs: Sequence[NetworkOutput]) -> tuple[Tensor, Tensor]:
    """Clip and frame logits of all batches, (B, 2) and (B, T, 2)."""
    return torch.cat([each.clip_logits for each in outputs]), torch.cat([each.frame_logits for each in outputs])


def clip_logits(
    network: MMMSBA, crops: Crops, clips: NDArray[np.int64], face_px: int, how: Degradation | None = None
) -> tuple[Tensor, Tensor]:
    """Clip and frame logits of some clips; arguments as `run_clips`."""
    return joined_logits(run_clips(network, crops, clips, face_px, how))


def video_scores(crops: Crops, clips: NDArray[np.int64], logits: Tensor) -> dict[int, float]:
    """Mean margin (fake minus real) of each video's clips."""
    margins = (logits[:, 1] - logits[:, 0]).cpu().numpy()
    videos = crops.clip_video[clips]
    return {int(video): float(margins[videos == video].mean()) for video in np.unique(videos)}


def video_auc(crops: Crops, scores: dict[int, float]) -> float:
    """AUC by video; NaN where a class is missing."""
    videos = sorted(scores)
    return auc(crops.labels[videos], np.array([scores[video] for video in videos]))


def measure(network: MMMSBA, crops: Crops, fold: int) -> dict[str, Any]:
    """AUC and margins of the videos that a fold holds out, unseen and seen families, raw and reduced."""
    result: dict[str, Any] = {}
    for name, clips in crops.held_out(fold).items():
        for form, how in (("raw", None), ("reduced", REDUCED)):
            scores = video_scores(crops, clips, clip_logits(network, crops, clips, 112, how)[0])
            result[f"{name}_{form}"] = {"auc": video_auc(crops, scores), "margins": scores}
    return result


def train_network(job: Network, crops: Crops, fold: int, seed: int, lite0: Path) -> dict[str, Any]:
    """Trains and measures a network on one fold, and its students where the job asks for them."""
    torch.manual_seed(seed)
    network = MMMSBA(job.spec)
    if job.spec.face_trunk == "efficientnet_lite0":
        network.picture_network("face").trunk = load_lite0_blocks(lite0, job.spec.face_blocks)
    network = network.to(crops.device)
    clips = crops.clips(fold, TRAIN)
    steps = fit(
        network, crops, clips, TrainConfig(), face_px=112, epochs=job.epochs, seed=seed, degraded=job.degraded,
        trunk_rate=job.trunk_rate,
    )  # fmt: skip
    result = {"steps": steps, "clips": len(clips), **measure(network, crops, fold)}
    if job.students:
        result["students"] = {
            variant: left_out_student(network, variant, job, crops, fold, seed) for variant in get_args(Variant)
        }
    return result


def left_out_student(
    teacher: MMMSBA, variant: Variant, job: Network, crops: Crops, fold: int, seed: int
) -> dict[str, Any]:
    """A student of a network on the same fold, at equal steps, measured as it is.

    Args:
        teacher: Trained on the fold.
        variant: `own_cnn` has the original's three layers in place of the teacher's trunk; `scratch` keeps the trunk's
            weights, which came from elsewhere.
        job: The teacher's.
        crops: The pack.
        fold: Of the pack.
        seed: Of the student.
    """
    torch.manual_seed(seed)
    start = prune(teacher.cpu(), teacher.spec.model_copy(update=job.widths))
    spec = start.spec if variant != "own_cnn" else start.spec.model_copy(update={"face_trunk": "mmms_ba"})
    student = MMMSBA(spec, gru_dropout=0.1, dense_dropout=0.1)
    weights = start.state_dict()
    student.load_state_dict(kept_weights(variant, student, weights), strict=False)
    teacher, student = teacher.to(crops.device), student.to(crops.device)
    logits = None
    if variant in ("distilled", "own_cnn"):
        everything = np.arange(len(crops.clip_video))
        logits = TeacherLogits(*clip_logits(teacher, crops, everything, 112), by_video=False)
    steps = fit(
        student, crops, crops.clips(fold, TRAIN), STUDENT_CONFIG, face_px=112, epochs=job.epochs, seed=seed,
        degraded=job.degraded, trunk_rate=job.trunk_rate, teacher=logits,
    )  # fmt: skip
    return {"steps": steps, **measure(student, crops, fold)}


def kept_weights(variant: Variant, student: MMMSBA, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a student starts from, of the pruned teacher's weights."""
    if variant == "scratch":
        return {name: value for name, value in weights.items() if name.startswith("visual_feature_extractor.trunk")}
    shapes = {name: value.shape for name, value in student.state_dict().items()}
    return {name: value for name, value in weights.items() if shapes.get(name) == value.shape}


@dataclass(frozen=True)
class FeaturesInMemory:
    """A teacher's features of all clips, with what `HintLosses` asks of `TeacherFeatures`."""

    values: dict[str, Tensor]
    """(N, T, C) by layer."""

    @property
    def widths(self) -> dict[str, int]:
        """C by layer."""
        return {name: value.shape[-1] for name, value in self.values.items()}

    @property
    def means(self) -> dict[str, list[float]]:
        """By channel."""
        return {name: value.mean((0, 1)).tolist() for name, value in self.values.items()}

    @property
    def variances(self) -> dict[str, float]:
        """Mean over the channels."""
        return {name: float(value.var((0, 1), correction=0).mean()) for name, value in self.values.items()}

    def read(self, clips: list[int]) -> dict[str, Tensor]:
        """Of some clips, (B, T, C) by layer."""
        return {name: value[clips] for name, value in self.values.items()}


Answers = tuple[TeacherLogits, FeaturesInMemory]
_answers: dict[Path, Answers] = {}
"""Of the given teacher to all clips: the same for every student of a process."""


def ask_teacher(path: Path, crops: Crops) -> Answers:
    """Logits and matched features of a teacher for all clips, once in a process."""
    if path not in _answers:
        teacher = load_checkpoint(path).network.to(crops.device)
        names = hint_names(teacher.spec, STUDENT_CONFIG.model_copy(update={"feature_weight": 1.0}))
        outputs = run_clips(teacher, crops, np.arange(len(crops.clip_video)), crops.facts["face_px"])
        features = {name: torch.cat([each.features[name].float() for each in outputs]) for name in names}
        _answers[path] = TeacherLogits(*joined_logits(outputs), by_video=False), FeaturesInMemory(features)
    return _answers[path]


def train_student(job: Student, crops: Crops, seed: int, teacher_path: Path) -> dict[str, Any]:
    """Distils one student and holds it against its teacher on the test clips."""
    wanted, features = ask_teacher(teacher_path, crops)
    pruned = prune(load_checkpoint(teacher_path).network, job.spec)
    torch.manual_seed(seed)
    student = MMMSBA(pruned.spec, gru_dropout=0.1, dense_dropout=0.1)
    student.load_state_dict(pruned.state_dict())
    student = student.to(crops.device)
    config = job.config
    matched = FeaturesInMemory({n: features.values[n] for n in hint_names(pruned.spec, config)})
    hints = HintLosses(matched, pruned.spec, config).to(crops.device) if config.matches_features else None  # type: ignore[arg-type]
    train, test = crops.clips(0, TRAIN), crops.clips(0, TEST)
    steps = fit(
        student, crops, train, config, face_px=job.face_px, epochs=job.epochs, seed=seed, teacher=wanted, hints=hints,
        batch_size=config.batch_size,
    )  # fmt: skip
    found, target = clip_logits(student, crops, test, job.face_px)[0], wanted.clip_logits[torch.from_numpy(test)]
    p_student, p_teacher = found.softmax(-1)[:, 1], target.softmax(-1)[:, 1]
    return {
        "steps": steps,
        "divergence": float(distill_loss(found, target, temperature=config.temperature)),
        "p_change": float((p_student - p_teacher).abs().mean()),
        "same_verdict": float(((p_student > 0.5) == (p_teacher > 0.5)).float().mean()),
        "auc": video_auc(crops, video_scores(crops, test, found)),
        "teacher_auc": video_auc(crops, video_scores(crops, test, target)),
    }


@dataclass(frozen=True)
class Job:
    """One training run."""

    row: str
    fold: int
    seed: int


def read_rows(folder: Path) -> list[Row]:
    """What the finished jobs of a run wrote; a job's later line replaces an earlier one."""
    rows: dict[tuple[str, int, int], Row] = {}
    for path in sorted(folder.glob("rows-*.jsonl")):
        for line in filter(None, path.read_text("utf-8").splitlines()):
            row = json.loads(line)
            if "error" not in row:
                rows[row["row"], row["fold"], row["seed"]] = row
    return list(rows.values())


def plan(num_folds: int, seeds: int) -> list[Job]:
    """All jobs, seed by seed, so that what a limit of time cuts off is the last seeds of all rows.

    Args:
        num_folds: With the fold that leaves nothing out.
        seeds: Of each row.
    """
    jobs = []
    for seed in range(seeds):
        jobs += [Job(row.name, 0, seed) for row in STUDENTS]
        jobs += [Job(row.name, fold, seed) for row in NETWORKS for fold in range(1, num_folds)]
    return jobs


def run_job(job: Job, crops: Crops, *, teacher: Path, lite0: Path) -> dict[str, Any]:
    """Runs one job.

    Args:
        job: From `plan`.
        crops: The pack.
        teacher: Checkpoint that the students are made of.
        lite0: ImageNet weights of the trunk.
    """
    rows: dict[str, Callable[[], dict[str, Any]]] = {
        **{row.name: lambda row=row: train_student(row, crops, job.seed, teacher) for row in STUDENTS},
        **{row.name: lambda row=row: train_network(row, crops, job.fold, job.seed, lite0) for row in NETWORKS},
    }
    return {**asdict(job), "family": crops.facts["folds"][job.fold], **rows[job.row]()}
