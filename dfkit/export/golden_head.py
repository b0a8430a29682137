"""The golden video of a bundle: a short synthetic head, and what every step makes of it.

The file is the package's own, made once by tools/golden_head.py: builds of FFmpeg encode differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dfkit.errors import DfkitError
from dfkit.media.crop import SquareBox, crop_square
from dfkit.media.picture import Picture
from dfkit.media.stream import FaceFrame
from dfkit.runtime import video_stages
from dfkit.runtime.backends import Graphs
from dfkit.runtime.bundle import Bundle, FolderSource, load_faces
from dfkit.runtime.detector import Detector
from dfkit.runtime.golden_index import GOLDEN_FOLDER, ArrayFile, GoldenIndex, OutputLimits, stored_array
from dfkit.runtime.golden_video import (
    VIDEO_INDEX,
    Answer,
    CropCase,
    EncodeCase,
    GoldenVideo,
    PictureCase,
    ScoreCase,
)
from dfkit.runtime.manifest import Manifest
from dfkit.runtime.video_stages import detector_view

VIDEO = Path(__file__).with_suffix(".mp4")
VIDEO_FILE = "video.mp4"
LICENSE = (
    "Apache-2.0; a synthetic head and voice, made by dfkit (tools/golden_head.py) from NASA's photograph S93-33478, "
    "which is in the public domain"
)
PICTURES = (0, 30)
"""Grid points whose pictures are stored whole."""
WIDE = 2.5
"""Side of the wide crops per pixel of the crop: blocks are averaged there, and the box leaves the picture."""
Kind = Literal["face", "lip"]
Limits = Mapping[str, Mapping[str, OutputLimits]]
"""By backend, then by output."""


def shipped_limits(golden_json: bytes) -> Limits:
    """What golden.json judges the bundle's own graphs by."""
    index = GoldenIndex.model_validate_json(golden_json)
    return next(vectors.limits for vectors in index.sets if vectors.name == "shipped")


def video_files(manifest: Manifest, graphs: Mapping[str, Graphs], limits: Limits) -> dict[str, bytes]:
    """Files of the golden video, the index among them; none under `uniform50`, which follows no face.

    Args:
        manifest: Of the bundle that is being written, complete but for its files.
        graphs: The shipped ones by backend, loaded.
        limits: What their features and logits are judged by, see `shipped_limits`.
    Raises:
        DfkitError: The head is not followed through the whole video: the face models or the tracker were broken.
    """
    if manifest.clip_spec.preset == "uniform50":
        return {}
    return _VideoWriter(manifest, graphs, limits).content()


