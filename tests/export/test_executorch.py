"""`--format executorch`: the program answers as torch does."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from dfkit.clip import CLIP2S
from dfkit.errors import MissingExtraError
from dfkit.export import executorch
from dfkit.export.parity import FLOAT_TOLERANCE, ParityClip, run_parity, worst_cases
from tests.runtime.bundles import example_inputs, make_network

INSTALLED = importlib.util.find_spec("executorch") is not None


@pytest.mark.skipif(INSTALLED, reason="executorch is installed")
def test_without_the_extra_its_install_command_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r'executorch(.|\n)*pip install "dfkit\[executorch\]"'):
        executorch.convert(make_network(), CLIP2S)


@pytest.mark.skipif(not INSTALLED, reason='needs the extra: pip install "dfkit[executorch]"')
def test_the_program_passes_parity() -> None:
    network = make_network()
    backend = executorch.describe(network, CLIP2S)
    graphs = executorch.ProgramGraphs(backend, executorch.convert(network, CLIP2S))
    clips = [ParityClip("made", "real", example_inputs(50)), *worst_cases(CLIP2S)]
    report = run_parity(network, CLIP2S, clips, {"executorch fp32": graphs})
    stages = [stage for stage in report.stages if stage.stage == "executorch fp32"]
    assert [stage.kind for stage in stages] == ["real", "worst case"]
    assert all(stage.passed and stage.reference == "torch" for stage in stages)
    assert max(stage.max_difference for stage in stages) <= FLOAT_TOLERANCE
    # What parity would have to notice: the two pictures' colours swapped.
    swapped = {**clips[0].arrays, "face": np.ascontiguousarray(clips[0].arrays["face"][..., ::-1])}
    first, other = (
        graphs.score(graphs.encode(arrays) | {"pcm": arrays["pcm"]})[1] for arrays in (clips[0].arrays, swapped)
    )
    assert np.abs(first - other).max() > FLOAT_TOLERANCE


def test_methods_and_shapes() -> None:
    backend = executorch.describe(make_network(), CLIP2S)
    assert backend.encode is not None
    assert [(e.name, e.shape) for e in backend.encode.inputs] == [("face", (1, 224, 224, 3)), ("lip", (1, 96, 96, 3))]
    assert [(e.name, e.shape) for e in backend.score.inputs] == [
        ("pcm", (1, 33408)),
        ("face_features", (50, 16)),
        ("lip_features", (50, 8)),
    ]
