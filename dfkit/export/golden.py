"""Makes a bundle's golden vectors, with tolerances that follow from the data and wrong answers that must fail.

The vectors of the shipped model decide where they can. Where its answers differ so little from case to case that
another implementation of the same operators differs as much, or where a deliberate mistake hardly shows, they have no
power, and those of a stressed model of the same shape stand beside them (`dfkit.export.stress`).
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dfkit.clip import ClipSpec
from dfkit.errors import ConversionError
from dfkit.export.golden_clips import (
    FORCED,
    NUM_PICTURES,
    NUM_SCORE_CASES,
    Arrays,
    base_clips,
    differences,
    far_apart,
    mixtures,
    picture_candidates,
    push_over,
)
from dfkit.export.parity import LANDMARKS, ParityClip, shifted_points, tracks_of
from dfkit.export.ranges import features_of
from dfkit.export.recipes import recipe_named
from dfkit.export.signature import score_inputs
from dfkit.export.stages import Graph, convert_all
from dfkit.export.stress import stressed_network
from dfkit.measures.decision import margins_of
from dfkit.models.checkpoint import Checkpoint
from dfkit.models.mmms_ba import MMMSBA
from dfkit.runtime.backends import Graphs, OnnxGraphs, TfliteGraphs, signature_parts
from dfkit.runtime.golden_index import (
    GOLDEN_FILE,
    GOLDEN_FOLDER,
    ArrayFile,
    GoldenCase,
    GoldenControl,
    GoldenIndex,
    GoldenSet,
    OutputLimits,
    Part,
    rms,
    stored_array,
)
from dfkit.runtime.replay import call_part

TOLERATED_SHARE = 0.1
"""Of the smallest difference between two golden cases: what still passes as the same answer."""
PICTURE_STEP = 5
"""Every n-th picture of a clip fixes ranges."""
STRESS_DEVIATIONS = (0.5, 0.35, 0.25)
"""Of the dense layers: each next network, which has to be converted anew, is calmer."""
STRESS_CASES = (8, 6, 5)
"""Of `score`, of one such network: fewer lie farther apart."""
NOISE_FACTOR = 2.0
"""How far the tolerance has to lie above what two implementations of the same operators differ by."""
FLOAT_SHARE = 1e-6
"""Of an output's root mean square: float32 sums of another order."""
ZEROS, OTHER_CASE, CHANNELS = "zeros", "another case's answer", "channels swapped"
SOUND, LATE_SOUND = "sound shifted by one step", "sound shifted by a quarter of the clip"
SILENCE = "no sound"
Answers = list[Arrays]
"""Outputs by name, of each case."""


class PlainTflite(TfliteGraphs):
    """The same .tflite through TensorFlow Lite's own kernels, without XNNPACK: another implementation."""

    @staticmethod
    def interpreter_class() -> Any:
        """The interpreter, without delegates."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        return functools.partial(Interpreter, experimental_op_resolver_type=plain)


class PlainOnnx(OnnxGraphs):
    """The same .onnx without any graph optimization: products and roundings in another order."""

    optimized = False


@dataclass(frozen=True)
class Inputs:
    """Inputs of the cases of both graphs, by name of the case."""

    encode: list[tuple[str, Arrays]]
    score: list[tuple[str, Arrays]]


class ArrayStore:
    """Files of arrays, each content once."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._name_of: dict[str, str] = {}

    def add(self, name: str, array: np.ndarray) -> ArrayFile:
        """Stores an array as little-endian bytes, under `name` or where the same bytes lie already."""
        entry, content = stored_array(f"{name}.bin", array)
        file = self._name_of.setdefault(hashlib.sha256(content).hexdigest(), entry.file)
        self.files[f"{GOLDEN_FOLDER}/{file}"] = content
        return entry.model_copy(update={"file": file})


def golden_vectors(
    checkpoint: Checkpoint, shipped: Mapping[str, Graph], recipe: str, *, threshold_margin: float
) -> tuple[dict[str, bytes], list[str]]:
    """Golden files of the shipped graphs, and warnings about what they lack.

    Args:
        checkpoint: What was exported.
        shipped: The graphs by backend.
        recipe: Of the quantized stages.
        threshold_margin: The margin, in logits, from which on a clip is called fake.
    Raises:
        ConversionError: The stressed model could not be converted, or its vectors have no power either.
    """
    store = ArrayStore()
    spec = checkpoint.clip_spec
    clips = base_clips(spec)
    inputs = choose_inputs(checkpoint, shipped, clips, threshold_margin)
    sets = [golden_set("shipped", store, spec, shipped, inputs)]
    margins = _margins(shipped, inputs, threshold_margin)
    lacking = [name for name, there in (("fake", max(margins) > 0), ("real", min(margins) < 0)) if not there]
    warnings = [f"no golden vector is decided as {name}: the model calls everything the same" for name in lacking]
    if not has_power(sets[0]):
        stressed, files = stressed_set(checkpoint, shipped, recipe, store, clips)
        sets.append(stressed)
        store.files |= files
        weak = sorted({output for limits in sets[0].limits.values() for output, x in limits.items() if not x.power})
        warnings.append(
            f"the golden vectors of this model have no power over {', '.join(weak)}: vectors of a stressed model of "
            "the same shape decide"
        )
    index = GoldenIndex(sets=tuple(sets))
    return {**store.files, GOLDEN_FILE: index.model_dump_json(indent=1).encode()}, warnings


