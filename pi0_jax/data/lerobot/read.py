"""The episodes of a LeRobot folder out of its tables; what is wrong with one does not hide others.

Versions 2.0 and 2.1 have one file per episode, 3.0 has many episodes per file. An episode is taken
where its rows are found, once and whole: lerobot's own converter lists some in the file before
theirs (lerobot#2401).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pi0_jax.data.lerobot.files import Layout, first_of
from pi0_jax.data.lerobot.findings import PLACE, ROWS, Finding
from pi0_jax.data.lerobot.image_column import ImageColumn
from pi0_jax.data.lerobot.pictures import ParquetPictures, Pictures, VideoPictures
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.data.lerobot.tables import read_columns, scalars
from pi0_jax.errors import InputError, some
from pi0_jax.listing import below

# Names of the columns in openpi's own conversions, and by LeRobot's convention.
STATE = ("observation.state", "state")
ACTIONS = ("action", "actions")
# What rollouts have besides; lerobot itself writes `next.success`.
SUCCESS = ("success", "next.success")
ADVANTAGE = ("advantages", "advantage")
# False where a row repeats an older picture: our own exports without --full-pictures.
PICTURE_IS_NEW = ("picture_is_new",)

_SCALARS = ("timestamp", "episode_index", "task_index")
Found = dict[int, list[tuple[Path, Recording]]]


def read_recordings(
    layout: Layout, cameras: Sequence[str]
) -> tuple[list[Recording], list[Finding]]:
    """Every episode that is whole, in order, and what is wrong with the others.

    Args:
        layout: the folder's files.
        cameras: the columns of the pictures, in the policy's order.

    Raises:
        InputError: no column has the states or the actions.
    """
    listed = list(dict.fromkeys(episode.data for episode in layout.episodes.values()))
    found, broken, findings = _of_files(layout, listed, cameras)
    if missing := sorted(layout.episodes.keys() - found.keys()):
        others = sorted({*below(layout.path / "data", "[!.]*.parquet")} - {*listed})
        more, _, _ = _of_files(layout, others, cameras)
        found |= {number: more[number] for number in missing if number in more}
    findings = [*findings, *_lost(layout, found, broken)]
    recordings = []
    for number in sorted(found):
        file, recording = found[number][0]
        if len(found[number]) > 1:
            names = ", ".join(file.name for file, _ in found[number])
            findings.append(Finding(ROWS, f"episode {number} is there twice: in {names}"))
            continue
        expected = layout.episodes[number].data
        if file != expected:
            findings.append(
                Finding(PLACE, f"episode {number} lies in {file}, and meta/ says {expected}")
            )
        recordings.append(recording)
    return recordings, findings


def _lost(layout: Layout, found: Found, broken: dict[Path, str]) -> list[Finding]:
    """Files that could not be read, and episodes that are nowhere without such a reason."""
    missing = [number for number in sorted(layout.episodes) if number not in found]
    files = dict.fromkeys(layout.episodes[number].data for number in missing)
    findings = [Finding(ROWS, broken[file]) for file in files if file in broken]
    others = [str(n) for n in missing if layout.episodes[n].data not in broken]
    if others:
        text = f"{layout.path}: no data of the episodes {some(others, 10)}"
        findings.append(Finding(ROWS, text))
    return findings


def _of_files(
    layout: Layout, files: Sequence[Path], cameras: Sequence[str]
) -> tuple[Found, dict[Path, str], list[Finding]]:
    """Episodes by number with their file, files that cannot be read, and damaged episodes."""
    found: Found = {}
    broken: dict[Path, str] = {}
    findings: list[Finding] = []

    def read(file: Path) -> tuple[list[Recording], list[Finding]] | str:
        """The episodes of a file, or why there are none."""
        try:
            return _of_file(layout, file, cameras)
        except InputError as error:
            return str(error)

    # Reading and unpacking a table does not hold the GIL.
    with ThreadPoolExecutor() as pool:
        for file, result in zip(files, pool.map(read, files), strict=True):
            if isinstance(result, str):
                broken[file] = result
                continue
            for recording in result[0]:
                found.setdefault(recording.number, []).append((file, recording))
            findings += result[1]
    return found, broken, findings


def _of_file(
    layout: Layout, file: Path, cameras: Sequence[str]
) -> tuple[list[Recording], list[Finding]]:
    """The whole episodes of one data file, and what is wrong with the others.

    Raises:
        InputError: the file cannot be read, or a column is missing or holds no numbers.
    """
    columns = _columns(layout, file, cameras)
    owner = columns["episode_index"].astype(int)
    # One per file and camera: its episodes share what is known of the file.
    tables = {camera: ImageColumn(file, camera) for camera in cameras}
    recordings, findings = [], []
    numbers, firsts, lengths = np.unique(owner, return_index=True, return_counts=True)
    for number, first, length in zip(
        numbers.tolist(), firsts.tolist(), lengths.tolist(), strict=True
    ):
        rows = slice(first, first + length)
        try:
            _check_rows(layout, file, number, owner[rows], length)
            part = {name: values[rows] for name, values in columns.items()}
            recordings.append(_recording(layout, tables, number, first, part))
        except InputError as error:
            findings.append(Finding(ROWS, str(error)))
    return recordings, findings


def _columns(layout: Layout, file: Path, cameras: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns by what they are: "state", "actions", scalars, and optional ones."""
    names = {
        "state": first_of(STATE, layout.features, layout.path),
        "actions": first_of(ACTIONS, layout.features, layout.path),
    } | {name: name for name in _SCALARS}
    optional = (("success", SUCCESS), ("advantage", ADVANTAGE), ("picture_is_new", PICTURE_IS_NEW))
    for what, known in optional:
        if present := [name for name in known if name in layout.features]:
            names[what] = present[0]
    in_table = [camera for camera in cameras if layout.features[camera] == "image"]
    read = read_columns(file, [*names.values()], beside=in_table)
    return {
        what: read[name]
        if what in ("state", "actions")
        else scalars(read[name], f"{file}: column {name!r}")
        for what, name in names.items()
    }


