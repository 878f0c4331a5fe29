"""Whether every step of an episode has its picture, looked at before the first one is learnt from.

Headers and packets of a video tell which frames there are, without a frame being decoded; then the
first and the last picture of each episode and camera are. In a large set of videos with few key
frames, where that would take minutes, most episodes have their last key frame decoded instead.

Axis letters: t control step, n frame.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av.error
import numpy as np

from pi0_jax.data.lerobot.findings import PICTURES, TIMES, Finding
from pi0_jax.data.lerobot.open_videos import open_file
from pi0_jax.data.lerobot.pictures import ParquetPictures, Pictures, VideoPictures
from pi0_jax.data.lerobot.recording import Recording
from pi0_jax.errors import InputError

_WHOLE = 100  # episodes whose last picture is decoded whatever it costs
_FAR = 16  # frames behind a key frame that cost too much for every episode of a large set


@dataclass(frozen=True)
class Frames:
    """The frames of a video, by its packets.

    Attributes:
        times: float64[n], ascending [s].
        keys: float64[k], times of the key frames, from which decoding starts.
    """

    times: np.ndarray
    keys: np.ndarray

    def cheap(self, wanted: np.ndarray) -> int:
        """The last of the steps at float64[t] `wanted` whose picture is soon decoded."""
        # An early frame of an open group lies before its key frame: one frame more is no matter.
        key = self.keys[max(0, np.searchsorted(self.keys, wanted[-1], side="right") - 1)]
        behind = int(np.searchsorted(self.times, wanted[-1]) - np.searchsorted(self.times, key))
        if behind <= _FAR:
            return len(wanted) - 1
        return int(np.clip(np.searchsorted(wanted, key), 0, len(wanted) - 1))


def check_pictures(recordings: Sequence[Recording], fps: float) -> list[Finding]:
    """What is wrong with times and pictures, in the order of the episodes; several threads look.

    Args:
        recordings: the episodes.
        fps: control steps per second.
    """
    readers = [one for recording in recordings for one in recording.pictures]
    videos = dict.fromkeys(one.path for one in readers if isinstance(one, VideoPictures))
    columns = dict.fromkeys(
        (one.path, one.column) for one in readers if isinstance(one, ParquetPictures)
    )
    every = -(-len(recordings) // _WHOLE)
    # Decoding does not hold the GIL.
    with ThreadPoolExecutor() as pool:
        frames = dict(zip(videos, pool.map(_frames, videos), strict=True))
        types = dict(zip(columns, pool.map(lambda one: _column(*one), columns), strict=True))
        # A file that cannot be read is one finding, not one for each of its episodes.
        texts = [text for text in (*frames.values(), *types.values()) if isinstance(text, str)]
        bad = [text for text in dict.fromkeys(texts) if text]
        sound = {path: times for path, times in frames.items() if not isinstance(times, str)}
        broken = {path for path in frames if path not in sound}
        broken |= {path for (path, _), text in types.items() if text}

        def look(recording: Recording) -> list[Finding]:
            """One episode."""
            if late := _wrong_times(recording, fps):
                return [Finding(TIMES, late)]
            own = [one for one in recording.pictures if _path(one) not in broken]
            texts = [text for one in own for text in _wrong(recording, one, sound, every)]
            return [Finding(PICTURES, text) for text in texts]

        parts = list(pool.map(look, recordings))
    return [*(Finding(PICTURES, text) for text in bad), *(one for part in parts for one in part)]


def _path(pictures: Pictures) -> Path | None:
    return pictures.path if isinstance(pictures, VideoPictures | ParquetPictures) else None


def _wrong_times(recording: Recording, fps: float) -> str:
    """Why the times of an episode are not those of its steps; "" if they are."""
    expected = np.arange(len(recording)) / fps
    off = np.abs(recording.seconds - expected)
    # Half a frame more or less is the same frame of a video.
    late = np.flatnonzero(off >= 0.5 / fps)
    if not len(late):
        return ""
    step = int(late[0])
    return (
        f"episode {recording.number}: expected timestamps from 0 on that rise by 1/{fps:g} s, got "
        f"{recording.seconds[step]:.3f} s at step {step}, which should be {expected[step]:.3f} s"
    )


def _frames(path: Path) -> Frames | str:
    """The frames of a video, or what is wrong with the file."""
    try:
        with open_file(path) as container:
            stream = container.streams.video[0]
            base = float(stream.time_base or 0)
            # Packets alone: reading them is hundreds of times faster than decoding.
            packets = [
                (packet.pts * base, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.pts is not None
            ]
    except InputError as error:
        return str(error)
    except (OSError, av.error.FFmpegError, IndexError) as error:
        return f"{path}: expected a video: {error}"
    if not packets:
        return f"{path}: expected a video, it has no frame"
    return Frames(
        np.sort([time for time, _ in packets]), np.sort([time for time, key in packets if key])
    )


def _column(path: Path, column: str) -> str:
    """What is wrong with a column of pictures; "" for nothing."""
    from pyarrow.parquet import ParquetFile, read_schema

    kind = str(read_schema(path).field(column).type)
    if not re.search(r"\bbytes: (large_binary|binary|null)\b", kind):
        return (
            f"{path}: column {column!r} holds {kind}, expected LeRobot's pictures "
            "{bytes, path}, each an encoded file"
        )
    with ParquetFile(path) as file:
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        own = [chunk for chunk in chunks if chunk.path_in_schema == f"{column}.bytes"]
        missing = sum(c.statistics.null_count or 0 for c in own if c.statistics)
        # A column without a single value has no statistics.
        missing = file.metadata.num_rows if "bytes: null" in kind else missing
    if missing:
        return (
            f"{path}: column {column!r} has paths in place of {missing} pictures; expected their "
            "bytes in the table (in lerobot, `embed_images`)"
        )
    return ""


def _wrong(
    recording: Recording, pictures: Pictures, frames: dict[Path, Frames], every: int
) -> Iterator[str]:
    """What is wrong with the pictures of one camera in one episode."""
    where, last = f"episode {recording.number}", len(recording) - 1
    if isinstance(pictures, VideoPictures):
        own = frames[pictures.path]
        wanted, times = pictures.seconds, own.times
        at = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
        near = np.minimum(np.abs(times[at - 1] - wanted), np.abs(times[at % len(times)] - wanted))
        if len(late := np.flatnonzero(near >= 0.5 / pictures.fps)):
            yield (
                f"{pictures.path}: no frame at {wanted[late[0]]:.3f} s, step {late[0]} of {where} "
                f"(its {len(times)} frames end at {times[-1]:.3f} s)"
            )
            return
        if recording.number % every:
            last = own.cheap(wanted)
    for step in dict.fromkeys((0, last)):
        try:
            pictures.read(step)
        except InputError as error:
            yield f"{error} ({where})"
            return
