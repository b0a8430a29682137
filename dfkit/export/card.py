"""MODEL_CARD.md from what was measured; nothing in it is typed by hand."""

from __future__ import annotations

from typing import Any

from dfkit.export.card_serving import serving_lines
from dfkit.measures.decision import interval_text
from dfkit.measures.protocol import stated_protocol
from dfkit.media.faces import variant_of
from dfkit.runtime.manifest import Manifest

NONE = "not defined"


def model_card(manifest: Manifest) -> str:
    """The card's Markdown.

    Args:
        manifest: Complete but for its file entries.
    """
    sections = (
        title_lines,
        limit_lines,
        input_lines,
        decision_lines,
        split_lines,
        metric_lines,
        parity_lines,
        recipe_lines,
        content_lines,
        runtime_lines,
        program_lines,
        serving_lines,
    )
    lines = [line for section in sections for line in section(manifest)]
    return "\n".join(lines)


def title_lines(manifest: Manifest) -> list[str]:
    """What it is, and what a reader has to know before trusting its figures."""
    return [
        f"# {manifest.name}",
        "",
        "## What it is",
        f"Audio-visual deepfake detector (MMMS-BA topology), exported by dfkit {manifest.dfkit_version}. "
        f"Streams: {', '.join(manifest.modalities)}. Class 1 is fake.",
        "",
        *(f"> **{warning}**" for warning in manifest.warnings),
        "",
    ]


def limit_lines(_manifest: Manifest) -> list[str]:
    """What a verdict does not say."""
    return [
        "## Limits",
        "A verdict is as good as the data it was trained on. It says nothing about manipulations that the training "
        "data lacks or about faces under 64 px.",
        "",
    ]


def input_lines(manifest: Manifest) -> list[str]:
    """The clip that it takes."""
    spec = manifest.clip_spec
    prepared = manifest.metrics["data"].get("face_models")
    faces = variant_of(manifest.face_models)
    same = "as in the training data" if prepared == faces else f"not by the {prepared} ones of the training data"
    return [
        "## Input",
        f"{spec.num_frames} pictures over {spec.clip_s:.1f} s ({spec.fps:g} per second), faces "
        f"{spec.picture.face_px} px, lips {spec.picture.lip_px} px, {spec.num_samples} samples of mono sound at "
        f"{spec.audio.sample_rate} Hz. Every step from "
        f"a file to a verdict stands below, under 'Serving it'; faces are found by {' and '.join(manifest.face_models)}"
        f"{'' if prepared is None else f', {same}'}.",
        "",
    ]


def decision_lines(manifest: Manifest) -> list[str]:
    """Threshold and calibration, with what they were chosen on."""
    point, calibration, aggregation = manifest.operating_point, manifest.calibration, manifest.aggregation
    return [
        "## Decision",
        f"A face's score is the {aggregation.text} ({aggregation.chosen_on}); a video's is that of its most suspicious "
        f"face. Threshold {point.threshold:.4f}{interval_text(point.interval)} on p_fake ({point.name}), `review` from "
        f"{point.review_low:.4f} to {point.review_high:.4f}; calibration temperature "
        f"{calibration.calibration_temperature:.4f}{interval_text(calibration.interval)} ({calibration.fitted_on}).",
        muted_text(manifest),
        "",
    ]


def muted_text(manifest: Manifest) -> str:
    """What becomes of a video without sound."""
    if "audio" not in manifest.modalities:
        return "It hears nothing: a video without sound is one like any other."
    if manifest.decision_muted is None:
        return "A video without sound gets no verdict (`no_audio`): it was not trained with modality dropout."
    return (
        f"A video without sound is judged by its picture alone: {manifest.decision_muted.decision.text} "
        f"({manifest.decision_muted.operating_point.name})."
    )


def split_lines(manifest: Manifest) -> list[str]:
    """Sizes of the parts of the data."""
    rows = [
        f"| {name} | {part['videos']} | {part['real']} | {part['fake']} | {part['clips']} | {len(part['groups'])} |"
        for name, part in manifest.metrics["data"]["splits"].items()
    ]
    header = ["| split | videos | real | fake | clips | groups |", "| --- | --- | --- | --- | --- | --- |"]
    return ["## Measured on", *header, *rows, ""]