class _VideoWriter:
    """Runs the stages once and collects what they give."""

    def __init__(self, manifest: Manifest, graphs: Mapping[str, Graphs], limits: Limits) -> None:
        self.manifest, self.graphs, self.limits, self.spec = manifest, graphs, limits, manifest.clip_spec
        self.files: dict[str, bytes] = {f"{GOLDEN_FOLDER}/{VIDEO_FILE}": VIDEO.read_bytes()}
        self.bundle = Bundle(Path(manifest.name), manifest, FolderSource(Path(manifest.name)))
        self.video = video_stages.decode_grid(VIDEO, self.spec.fps)
        models = load_faces(manifest, where=manifest.name)
        self.faces = video_stages.follow_faces(self.video, self.spec, models)
        if [face.index for face in self.faces] != list(range(len(self.video.pictures))):
            raise DfkitError(
                f"{VIDEO.name}: {len(self.faces)} faces were found in {len(self.video.pictures)} pictures of one head",
                fix="run the tests of dfkit/media; the golden video is tracked whole by the shipped face models",
            )
        self.starts = self.spec.clip_starts(len(self.video.pictures))
        self.takes_sound = "audio" in manifest.modalities
        self.sounds = self._read_sounds()

    def content(self) -> dict[str, bytes]:
        """All files."""
        pictures = tuple(self._picture(n, self.video.pictures[n]) for n in PICTURES if n < len(self.video.pictures))
        crops, encode = self._crops()
        boxes = video_stages.box_rows(self.faces, len(self.video.pictures))
        index = GoldenVideo(
            file=VIDEO_FILE,
            license=LICENSE,
            limits={name: dict(self.limits[name]) for name in self.graphs},
            times_s=tuple(round(t, 6) for t in self.video.times_s),
            planes=self.video.hashes,
            pictures=pictures,
            boxes=self._store("boxes", boxes),
            crops=tuple(crops),
            sound=self._store("sound", self.sounds[0]) if self.takes_sound else None,
            encode=tuple(encode),
            score=self._score_case(),
            answers={name: self._answer(graphs) for name, graphs in self.graphs.items()},
        )
        return {**self.files, VIDEO_INDEX: index.model_dump_json(indent=1).encode()}

    def _picture(self, grid: int, picture: Picture) -> PictureCase:
        y, u, v = (self._store(f"{name}_{grid}", plane) for name, plane in zip("yuv", picture.planes, strict=True))
        return PictureCase(grid=grid, y=y, u=u, v=v, seen=self._store(f"seen_{grid}", detector_view(picture)))

    def _store(self, name: str, array: np.ndarray) -> ArrayFile:
        file = f"video_{name}.bin"
        assert f"{GOLDEN_FOLDER}/{file}" not in self.files, f"{file} twice"
        entry, self.files[f"{GOLDEN_FOLDER}/{file}"] = stored_array(file, array)
        return entry

    def _read_sounds(self) -> list[np.ndarray]:
        if not self.takes_sound:
            return []
        first_s = self.video.first_picture_s
        return video_stages.clip_sound(VIDEO, self.spec, first_picture_s=first_s, starts=self.starts)

    def _crops(self) -> tuple[list[CropCase], list[EncodeCase]]:
        """Crops of the stored pictures, those that the model sees and a wide one of each, and the features of the
        former."""
        crops: list[CropCase] = []
        encode: list[EncodeCase] = []
        for place, grid in enumerate(n for n in PICTURES if n < len(self.video.pictures)):
            face = self.faces[grid]
            assert face.boxes is not None
            kinds: tuple[tuple[Kind, SquareBox, np.ndarray], ...] = (
                ("face", face.boxes[0], face.face),
                ("lip", face.boxes[1], face.lip),
            )
            places: dict[Kind, int] = {}
            for kind, box, picture in kinds:
                places[kind] = len(crops)
                crops.append(self._crop(place, f"{grid}_{kind}", kind, box, picture))
            encode.append(self._encode_case(face, places))
            kind, box, picture = kinds[place % 2]
            wide = box._replace(side=WIDE * len(picture))
            wide_picture = crop_square(self.video.pictures[grid], wide, len(picture))
            crops.append(self._crop(place, f"{grid}_{kind}_wide", kind, wide, wide_picture))
        return crops, encode

    def _crop(self, place: int, name: str, kind: Kind, box: SquareBox, picture: np.ndarray) -> CropCase:
        entry = self._store(f"crop_{name}", picture)
        return CropCase(picture=place, kind=kind, x=box.x, y=box.y, side=box.side, crop=entry)

    def _encode_case(self, face: FaceFrame, places: dict[Kind, int]) -> EncodeCase:
        features = {}
        for name, graphs in self.graphs.items():
            found = graphs.encode({"face": face.face[None], "lip": face.lip[None]})
            features[name] = {
                output: self._store(f"{output}_{face.index}_{name}", values[0]) for output, values in found.items()
            }
        return EncodeCase(crops=places, features=features)

    def _clip_inputs(self, graphs: Graphs, number: int) -> dict[str, np.ndarray]:
        """What `score` takes of one clip."""
        start = self.starts[number]
        faces = self.faces[start : start + self.spec.num_frames]
        inputs = graphs.encode({"face": np.stack([f.face for f in faces]), "lip": np.stack([f.lip for f in faces])})
        if "motion" in self.manifest.modalities:
            inputs["landmarks"] = np.stack([f.landmarks for f in faces])
        if self.takes_sound:
            inputs["pcm"] = self.sounds[number]
        return inputs

    def _score_case(self) -> ScoreCase:
        inputs = self._clip_inputs(next(iter(self.graphs.values())), 0)
        logits: dict[str, Any] = {}
        for name, graphs in self.graphs.items():
            values = zip(("frame_logits", "clip_logits"), graphs.score(inputs), strict=True)
            logits[name] = {output: self._store(f"{output}_{name}", array) for output, array in values}
        stored = {name: self._store(f"clip_{name}", array) for name, array in inputs.items()}
        return ScoreCase(inputs=stored, logits=logits)

    def _answer(self, graphs: Graphs) -> Answer:
        clips = [graphs.score(self._clip_inputs(graphs, n))[1] for n in range(len(self.starts))]
        result = Detector(self.bundle, graphs=graphs, decoder_threads=1).detect(VIDEO)
        return Answer.model_validate(
            {
                "clip_starts": self.starts,
                "clip_logits": [[float(value) for value in logits] for logits in clips],
                "status": result.status,
                "verdict": result.verdict,
                "p_fake": result.p_fake,
                "distance": result.distance,
            }
        )