def has_power(vectors: GoldenSet) -> bool:
    """Whether every output of every backend has power in the set."""
    return all(limit.power for limits in vectors.limits.values() for limit in limits.values())


def stressed_set(
    checkpoint: Checkpoint, shipped: Mapping[str, Graph], recipe: str, store: ArrayStore, clips: Sequence[ParityClip]
) -> tuple[GoldenSet, dict[str, bytes]]:
    """The vectors of a stressed model of the same shape, and files of the bundle: its graphs and all arrays.

    Raises:
        ConversionError: It could not be converted, or has no power either.
    """
    for seed, deviation in enumerate(STRESS_DEVIATIONS):
        network = stressed_network(checkpoint.network, checkpoint.clip_spec, clips, seed=seed, deviation=deviation)
        stand_in = replace(checkpoint, network=network)
        calibration = calibration_of(network, clips, recipe)
        graphs: dict[str, Graph] = {}
        for backend in shipped:
            stages = convert_all(stand_in, [backend], recipe, calibration)
            graphs[backend] = stages.get(f"{backend} int8", stages[f"{backend} fp32"])
            vectors, own_store = _powerful_set(stand_in, graphs, store, clips)
            if not has_power(vectors):
                # No backend's limits depend on another's: the rest need not be converted.
                break
        else:
            names = {b: {file: f"{GOLDEN_FOLDER}/stressed/{file}" for file in g.files} for b, g in graphs.items()}
            files = {names[b][file]: content for b, graph in graphs.items() for file, content in graph.files.items()}
            return vectors.model_copy(update={"graphs": names}), files | own_store.files
    reasons = [
        f"{backend} {output}: {limit.reason}"
        for backend, limits in vectors.limits.items()
        for output, limit in limits.items()
        if not limit.power
    ]
    raise ConversionError(
        f"no golden vectors with power could be made for a network of this shape, not even of stressed weights: "
        f"{'; '.join(reasons)}",
        log="",
        fix="export without --int8: what its INT8 graph answers depends too much on the runtime",
    )


def _powerful_set(
    stand_in: Checkpoint, graphs: Mapping[str, Graph], store: ArrayStore, clips: Sequence[ParityClip]
) -> tuple[GoldenSet, ArrayStore]:
    """The vectors of a stressed model with as many cases as have power, or with the fewest, and a store with theirs."""
    for num_cases in STRESS_CASES:
        inputs = choose_inputs(stand_in, graphs, clips, 0.0, num_cases=num_cases)
        own_store = copy.deepcopy(store)
        vectors = golden_set("stressed", own_store, stand_in.clip_spec, graphs, inputs)
        if has_power(vectors):
            break
    return vectors, own_store


def calibration_of(network: MMMSBA, clips: Sequence[ParityClip], recipe: str) -> list[Arrays]:
    """What fixes the static ranges of a stressed model: the clips with fewer pictures, and with features of its own
    where `score` is calibrated, too."""
    with_features = recipe_named(recipe).calibrates_score and network.spec.pictures
    return [
        clip.arrays
        | (features_of(network, clip.arrays) if with_features else {})
        | {m: clip.arrays[m][::PICTURE_STEP] for m in network.spec.pictures}
        for clip in clips
    ]


def choose_inputs(
    checkpoint: Checkpoint,
    graphs: Mapping[str, Graph],
    clips: Sequence[ParityClip],
    threshold_margin: float,
    *,
    num_cases: int = NUM_SCORE_CASES,
) -> Inputs:
    """Cases whose answers lie far apart: pictures, and clips with margins of both signs, silence and black among them.

    Where no clip is decided the other way, features are, that were pushed there.
    """
    network, spec = checkpoint.network, checkpoint.clip_spec
    first = next(iter(graphs.values())).graphs
    pictures: list[tuple[str, Arrays]] = []
    if network.spec.pictures:
        candidates = picture_candidates(clips, network.spec.pictures)
        answers = [first.encode(arrays) for _, arrays in candidates]
        pictures = [candidates[n] for n in far_apart(answers, [0], NUM_PICTURES)]
    taken = score_inputs(network, spec)
    prepared = [(clip.name, first.encode(clip.arrays) | tracks_of(clip.arrays)) for clip in clips]
    cases = mixtures([(name, {key: values[key] for key in taken}) for name, values in prepared])
    answers = [call_part(first, "score", arrays) for _, arrays in cases]
    margins = [float(margins_of(answer["clip_logits"][0])) - threshold_margin for answer in answers]
    forced = [number for number, (name, _) in enumerate(cases) if name in FORCED]
    chosen = far_apart(answers, [*forced, int(np.argmax(margins)), int(np.argmin(margins))], num_cases)
    score = [cases[n] for n in chosen]
    if min(margins) > 0 or max(margins) < 0:
        nearest = min(chosen, key=lambda n: abs(margins[n]))
        name, arrays = cases[nearest]
        pushed = push_over(network, spec, arrays, towards_fake=max(margins) < 0, threshold_margin=threshold_margin)
        score.append((f"{name}, features pushed over the threshold", pushed))
    return Inputs(pictures, score)


