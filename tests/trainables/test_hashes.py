"""Perceptual hashes of pictures, against an independent transform; copies are near, other pictures are far."""

import io

import cv2
import numpy as np
from PIL import Image
from scipy.fft import dctn

from study.align.datasets.built_in import PEOPLE, STRANGERS
from trainables.faces.hashes import NEAR, nearest, picture_hash, stacked


def small(picture: Image.Image) -> np.ndarray:
    return cv2.resize(np.asarray(picture.convert("RGB")), (32, 32), interpolation=cv2.INTER_AREA)


def test_a_bit_is_a_frequency_above_the_median():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    grey = 0.299 * pixels[..., 0] + 0.587 * pixels[..., 1] + 0.114 * pixels[..., 2]
    # scipy's orthonormal transform has the first row and column smaller by the square root of two
    low = dctn(grey, norm="ortho")[:16, :16]
    low[0] *= 2**0.5
    low[:, 0] *= 2**0.5
    bits = np.unpackbits(np.frombuffer(picture_hash(pixels), np.uint8)).astype(bool)
    values = low.ravel()
    assert (bits == (values > np.median(values[1:]))).all()


def test_the_nearest_is_the_one_with_the_fewest_other_bits():
    rng = np.random.default_rng(1)
    ours, theirs = (rng.integers(1, 256, (rows, 32), dtype=np.uint8) for rows in (7, 40))
    theirs[3] = ours[2] ^ np.array([1] + [0] * 30 + [128], np.uint8)
    by_hand = np.unpackbits(ours[:, None] ^ theirs[None], axis=2).sum(axis=2).min(axis=1).tolist()
    assert nearest(ours, theirs).tolist() == by_hand
    assert by_hand[2] == 2
    unknown = stacked([None, ours[0].tobytes()])
    assert nearest(unknown, ours).tolist() == [256, 0], "a picture without a hash is near to nothing"
    assert nearest(ours, stacked([None])).tolist() == [256] * 7
    assert nearest(ours, stacked([])).tolist() == [256] * 7


def test_copies_of_photos_are_near_and_photos_of_the_same_person_are_not():
    files = sorted((PEOPLE / "images").iterdir())[:60]
    photos = [Image.open(file).convert("RGB") for file in files]
    hashes = stacked([picture_hash(small(photo)) for photo in photos])
    for share, quality in ((1.0, 60), (0.7, 90), (1.5, 90)):
        made = []
        for photo in photos:
            data = io.BytesIO()
            size = round(photo.width * share), round(photo.height * share)
            photo.resize(size, Image.Resampling.BICUBIC).save(data, "JPEG", quality=quality)
            made.append(picture_hash(small(Image.open(data))))
        apart = [int(nearest(stacked([copy]), hashes[i : i + 1])[0]) for i, copy in enumerate(made)]
        assert max(apart) <= 20 < NEAR
    others = [int(nearest(hashes[i : i + 1], np.delete(hashes, i, axis=0))[0]) for i in range(len(files))]
    assert min(others) > NEAR
    strangers = [picture_hash(small(Image.open(file))) for file in sorted(STRANGERS.iterdir())[:300]]
    assert nearest(stacked(strangers), hashes).min() > NEAR
