"""Makes the meshes and pictures beside it: a box for each mesh, two colours for each picture.

`made.json` lists them; a mesh by two opposite corners of its box, in units of its own.
"""

import itertools
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
# Two triangles for each side of a box whose corner number is 4x + 2y + z, seen from outside.
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TRIANGLES = np.array([t for a, b, c, d in SIDES for t in ((a, b, c), (a, c, d))], np.int32)


def msh(corners: np.ndarray) -> bytes:
    """MuJoCo's binary mesh: counts, vertices, no normals, texture coordinates, faces."""
    texture = np.array(list(itertools.product((0, 1), repeat=3)), np.float32)[:, :2]
    counts = struct.pack("<4i", len(corners), 0, len(texture), len(TRIANGLES))
    return counts + corners.tobytes() + texture.tobytes() + TRIANGLES.tobytes()


def stl(corners: np.ndarray) -> bytes:
    """A binary STL file without normals."""
    faces = np.zeros(
        len(TRIANGLES), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("", "<u2")]
    )
    faces["corners"] = corners[TRIANGLES]
    return bytes(80) + struct.pack("<I", len(faces)) + faces.tobytes()


def picture(name: str) -> Image.Image:
    """16x16 pixels: a colour that follows from the name, with a darker square in it."""
    colour = 64 + np.frombuffer(struct.pack("<I", zlib.crc32(name.encode())), np.uint8)[:3] // 2
    pixels = np.broadcast_to(colour, (16, 16, 3)).copy()
    pixels[4:12, 4:12] //= 2
    return Image.fromarray(pixels.astype(np.uint8))


def main() -> None:
    """Writes every file of `made.json`."""
    made = json.loads((HERE / "made.json").read_text())
    for name, (low, high) in made["meshes"].items():
        corners = np.array(list(itertools.product(*zip(low, high, strict=True))), np.float32)
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (HERE / name).write_bytes((stl if name.endswith(".stl") else msh)(corners))
    for name in made["pictures"]:
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        picture(name).save(HERE / name)


if __name__ == "__main__":
    main()
