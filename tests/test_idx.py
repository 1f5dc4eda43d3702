"""Laws of the IDX reader: what is written is read, and what is wrong is named."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from precond_lab.training.idx import ImageFileError, encode, load_images

MNIST = Path(__file__).parents[1].parent / "shared" / "data" / "mnist"
LEVELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) * 4
CONTENT = encode(LEVELS)
ZIPPED = gzip.compress(CONTENT, mtime=0)  # without the time of day, which would make another test name every second
LABELS = b"\x00\x00\x08\x01" + np.array(5, ">u4").tobytes() + bytes(5)


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_is_written_is_read(tmp_path, part, separator, suffix):
    name = f"{part}-images{separator}idx3-ubyte{suffix}"
    (tmp_path / name).write_bytes(ZIPPED if suffix else CONTENT)
    (tmp_path / f"{part}-labels{separator}idx1-ubyte").write_bytes(LABELS)
    images = load_images(tmp_path)
    assert images.pixels.dtype == np.float32
    assert images.pixels.shape == (5, 12)
    assert images.shape == (4, 3)
    assert images.source == name
    # k/255 in float32 lies within u k/255 of the quotient, so that rounding 255 times it gives k back.
    assert np.array_equal(np.rint(images.pixels.astype(np.float64) * 255), LEVELS.reshape(5, 12))
    assert images.fingerprint == hashlib.sha256(CONTENT).hexdigest()[:12]


def test_training_images_are_preferred_to_test_images(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(encode(LEVELS[:1]))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(ZIPPED)
    assert len(load_images(tmp_path).pixels) == 5


def test_a_single_file_of_images_is_found_under_any_name(tmp_path):
    (tmp_path / "fashion.bin").write_bytes(ZIPPED)
    (tmp_path / "notes.txt").write_text("an unrelated file")
    (tmp_path / "classes").write_bytes(LABELS)
    assert load_images(tmp_path).source == "fashion.bin"


def test_compression_is_read_from_the_content_and_not_from_the_name(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(CONTENT)
    assert len(load_images(tmp_path).pixels) == 5


def test_levels_span_zero_to_one(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(encode(np.array([[[0, 255]]], np.uint8)))
    assert load_images(tmp_path).pixels.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(CONTENT[:-1], "truncated: 5 images of 4 x 3 take 60 bytes, there are 59", id="cut off by a byte"),
        pytest.param(
            CONTENT + b"\x00", "too long: 5 images of 4 x 3 take 60 bytes, there are 61", id="a byte too long"
        ),
        pytest.param(CONTENT[:10], "cut off in its header", id="half a header"),
        pytest.param(b"", "begins with nothing", id="empty"),
        pytest.param(b"\x00\x00\x08", "begins with 000008", id="three bytes"),
        pytest.param(b"<html>not found</html>", "begins with 3c68746d", id="a page"),
        pytest.param(
            b"\x00\x00\x0d\x03" + CONTENT[4:], "begins with 00000d03", id="another type"
        ),  # single precision, not bytes
        pytest.param(b"\x00\x00\x08\x02" + CONTENT[4:], "has 2 dimensions; images have 3", id="two dimensions"),
        pytest.param(LABELS, "holds labels", id="labels"),
        pytest.param(encode(LEVELS[:0]), "declares 0 images", id="no images"),
        pytest.param(
            b"\x00\x00\x08\x03" + b"\xff" * 12, "truncated: 4294967295 images", id="absurd size"
        ),  # no allocation of that size
        pytest.param(ZIPPED[:-9], "corrupt or cut off", id="gzip cut off"),
        pytest.param(ZIPPED[:12], "corrupt or cut off", id="gzip header alone"),
        pytest.param(ZIPPED[:-8] + bytes(8), "corrupt or cut off", id="gzip with a wrong checksum"),
        pytest.param(ZIPPED[:10] + b"\xff" * 30, "corrupt or cut off", id="gzip of nonsense"),
        pytest.param(gzip.compress(CONTENT[:-1], mtime=0), "truncated", id="gzip of a file cut off"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, content, message):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ImageFileError, match=message) as raised:
        load_images(tmp_path)
    assert "train-images-idx3-ubyte" in str(raised.value)


def test_a_wrong_training_file_is_not_passed_over_for_the_test_file(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(CONTENT[:-1])
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(CONTENT)
    with pytest.raises(ImageFileError, match="truncated"):
        load_images(tmp_path)


def test_a_wrong_folder_is_named_with_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_images(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="0 files, none of them"):
        load_images(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(LABELS)
    with pytest.raises(FileNotFoundError, match=r"labels only \(train-labels-idx1-ubyte\)"):
        load_images(tmp_path)
    with pytest.raises(ImageFileError, match="is a file; give the folder"):
        load_images(tmp_path / "train-labels-idx1-ubyte")
    (tmp_path / "one").write_bytes(CONTENT)
    (tmp_path / "two").write_bytes(ZIPPED)
    with pytest.raises(ImageFileError, match=r"several files of images \(one, two\)"):
        load_images(tmp_path)


def test_encode_refuses_what_is_not_bytes_of_images():
    with pytest.raises(ValueError, match="uint8"):
        encode(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="uint8"):
        encode(np.zeros((2, 2), np.uint8))


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not beside this repository")
def test_mnist_test_images():
    images = load_images(MNIST)
    assert images.source == "t10k-images-idx3-ubyte.gz"
    assert images.pixels.shape == (10_000, 784)
    assert images.shape == (28, 28)
    assert images.pixels.min() == 0
    assert images.pixels.max() == 1
    assert np.sum(images.pixels.max(axis=0) == 0) == 116  # the pixels that are black in every test image
