"""What a distillation was asked for, kept in its run folder: only the same request goes on there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dfkit.config import Config, explain
from dfkit.data.hashing import sha256_file
from dfkit.data.storage import PreparedData, videos_hash
from dfkit.errors import CheckpointError, ConfigError, DataError
from dfkit.evaluation.scores_file import find_scores
from dfkit.files import write_atomically
from dfkit.training.fit import different_keys
from dfkit.weights.selection import WeightsChoice
from dfkit.workspace import stored_path

REQUEST_FILE, CONFIG_FILE = "request.json", "config.json"
Request = dict[str, Any]
PLACES = ("teacher", "data")
"""Where files lay, for people; what they hold is compared."""


def make_request(
    teacher_path: str | Path, data: PreparedData, config: Config, *, weights: WeightsChoice | None = None
) -> Request:
    """Teacher, its weights, data and configuration; teacher and data by their content, too.

    Raises:
        CheckpointError: There is no such teacher.
        DataError: There is no such file of answers.
    """
    further = [teacher_sha256(path) for path in config.distill.further_teachers]
    answers = [sha256_file(find_scores(Path(path))) for path in config.distill.answers]
    return {
        "teacher": str(teacher_path),
        "teacher_sha256": teacher_sha256(teacher_path),
        "weights": weights,
        "voters_sha256": [*further, *answers] or None,
        "data": str(data.path),
        "videos_hash": videos_hash(data),
        "config": config.model_dump(mode="json"),
    }


def teacher_sha256(path: str | Path) -> str:
    """SHA-256 of a teacher's checkpoint.

    Raises:
        CheckpointError: There is no such file.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such checkpoint", fix="name the teacher with --teacher")
    return sha256_file(Path(path))


def write_request(run_dir: Path, request: Request) -> None:
    """Writes `request.json`, and the configuration alone as `config.json`."""
    places = {name: stored_path(request[name], run_dir) for name in PLACES}
    write_atomically(run_dir / REQUEST_FILE, json.dumps({**request, **places}, indent=2))
    write_atomically(run_dir / CONFIG_FILE, json.dumps(request["config"], indent=2))


def read_request(run_dir: Path) -> Request:
    """The request that a run was started with, its configuration in the words of this version.

    Keys that an older dfkit did not know have their defaults.

    Raises:
        ConfigError: The folder holds none, or its configuration has no place in this version.
    """
    path = run_dir / REQUEST_FILE
    try:
        request: Request = json.loads(path.read_text(encoding="utf-8"))
        request["config"] = Config.model_validate(request["config"]).model_dump(mode="json")
    except ValidationError as error:
        raise ConfigError(
            f"{path}: its configuration is none of this version of dfkit:\n{explain(error, Config)}",
            fix="start a new run without --resume",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{run_dir}: nothing to resume: no {REQUEST_FILE} of a distillation ({error})",
            fix="start a new run without --resume",
        ) from error
    return request


def asks_for_the_same(before: Request, wanted: Request) -> bool:
    """Whether two requests have the same teacher, videos and configuration, wherever the files lie by now."""
    return all(before.get(name) == wanted[name] for name in wanted if name not in PLACES)


def refuse_other_request(run_dir: Path, wanted: Request) -> None:
    """Refuses to go on with a run under another configuration, with another teacher or on other data.

    Teacher and data may lie elsewhere by now: their content is compared.

    Args:
        run_dir: Of the run.
        wanted: Of `make_request`, as it is asked for now.
    Raises:
        ConfigError: The configurations or the teachers differ, or the folder is no distillation's.
        DataError: The data holds other videos.
    """
    before = read_request(run_dir)
    changed = different_keys(before["config"], wanted["config"])
    if changed:
        raise ConfigError(
            f"{run_dir}: was started with another configuration; different: {', '.join(changed)}",
            fix=f"resume with --config {run_dir / CONFIG_FILE}, or start a new run",
        )
    if before.get("teacher_sha256") != wanted["teacher_sha256"]:
        raise ConfigError(
            f"{run_dir}: was started with the teacher {before.get('teacher')}, and {wanted['teacher']} is another file",
            fix="name that teacher with --teacher, or start a new run",
        )
    if before.get("voters_sha256") != wanted["voters_sha256"]:
        raise ConfigError(
            f"{run_dir}: the further teachers or answers are other files than it was started with",
            fix="put back the files that it was started with, or start a new run",
        )
    if before.get("weights") != wanted["weights"]:
        raise ConfigError(
            f"{run_dir}: was started with --weights {before.get('weights') or '(none)'} of the teacher",
            fix="resume without --weights, or start a new run",
        )
    if before.get("videos_hash") != wanted["videos_hash"]:
        raise DataError(
            f"{run_dir}: was started on {before.get('data')}, and {wanted['data']} holds other videos",
            fix="name that data with --data, or start a new run",
        )