def _margins(shipped: Mapping[str, Graph], inputs: Inputs, threshold_margin: float) -> list[float]:
    return [
        float(margins_of(call_part(graph.graphs, "score", arrays)["clip_logits"][0])) - threshold_margin
        for graph in shipped.values()
        for _, arrays in inputs.score
    ]


def golden_set(
    name: Literal["shipped", "stressed"],
    store: ArrayStore,
    spec: ClipSpec,
    graphs: Mapping[str, Graph],
    inputs: Inputs,
) -> GoldenSet:
    """Answers of all backends to the cases, with limits and controls.

    Args:
        name: Of the set.
        store: Gets the arrays.
        spec: The clips.
        graphs: By backend.
        inputs: The cases.
    """
    limits: dict[str, dict[str, OutputLimits]] = {backend: {} for backend in graphs}
    cases: dict[Part, tuple[GoldenCase, ...]] = {"encode": (), "score": ()}
    controls: list[GoldenControl] = []
    parts: tuple[tuple[Part, list[tuple[str, Arrays]]], ...] = (("encode", inputs.encode), ("score", inputs.score))
    for part, given in parts:
        if not given:
            continue
        answers: dict[str, Answers] = {}
        wrong: dict[str, list[WrongAnswer]] = {}
        for backend, graph in graphs.items():
            call = functools.partial(call_part, graph.graphs, part)
            plain = functools.partial(call_part, other_implementation(graph), part)
            answers[backend] = [call(arrays) for _, arrays in given]
            others = [plain(arrays) for _, arrays in given]
            noticed = [w for w in wrong_answers(call, answers[backend], part, given, spec) if w.noticed]
            limits[backend] |= limits_of(answers[backend], others, noticed, mistakes_of(part, given[0][1], spec))
            wrong[backend] = noticed
        cases[part] = _stored_cases(store, f"{name}_{part}", part, graphs, given, answers)
        controls += _stored_controls(store, f"{name}_{part}", part, wrong)
    return GoldenSet(name=name, limits=limits, encode=cases["encode"], score=cases["score"], controls=tuple(controls))


def other_implementation(graph: Graph) -> Graphs:
    """The same files run by other code."""
    make = PlainTflite if graph.graphs.name == "tflite" else PlainOnnx
    return make(graph.backend, graph.files, num_threads=1, where="export")


@dataclass(frozen=True)
class WrongAnswer:
    """What a mistake makes of one output, in the case in which it shows most."""

    mistake: str
    output: str
    case: int
    answer: np.ndarray
    noticed: bool
    """Whether it differs from the right answer by more than the tolerance."""


def limits_of(
    answers: Answers, plain: Answers, noticed: Sequence[WrongAnswer], mistakes: Mapping[str, Any]
) -> dict[str, OutputLimits]:
    """What each output is judged by.

    Args:
        answers: Of all cases.
        plain: Of another implementation.
        noticed: Wrong answers beyond the tolerance.
        mistakes: Of the inputs, by name: each has to show in some output.
    """
    unseen = sorted(set(mistakes) - {wrong.mistake for wrong in noticed})
    limits = {}
    for output in answers[0]:
        smallest = smallest_difference(answers, output)
        noise = max(rms(a[output] - b[output]) for a, b in zip(answers, plain, strict=True))
        noise = max(noise, FLOAT_SHARE * max(rms(a[output]) for a in answers))
        tolerance = TOLERATED_SHARE * smallest
        reason = ""
        if tolerance < NOISE_FACTOR * noise:
            reason = f"two cases differ by {smallest:.3g}, two implementations of the operators by {noise:.3g}"
        elif not {wrong.mistake for wrong in noticed if wrong.output == output} & set(mistakes):
            reason = f"no deliberate mistake in the inputs changes it by more than {tolerance:.3g}"
        elif unseen:
            reason = f"no output shows the mistake '{unseen[0]}'"
        if reason:
            # Decides nothing: only what is grossly off fails.
            tolerance = max(tolerance, 10 * noise, float(np.finfo(np.float32).tiny))
        limits[output] = OutputLimits(
            tolerance=tolerance, smallest_difference=smallest, noise=noise, power=not reason, reason=reason
        )
    return limits


