"""Laws of the CURVES images: same bits for the same seed, every stroke smooth, soft and whole."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from precond_lab.training.curves import curves, draw, in_order, random_points
from precond_lab.training.idx import encode, load_images


def levels(images):
    return np.rint(images.pixels * 255).astype(np.uint8).reshape(-1, *images.shape)


def test_the_images_are_these_bits_on_every_machine(tmp_path):
    images = curves(300, seed=7, cache=tmp_path)
    assert images.fingerprint == "2bffd62cda40"
    assert images.fingerprint == hashlib.sha256(encode(levels(images))).hexdigest()[:12]


def test_the_first_images_of_a_larger_set_are_those_of_a_smaller(tmp_path):
    small, large = curves(50, cache=tmp_path), curves(300, cache=tmp_path)
    assert np.array_equal(small.pixels, large.pixels[:50])


def test_another_seed_gives_other_curves(tmp_path):
    one, other = curves(20, seed=0, cache=tmp_path), curves(20, seed=1, cache=tmp_path)
    assert not np.any(np.all(one.pixels == other.pixels, axis=1))


def test_pixels_are_grey_levels_of_images(tmp_path):
    images = curves(200, cache=tmp_path)
    assert images.pixels.shape == (200, 784)
    assert images.pixels.dtype == np.float32
    assert images.shape == (28, 28)
    assert images.pixels.min() == 0
    assert images.pixels.max() == 1
    grey = (images.pixels > 0) & (images.pixels < 1)
    assert np.all(grey.any(axis=1))  # edges are soft in every image


def test_strokes_pass_through_their_points():
    # Every point P_i is the center of a stamp, and within sqrt(1/2) of the center of its pixel, where the
    # stroke is full up to a distance of 1.
    points = in_order(random_points(500, seed=3))
    image = draw(points)
    column, row = np.floor(points).astype(int).transpose(2, 0, 1)
    assert np.all(image[np.arange(500)[:, None], row, column] == 255)


def test_no_stroke_is_cut_by_the_frame():
    # The stroke ends 13.875 from the center of the image at the farthest, where the middle point and an end
    # lie on opposite sides of the square and the other end beside the first. Pixels of the border have
    # centers 13.5 away.
    extreme = np.array([[[4.5, 14], [23.5, 14], [23.5, 14]], [[14, 23.5], [14, 4.5], [14, 4.5]]], np.float32)
    assert 0 < draw(extreme).max(axis=(0, 1))[-1] <= 255 * 0.375 + 0.5
    assert 0 < draw(extreme).max(axis=(0, 2))[0] <= 255 * 0.375 + 0.5
    image = draw(in_order(random_points(2000, seed=4)))
    assert image[:, [0, -1]].max() <= 255 * 0.375 + 0.5
    assert image[:, :, [0, -1]].max() <= 255 * 0.375 + 0.5


def test_a_straight_stroke_has_the_stated_profile():
    # The vertical line x = 14 lies between two columns of pixels; centers are 0.5, 1.5, 2.5 away: levels 1,
    # 0.5, 0. Stamps lie 19/128 apart, hence within d = 9.5/128 of a row's center, which lengthens the
    # distance 1.5 by at most d^2 / 3 < 0.5/255; rounding adds half a level.
    line = draw(np.array([[[14, 4.5], [14, 14], [14, 23.5]]], np.float32))[0].astype(int)
    middle = line[5:23]
    assert np.all(middle[:, [11, 16]] == 0)
    assert np.all(np.abs(middle[:, [12, 15]] - 255 * 0.5) <= 1)
    assert np.all(middle[:, 13:15] == 255)
    assert np.all(line[:2] == 0)


def test_symmetries_of_the_square_are_symmetries_of_the_drawing():
    # With coordinates that are multiples of 1/256, transposing the points is exact.
    points = np.round(in_order(random_points(100, seed=5)) * 256) / np.float32(256)
    assert np.array_equal(draw(points[:, :, ::-1]), draw(points).transpose(0, 2, 1))
    assert np.array_equal(draw(points[:, ::-1]), draw(points))


def test_chords_turn_by_at_most_120_degrees():
    p = in_order(random_points(5000, seed=6)).astype(np.float64)
    first, second = p[:, 1] - p[:, 0], p[:, 2] - p[:, 1]
    cosine = np.sum(first * second, axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    # -1/2 but for the rounding of squared distances in single precision, which may swap nearly equal sides.
    assert cosine.min() >= -0.5 - 16 * 2**-24


def test_points_are_uniform_on_the_square():
    points = random_points(10_000, seed=8).astype(np.float64)
    assert points.min() >= 4.5
    assert points.max() < 23.5
    # Mean 14 and variance 19^2/12, each within five standard deviations of the estimate from 60,000 draws.
    assert abs(points.mean() - 14) <= 5 * np.sqrt(361 / 12 / 60_000)
    assert abs(points.var() - 361 / 12) <= 5 * 361 * np.sqrt((1 / 80 - 1 / 144) / 60_000)


def test_the_cache_is_used_and_repaired(tmp_path):
    drawn = curves(30, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    os.utime(path, ns=(0, 0))
    assert curves(30, cache=tmp_path).fingerprint == drawn.fingerprint
    assert path.stat().st_mtime_ns == 0  # read, not written again
    whole = path.read_bytes()
    for damaged in (b"", b"garbage", whole[: len(whole) // 2], whole[:200] + b"\x00" * 50 + whole[250:]):
        path.write_bytes(damaged)
        assert curves(30, cache=tmp_path).fingerprint == drawn.fingerprint
        assert path.read_bytes() != damaged
        assert list(tmp_path.iterdir()) == [path]  # no temporary file is left


def test_a_cache_of_other_images_is_drawn_anew(tmp_path):
    drawn = curves(30, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    other = levels(curves(30, seed=1, cache=tmp_path / "other"))
    for stored in (
        {"levels": other},
        {"levels": other, "fingerprint": drawn.fingerprint},
        {"levels": other[:3]},
    ):
        np.savez(path, **stored)
        assert np.array_equal(curves(30, cache=tmp_path).pixels, drawn.pixels)


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match="could not be kept"):
        images = curves(10, cache=tmp_path / "file" / "folder")
    assert images.pixels.shape == (10, 784)


def test_curves_survive_as_an_idx_file(tmp_path):
    images = curves(40, cache=tmp_path / "cache")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(encode(levels(images)))
    loaded = load_images(tmp_path)
    assert np.array_equal(loaded.pixels, images.pixels)
    assert loaded.fingerprint == images.fingerprint


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-1, 0), (1, -1)])
def test_wrong_arguments_are_refused(tmp_path, count, seed):
    with pytest.raises(ValueError, match="at least"):
        curves(count, seed, cache=tmp_path)


def test_the_package_loads_neither_jax_nor_numpy():
    code = (
        "import sys, precond_lab.training as t;"
        "assert not {'jax', 'numpy'} & set(sys.modules), 'loaded at import';"
        "dir(t); t.curves.curves; t.Images; assert 'jax' not in sys.modules, 'loaded by the images'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