def metric_lines(manifest: Manifest) -> list[str]:
    """Teacher and student by video, and the protocol of each row."""
    lines = ["| network | split | video AUC | balanced accuracy | EER |", "| --- | --- | --- | --- | --- |"]
    protocols: dict[str, list[str]] = {}
    for network in ("teacher", "student", "student_muted"):
        for split, facts in manifest.metrics.get(network, {}).items():
            video = facts.get("video", {})
            cells = [figure(video.get(key)) for key in ("auc", "balanced_accuracy", "eer")]
            lines.append(f"| {network.replace('_', ', ')} | {split} | {' | '.join(cells)} |")
            if video:
                protocols.setdefault(stated_protocol(facts), []).append(f"{network.replace('_', ', ')} {split}")
    notes = [f"- {'; '.join(rows)}: {text}" for text, rows in protocols.items()]
    chosen_by = manifest.metrics.get("student", {}).get("val", {}).get("videos", 0)
    if chosen_by and not manifest.metrics["data"]["splits"].get("val", {}).get("videos", 0):
        notes.append(
            f"- student val: of a first network that had not seen these {chosen_by} videos; what is shipped learnt "
            "from them, too"
        )
    return [*lines, "", *notes, ""]


def parity_lines(manifest: Manifest) -> list[str]:
    """Every stage against the one before."""
    rows = [
        f"| {stage['stage']} | {stage['reference']} | {stage['num_clips']} | {stage['kind']} | "
        f"{stage['max_difference']:.2e} | {stage['flips']} | {stage['max_p_change']:.4f} |"
        for stage in manifest.metrics["parity"]["stages"]
    ]
    return [
        "## Parity",
        "| stage | against | clips | kind | largest difference | flips | largest change of p_fake |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def recipe_lines(manifest: Manifest) -> list[str]:
    """Quantization recipes and what fixed their ranges."""
    recipes = ", ".join(f"{name}: {backend.recipe}" for name, backend in manifest.backends.items())
    count = manifest.calibration_set.get("num_clips", 0)
    return [f"Recipes: {recipes}. Static ranges come from {count} training clips, named in manifest.json.", ""]


def content_lines(manifest: Manifest) -> list[str]:
    """What the graphs consist of: constants by type, operators by arithmetic."""
    lines = [
        "## What the graphs consist of",
        "| runtime | bytes of constants by type | trained parameters in 8 bits |",
        "| --- | --- | --- |",
    ]
    for name, backend in manifest.backends.items():
        sizes = ", ".join(f"{dtype} {size}" for dtype, size in backend.constant_bytes.items())
        share = "none" if backend.int8_share is None else f"{backend.int8_share:.1%}"
        lines.append(f"| {name} {backend.recipe} | {sizes} | {share} |")
    lines += [
        "",
        "Operators by arithmetic (`static`: INT8 in and out; `dynamic`: INT8 weights, activations rounded while it "
        "runs; `weight-only`: INT8 weights made float before use):",
        "",
    ]
    for name, backend in manifest.backends.items():
        listed = ", ".join(
            f"{operator} {' + '.join(f'{count} {kind}' for kind, count in kinds.items())}"
            for operator, kinds in backend.operators.items()
        )
        lines.append(f"- {name}: {listed}")
    return [*lines, ""]


def runtime_lines(manifest: Manifest) -> list[str]:
    """Smallest versions of the runtimes that gave the golden answers, and what an ONNX file asks for."""
    lines = []
    for name, backend in manifest.backends.items():
        versions = ", ".join(f"{package} {version}" for package, version in backend.runtimes.items())
        asked = "" if backend.opset is None else f" (opset {backend.opset}, IR {backend.ir_version})"
        lines.append(f"- {name}{asked}: {versions or 'no version was proven'}")
    ios = ["", "On iOS take `model.tflite`, through TensorFlow Lite."] if "tflite" in manifest.backends else []
    return ["Smallest runtimes that give the golden answers; an app refuses older ones:", *lines, *ios, ""]


def program_lines(manifest: Manifest) -> list[str]:
    """How an app calls the programs of other runtimes, where the bundle holds one."""
    heads = {
        "executorch": ["## ExecuTorch", "float32, XNNPACK; pictures are 0 to 1, inputs and outputs go by position:"],
        "coreai": [
            "## Core AI",
            "float32, iOS 27 on; on older iOS take `model.tflite`. Its answers were compared with torch's by the "
            "interpreter of coreai-core on Linux; nothing is said about its speed. `model.aimodel` is a folder; "
            "pictures are 0 to 1, inputs and outputs go by name:",
        ],
    }
    lines = []
    for runtime, head in heads.items():
        backend = manifest.metrics.get(runtime)
        if backend is None:
            continue
        lines += head
        for part in filter(None, (backend["encode"], backend["score"])):
            takes, gives = (", ".join(f"{e['name']} {e['shape']}" for e in part[k]) for k in ("inputs", "outputs"))
            what = "method" if runtime == "executorch" else "function"
            lines.append(f"- `{part['file']}`, {what} `{part['key']}`: {takes} to {gives}")
        lines.append("")
    return lines


def figure(value: Any) -> str:
    """A metric with three digits, or that it has no value."""
    return NONE if value is None else f"{value:.3f}"
