"""Commands that train: train, distill."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from dfkit.cli.app import HERE, ConfigOption, DataOption, JsonOption, WeightsOption, WorkspaceOption, command
from dfkit.console import show

DEFAULT_FOLDS = 5


class KfoldCommand(TyperCommand):
    """Takes `--kfold` without a number, as the original does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the usual number behind a bare `--kfold`."""
        for place, argument in enumerate(args):
            following = args[place + 1] if place + 1 < len(args) else "-"
            if argument == "--kfold" and following.startswith("-"):
                args = [*args[: place + 1], str(DEFAULT_FOLDS), *args[place + 1 :]]
                break
        return super().parse_args(ctx, args)


@command(extra="train", cls=KfoldCommand)
def train(
    data: DataOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on with, under the configuration it was started with.")
    ] = None,
    kfold: Annotated[
        int | None, typer.Option(help=f"Nested k-fold with so many folds; {DEFAULT_FOLDS} without a number.", min=2)
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            help="Folds that leave out a generator each (method), a group, or a value of a column of the label file, "
            "such as source; dfkit evaluate joins them.",
            metavar="method|group|COLUMN",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint whose network and weights training goes on from, or starter, the one in the package.",
            metavar="CHECKPOINT|starter",
        ),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            help="Prepared data of further videos, several if named several times: the teacher labels them itself, and "
            "is trained anew with those it is sure of (train.unlabelled: confidence, rounds).",
            metavar="DATA",
        ),
    ] = None,
    unlabelled_control: Annotated[
        bool,
        typer.Option("--unlabelled-control", help="Also train on the same videos under shuffled labels, to compare."),
    ] = False,
    jobs: Annotated[int, typer.Option(help="Folds at once, each a process with one CPU thread.", min=1)] = 1,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="Where folds run: here, or on a Ray cluster.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes that read clips.", min=0)] = None,
    use_weighted_sampler: Annotated[
        bool, typer.Option("--use-weighted-sampler", help="Draw both classes equally often.")
    ] = False,
    use_weighted_loss: Annotated[
        bool, typer.Option("--use-weighted-loss", help="Weigh both classes equally in the loss.")
    ] = False,
    class_weights: Annotated[
        tuple[float, float] | None, typer.Option(help="Weights in the loss instead.", metavar="REAL FAKE")
    ] = None,
    own_split: Annotated[
        bool, typer.Option("--own-split", help="Split by group, whatever split labels or index name.")
    ] = False,
    modalities: Annotated[str | None, typer.Option(help="Such as audio,face,lip or audio,motion.")] = None,
    save_format: Annotated[
        Literal["dfkit", "original"] | None,
        typer.Option(help="original writes checkpoints in the original MMMS-BA format as well."),
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Trains the tri-modal MMMS-BA teacher, split by group; takes the original's YAML and NPZ folders, too.

    Examples:

        dfkit train

        dfkit train --config configs/demo.yaml --save-format original

        dfkit train --kfold 5 --jobs 2

        dfkit train --leave-out method

        dfkit train --start starter

        dfkit train --data data/videos --unlabelled data/found --unlabelled-control

        dfkit train --resume runs/default
    """
    from dfkit import pipeline
    from dfkit.config.flags import TrainFlags

    flags = TrainFlags(
        kfold=kfold,
        workers=workers,
        use_weighted_sampler=use_weighted_sampler,
        use_weighted_loss=use_weighted_loss,
        class_weights=class_weights,
        modalities=modalities,
        save_format=save_format,
        own_split=own_split,
        leave_out=leave_out,
        start=start,
        unlabelled=tuple(map(str, unlabelled or ())),
        unlabelled_control=unlabelled_control,
    )
    result = pipeline.train(
        pipeline.Workspace(workspace),
        config_path=config,
        data_dir=data,
        resume=resume,
        flags=flags,
        executor=executor,
        num_processes=jobs,
    )
    show(result, as_json=as_json)


@command(extra="train")
def distill(
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Checkpoint of dfkit train or an original .pth; the newest where left out. Of several the first is "
            "pruned, and the mean of their calibrated logits is distilled."
        ),
    ] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(
            help="Answers to distil in place of the teacher's: scores.json of dfkit evaluate, or a table path,p_fake, "
            "such as the baseline.NAME.csv of dfkit baseline; several files answer different videos.",
            metavar="SCORES",
        ),
    ] = None,
    answers_share: Annotated[
        float | None, typer.Option(help="Share of the answers beside the teacher's; 1 where left out.")
    ] = None,
    weights: WeightsOption = None,
    data: DataOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Run folder to go on with, with the teacher, data and configuration it was started with."),
    ] = None,
    target_mb: Annotated[
        float | None, typer.Option(help="Choose widths whose INT8 graph is at most so large, in MB of 10^6 bytes.")
    ] = None,
    target_ms: Annotated[
        float | None,
        typer.Option(help="Choose widths whose INT8 graph takes at most so long for a clip, p50, one thread."),
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Distil so many widths and take the best by validation AUC.", min=1)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Students of each kind; figures become mean and standard deviation.", min=1)
    ] = None,
    feature_weight: Annotated[
        float | None, typer.Option(help="Match the teacher's features as well, with this weight.", min=0)
    ] = None,
    attention_weight: Annotated[
        float | None, typer.Option(help="Match the teacher's attention maps as well, with this weight.", min=0)
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Prunes a teacher to a GRU-128 student and distils the teacher's answers into it.

    With a target or --points the widths are chosen by what the exported INT8 graph weighs and takes.

    Examples:

        dfkit distill

        dfkit distill --teacher fold4.pth

        dfkit distill --teacher runs/a/best.pth --teacher runs/b/best.pth

        dfkit distill --answers reports/train/scores.json --answers reports/val/scores.json

        dfkit distill --answers data/videos/baseline.texture.csv --answers-share 0.5

        dfkit distill --target-mb 1.0 --target-ms 15

        dfkit distill --points 6 --seeds 3

        dfkit distill --feature-weight 0.5 --attention-weight 0.1

        dfkit distill --resume runs/default
    """
    from dfkit import pipeline
    from dfkit.config.flags import DistillFlags

    result = pipeline.distill(
        pipeline.Workspace(workspace),
        config_path=config,
        teacher_path=teacher[0] if teacher else None,
        weights=weights,
        data_dir=data,
        resume=resume,
        flags=DistillFlags(
            target_mb=target_mb,
            target_ms=target_ms,
            points=points,
            seeds=seeds,
            feature_weight=feature_weight,
            attention_weight=attention_weight,
            further_teachers=tuple(map(str, (teacher or ())[1:])),
            answers=tuple(map(str, answers or ())),
            answers_share=answers_share,
        ),
    )
    show(result, as_json=as_json)