def _recording(
    layout: Layout,
    tables: Mapping[str, ImageColumn],
    number: int,
    first: int,
    part: dict[str, np.ndarray],
) -> Recording:
    tasks = {int(task): layout.task(int(task)) for task in np.unique(part["task_index"])}
    seconds = part["timestamp"]
    return Recording(
        prompts=tuple(tasks[int(task)] for task in part["task_index"]),
        state=part["state"].astype(np.float32),
        actions=part["actions"].astype(np.float32),
        pictures=tuple(
            _pictures(layout, table, number, first, seconds) for table in tables.values()
        ),
        number=number,
        seconds=seconds,
        # LeRobot marks the last step alone; an episode that ends in success has one such step.
        success=float(part["success"].max() > 0) if "success" in part else None,
        advantage=float(part["advantage"][0]) if "advantage" in part else None,
        picture_is_new=part["picture_is_new"] > 0 if "picture_is_new" in part else None,
    )


def _check_rows(layout: Layout, file: Path, number: int, owner: np.ndarray, length: int) -> None:
    """Checks that the rows of an episode are all there and lie in a row."""
    episode = layout.episodes.get(number)
    expected = "no such episode"
    if episode is not None:
        if length == episode.length and (owner == number).all():
            return
        expected = f"{episode.length} steps in a row in {episode.data.name}"
    raise InputError(
        f"{file}: episode {number}: the folder's meta/ says {expected}, this file has "
        f"{length}; the folder is incomplete or damaged"
    )


def _pictures(
    layout: Layout, table: ImageColumn, number: int, first_row: int, seconds: np.ndarray
) -> Pictures:
    if layout.features[table.column] == "image":
        return ParquetPictures(table, first_row)
    video = layout.episodes[number].videos[table.column]
    if not video.path.is_file():
        raise InputError(f"{video.path}: no such file; the folder is incomplete")
    return VideoPictures(video.path, video.start + seconds, layout.fps)
