"""Grey images from a folder of IDX files."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

# The two bytes of an IDX header that follow two zero bytes: the type of an element (0x08: unsigned byte) and
# the number of dimensions (3 for images: how many, rows, columns; 1 for labels).
IMAGE_MAGIC = b"\x00\x00\x08\x03"
LABEL_MAGIC = b"\x00\x00\x08\x01"
GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 16

# In order of preference: training images before test images, unpacked before gzip.
NAMES = tuple(
    f"{part}-images{separator}idx3-ubyte{suffix}"
    for part in ("train", "t10k")
    for separator in ("-", ".")
    for suffix in ("", ".gz")
)


class ImageFileError(ValueError):
    """A file or folder that does not hold images in the IDX format."""


class Images(NamedTuple):
    """A set of grey images of one size.

    Attributes:
        pixels: Grey levels in [0, 1], `[N, d]` of float32 with d = rows * columns, row by row; read-only.
        shape: Rows and columns of an image.
        source: The name of the file, or of the generator with its arguments.
        fingerprint: The first 12 hexadecimal digits of the SHA-256 of the images as one unpacked IDX file.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    source: str
    fingerprint: str


def encode(levels: np.ndarray) -> bytes:
    """Write images as the bytes of an unpacked IDX file.

    Args:
        levels: Grey levels from 0 to 255, `[N, rows, columns]` of uint8.

    Returns:
        The header, 16 bytes, and N * rows * columns bytes of pixels.

    Raises:
        ValueError: If the levels are not a three-dimensional array of uint8.

    >>> encode(np.zeros((1, 2, 2), np.uint8)).hex(" ", 4)
    '00000803 00000001 00000002 00000002 00000000'
    """
    if levels.ndim != 3 or levels.dtype != np.uint8:
        raise ValueError(f"levels have shape {levels.shape} and dtype {levels.dtype}; give [N, rows, columns] of uint8")
    return IMAGE_MAGIC + np.array(levels.shape, ">u4").tobytes() + levels.tobytes()


def from_levels(levels: np.ndarray, source: str) -> Images:
    """Make a set of images from grey levels of one byte each.

    Args:
        levels: Grey levels from 0 to 255, `[N, rows, columns]` of uint8.
        source: Where they come from.

    Returns:
        The images; a level k becomes k / 255, correctly rounded to float32.
    """
    rows, columns = levels.shape[1:]
    pixels = levels.reshape(len(levels), -1).astype(np.float32) / np.float32(255)
    pixels.setflags(write=False)
    fingerprint = hashlib.sha256(encode(levels)).hexdigest()[:12]
    return Images(pixels, (rows, columns), source, fingerprint)


def load_images(folder: str | Path) -> Images:
    """Load the images of a folder of IDX files, the format in which MNIST and its relatives are published.

    The file is `train-images-idx3-ubyte` or, where that is absent, `t10k-images-idx3-ubyte`, with a dot or a
    dash before `idx3`, unpacked or with `.gz`. Under another name it is found when it alone in the folder
    begins as a file of images does. Whether a file is compressed is read from its content and not from its
    name.

    Args:
        folder: The folder.

    Returns:
        The images.

    Raises:
        FileNotFoundError: If there is no such folder, or no file of images in it.
        ImageFileError: If the path is not a folder, or the file is corrupt, truncated, too long, empty, or no
            IDX file of images.
    """
    path = find_image_file(Path(folder))
    return from_levels(decode(unpack(path), path), path.name)


def find_image_file(folder: Path) -> Path:
    """Find the file of images in a folder.

    Args:
        folder: The folder.

    Returns:
        The file's path.

    Raises:
        FileNotFoundError: If there is no such folder, or no file of images in it.
        ImageFileError: If the path is not a folder, or it is unclear which of its files is meant.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder; give a folder that holds {NAMES[0]}[.gz]")
    if not folder.is_dir():
        raise ImageFileError(f"{folder} is a file; give the folder that holds it")
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    magics = {path: leading_bytes(path) for path in sorted(folder.iterdir()) if path.is_file()}
    found = [path for path, magic in magics.items() if magic == IMAGE_MAGIC]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ImageFileError(f"{folder} holds several files of images ({names}); rename one to {NAMES[0]}")
    labels = [path.name for path, magic in magics.items() if magic == LABEL_MAGIC]
    present = f"labels only ({', '.join(labels)})" if labels else f"{len(magics)} files, none of them IDX images"
    raise FileNotFoundError(f"{folder} holds {present}; put {NAMES[0]}[.gz] into it")


def leading_bytes(path: Path) -> bytes:
    """Read the first four bytes of a file's content.

    Args:
        path: The file, unpacked or gzip.

    Returns:
        Four bytes, or fewer where the file is shorter, unreadable, or corrupt.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) != GZIP_MAGIC:
                file.seek(0)
                return file.read(4)
        with gzip.open(path) as file:
            return file.read(4)
    except (OSError, EOFError, zlib.error):
        return b""


def unpack(path: Path) -> bytes:
    """Read a file, decompressed where it is gzip.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        ImageFileError: If the file is gzip, and corrupt or cut off.
    """
    content = path.read_bytes()
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImageFileError(f"{path} is corrupt or cut off ({error}); fetch it again") from error


def decode(content: bytes, path: Path) -> np.ndarray:
    """Read the bytes of an unpacked IDX file of images.

    Args:
        content: The bytes.
        path: The file that they come from, for messages.

    Returns:
        Grey levels from 0 to 255, `[N, rows, columns]` of uint8.

    Raises:
        ImageFileError: If the content is not exactly one set of images.
    """
    magic = content[:4]
    if magic == LABEL_MAGIC:
        raise ImageFileError(f"{path} holds labels; the file of images is wanted, such as {NAMES[0]}")
    if magic[:3] == IMAGE_MAGIC[:3] and len(magic) == 4 and magic != IMAGE_MAGIC:
        raise ImageFileError(f"{path} has {magic[3]} dimensions; images have 3: how many, rows, columns")
    if magic != IMAGE_MAGIC:
        raise ImageFileError(
            f"{path} begins with {magic.hex() or 'nothing'}; an IDX file of images begins with {IMAGE_MAGIC.hex()}"
        )
    if len(content) < HEADER_BYTES:
        raise ImageFileError(f"{path} is cut off in its header of {HEADER_BYTES} bytes; fetch it again")
    count, rows, columns = (int(size) for size in np.frombuffer(content, ">u4", 3, 4))
    size = math.prod((count, rows, columns))
    if size == 0:
        raise ImageFileError(f"{path} declares {count} images of {rows} x {columns} pixels; one at least is needed")
    if len(content) - HEADER_BYTES != size:
        difference = "truncated" if len(content) - HEADER_BYTES < size else "too long"
        raise ImageFileError(
            f"{path} is {difference}: {count} images of {rows} x {columns} take {size} bytes, "
            f"there are {len(content) - HEADER_BYTES}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, size, HEADER_BYTES).reshape(count, rows, columns)