def smallest_difference(answers: Answers, output: str) -> float:
    """Difference of an output between the two cases that are nearest; 0 for a single case."""
    table = differences(answers, output)
    return float(table[~np.eye(len(table), dtype=bool)].min()) if len(table) > 1 else 0.0


def wrong_answers(
    call: Any, answers: Answers, part: Part, given: Sequence[tuple[str, Arrays]], spec: ClipSpec
) -> list[WrongAnswer]:
    """Zeros, another case's answer, and what deliberate mistakes in the inputs give, for each output."""
    made: dict[str, Answers] = {ZEROS: [{key: np.zeros_like(v) for key, v in answer.items()} for answer in answers]}
    made[OTHER_CASE] = [*answers[1:], answers[0]]
    for mistake, change in mistakes_of(part, given[0][1], spec).items():
        made[mistake] = [call({**arrays, **change(arrays)}) for _, arrays in given]
    found = []
    for output in answers[0]:
        tolerance = TOLERATED_SHARE * smallest_difference(answers, output)
        for mistake, wrong in made.items():
            changes = [rms(w[output] - a[output]) for w, a in zip(wrong, answers, strict=True)]
            case = int(np.argmax(changes))
            found.append(WrongAnswer(mistake, output, case, wrong[case][output], changes[case] > tolerance))
    return found


def mistakes_of(part: Part, inputs: Mapping[str, np.ndarray], spec: ClipSpec) -> dict[str, Any]:
    """Deliberate mistakes in the inputs of a graph, as far as it takes them: name to a function of the inputs."""
    if part == "encode":
        return {CHANNELS: lambda a: {key: np.ascontiguousarray(value[..., ::-1]) for key, value in a.items()}}
    found: dict[str, Any] = {}
    for mistake, steps in ((SOUND, 1), (LATE_SOUND, spec.num_frames // 4)):
        if "pcm" in inputs:
            found[mistake] = lambda a, steps=steps: {"pcm": np.roll(a["pcm"], steps * spec.audio.hop_length)}
        elif "mfcc" in inputs:
            found[mistake] = lambda a, steps=steps: {"mfcc": np.roll(a["mfcc"], steps, axis=0)}
    for name in inputs:
        if name.endswith("_features"):
            found[f"no {name.removesuffix('_features')}"] = lambda a, name=name: {name: np.zeros_like(a[name])}
    for name in ("pcm", "mfcc"):
        if name in inputs:
            found[SILENCE] = lambda a, name=name: {name: np.zeros_like(a[name])}
    if "landmarks" in inputs:
        found[LANDMARKS] = lambda a: {"landmarks": shifted_points(a["landmarks"])}
    return found


def _stored_cases(
    store: ArrayStore,
    stem: str,
    part: Part,
    graphs: Mapping[str, Graph],
    given: Sequence[tuple[str, Arrays]],
    answers: Mapping[str, Answers],
) -> tuple[GoldenCase, ...]:
    signatures = {backend: dict(signature_parts(graph.backend))[part] for backend, graph in graphs.items()}
    shapes = {entry.name: entry.shape for entry in next(iter(signatures.values())).inputs}
    made = {backend: {entry.name: entry.shape for entry in found.outputs} for backend, found in signatures.items()}
    return tuple(
        GoldenCase(
            name=name,
            inputs={
                key: store.add(f"{stem}_{number}_{key}", value.reshape(shapes[key])) for key, value in arrays.items()
            },
            outputs={
                backend: {
                    key: store.add(f"{stem}_{number}_{backend}_{key}", value.reshape(made[backend][key]))
                    for key, value in found[number].items()
                }
                for backend, found in answers.items()
            },
        )
        for number, (name, arrays) in enumerate(given)
    )


def _stored_controls(
    store: ArrayStore, stem: str, part: Part, wrong: Mapping[str, Sequence[WrongAnswer]]
) -> list[GoldenControl]:
    by_mistake: dict[tuple[str, str], dict[str, WrongAnswer]] = {}
    for backend, found in wrong.items():
        for each in found:
            by_mistake.setdefault((each.mistake, each.output), {})[backend] = each
    controls = []
    for (mistake, output), answers in by_mistake.items():
        file = f"{stem}_{mistake.replace(' ', '_').replace(chr(39), '')}"
        stored = {backend: store.add(f"{file}_{backend}_{output}", each.answer) for backend, each in answers.items()}
        cases = {backend: each.case for backend, each in answers.items()}
        controls.append(GoldenControl(name=mistake, part=part, output=output, cases=cases, answers=stored))
    return controls
