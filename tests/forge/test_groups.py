"""Persons and sources stay in the groups of what is forged from them, all the way to prepared data."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkit import pipeline
from dfkit.data.groups import components, file_ids
from dfkit.data.hashing import sha256_file
from dfkit.data.labels import Source, read_csv
from dfkit.data.storage import PreparedData
from dfkit.forge import ForgeConfig, ForgeSource, forge
from dfkit.workspace import Workspace
from tests.data.makers import write_csv
from tests.forge.conftest import Forged

QUICK = ForgeConfig(methods=("audio_shift", "audio_swap"))
QUICK_YAML = "forge: {methods: [audio_shift, audio_swap]}\n"


def components_of(sources: list[Source]) -> list[str]:
    return components([file_ids(source.groups, sha256_file(source.path)) for source in sources])


def test_the_group_keeps_cell_and_persons(forged: Forged) -> None:
    """`group` was the cell alone: the persons that forgeries were made of were lost."""
    person_of = {str(source.path): source.group for source in forged.sources}
    labels = {source.path.name: source for source in read_csv(forged.out_dir / "labels.csv").sources}
    lent = 0
    for entry in forged.entries:
        persons = {person_of[entry["source"]], *([person_of[entry["donor"]]] if entry["donor"] else [])}
        lent += len(persons) == 2
        named = set(labels[Path(entry["path"]).name].groups)
        assert named & set(person_of.values()) == persons
        assert f"sha256:{sha256_file(Path(entry['source']))}" in named
    assert lent == 6, "two sources, three methods with a donor"


@pytest.mark.parametrize("known", [True, False])
def test_sets_of_the_same_people_are_related(forged: Forged, tmp_path: Path, known: bool) -> None:
    """Cells of two runs had nothing in common, or their number: the first cell of any two runs was one group."""
    sources = [ForgeSource(s.path, s.group if known else None, 0) for s in forged.sources]
    # Another seed and another selection: each person alone, so that the cells differ.
    both = [forge([source], tmp_path / source.path.stem, QUICK) for source in sources]
    both.append(forge(sources[:1], tmp_path / "again", QUICK.model_copy(update={"seed": 1})))
    first, second, again = ([*read_csv(summary.labels_csv).sources] for summary in both)
    names = components_of([*first, *second, *again, Source(sources[0].path, 0)])
    parts = names[: len(first)], names[len(first) : -len(again) - 1], names[-len(again) - 1 :]
    assert [len(set(part)) for part in parts] == [1, 1, 1]
    assert parts[0][0] == parts[2][0], "forged twice, and the source itself"
    assert parts[0][0] != parts[1][0], "different people"


@pytest.mark.parametrize("known", [True, False])
def test_whether_groups_are_known_goes_from_forge_to_prepared_data(
    heads: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], known: bool
) -> None:
    """What was forged from files without groups counted as known groups: "persons may leak" was gone."""
    rows = [[str(path), "real", *([f"person-{n}"] if known else [])] for n, path in enumerate(heads)]
    csv_path = write_csv(tmp_path / "heads.csv", ["path", "label", *(["group"] if known else [])], rows)
    workspace = Workspace(tmp_path)
    pipeline.prepare([heads[0].parent], workspace, labels=csv_path, out_dir=workspace.data / "heads", faces="float16")
    (tmp_path / "quick.yaml").write_text(QUICK_YAML, encoding="utf-8")
    summary = pipeline.forge(workspace, config_path=tmp_path / "quick.yaml", data_dir=workspace.data / "heads")
    data = PreparedData(summary.out_dir)
    assert data.groups_known is known
    assert data.info.face_models == "float16", "forged data is prepared as its sources were"
    assert len(set(data.groups)) == 1, "two persons who lent each other their voices"
    assert ("groups unknown: persons may leak" in summary.summary()) is not known
    assert ("groups unknown: persons may leak" in capsys.readouterr().err) is not known
    persons = {group for row in data.videos for group in row.groups if group.startswith("person-")}
    assert persons == ({"person-0", "person-1"} if known else set())
