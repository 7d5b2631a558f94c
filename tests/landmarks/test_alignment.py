"""A face comes out the same whatever its size, tilt and place; checked without the code's own algebra."""

import cv2
import numpy as np
import pytest

from study.landmarks.search import Landmarks
from study.landmarks.warp import (
    TEMPLATE,
    align_face,
    encode_face,
    face_matrix,
    five_points,
    padded_share,
    similarity,
    template,
)


def ibug(five: np.ndarray) -> np.ndarray:
    """68 points whose five are the given ones."""
    points = np.zeros((68, 2), np.float32)
    points[36:42], points[42:48], points[30], points[48], points[54] = five
    return points


def drawing(side: int) -> np.ndarray:
    """A smooth picture, the same at every size: any misplacement shows."""
    grid = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(grid, grid)
    waves = [np.sin(9 * x + 4 * y), np.cos(11 * y), np.sin(7 * x * y + 3 * x)]
    return np.stack([127 + 100 * wave for wave in waves], axis=2).round().astype(np.uint8)


def turned(five: np.ndarray, *, angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    turn = np.deg2rad(angle)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return five @ matrix.T + shift


def test_similarity_is_the_least_squares_solution_of_the_linear_system():
    rng = np.random.default_rng(0)
    for _ in range(20):
        source, target = rng.normal(size=(5, 2)) * 50, rng.normal(size=(5, 2)) * 50
        # x' = a x - b y + c; y' = b x + a y + d: four unknowns, ten equations, solved by NumPy
        system = np.zeros((10, 4))
        system[0::2] = np.column_stack([source[:, 0], -source[:, 1], np.ones(5), np.zeros(5)])
        system[1::2] = np.column_stack([source[:, 1], source[:, 0], np.zeros(5), np.ones(5)])
        a, b, c, d = np.linalg.lstsq(system, target.ravel(), rcond=None)[0]
        assert similarity(source, target) == pytest.approx(np.array([[a, -b, c], [b, a, d]]), rel=1e-9, abs=1e-9)


def test_similarity_refuses_points_that_coincide():
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2)), TEMPLATE)


def test_a_larger_coverage_shows_more_of_the_photo_at_the_same_place():
    photo = drawing(400)
    landmarks = Landmarks(ibug(TEMPLATE * 100 + 149.5), "ibug", "test")
    assert (align_face(photo, landmarks, size=100) == photo[150:250, 150:250]).all()
    assert (align_face(photo, landmarks, size=150, coverage=1.5) == photo[125:275, 125:275]).all()
    eyes = template(1.65)[:2]
    assert np.diff(eyes[:, 0]) == pytest.approx(np.diff(TEMPLATE[:2, 0]) / 1.65)
    assert (eyes.mean(axis=0) - 0.5) * 1.65 == pytest.approx(TEMPLATE[:2].mean(axis=0) - 0.5)


def test_the_padded_share_is_the_area_outside_of_the_photo():
    # a face whose square is 100 x 100 pixels, of which the photo's right edge leaves 80 columns
    landmarks = Landmarks(ibug(TEMPLATE * 100 - 0.5), "ibug", "test")
    matrix = face_matrix(landmarks, size=64)
    assert padded_share(matrix, size=64, width=80, height=300) == pytest.approx(0.2, abs=0.02)
    assert padded_share(matrix, size=64, width=100, height=100) == 0
    wide = face_matrix(landmarks, size=64, coverage=2.0)
    assert padded_share(wide, size=64, width=100, height=100) == pytest.approx(0.75, abs=0.02)


def test_five_points_of_both_schemes():
    points = np.arange(136, dtype=np.float32).reshape(68, 2)
    by_hand = [sum(points[36:42]) / 6, sum(points[42:48]) / 6, points[30], points[48], points[54]]
    assert five_points(points, scheme="ibug").tolist() == np.array(by_hand).tolist()
    assert five_points(points, scheme="fgnet").tolist() == points[[31, 36, 67, 48, 54]].tolist()


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("angle", [0.0, 30.0, -75.0])
def test_five_points_land_on_the_template(size, angle):
    five = turned(TEMPLATE * 100, angle=angle, scale=1.7, shift=(40.0, -13.0))
    matrix = face_matrix(Landmarks(ibug(five), "ibug", "test"), size=size)
    landed = five @ matrix[:, :2].T + matrix[:, 2]
    assert (landed + 0.5) / size == pytest.approx(TEMPLATE, abs=1e-5)


def test_a_photo_at_half_the_size_gives_the_same_face():
    five = (TEMPLATE * 0.5 + 0.25) * 800 - 0.5
    large = align_face(drawing(800), Landmarks(ibug(five), "ibug", "test"), size=96)
    half = align_face(drawing(400), Landmarks(ibug((five + 0.5) / 2 - 0.5), "ibug", "test"), size=96)
    assert np.abs(large.astype(int) - half).max() <= 3


def test_a_tilted_photo_gives_the_same_face():
    photo = drawing(600)
    five = (TEMPLATE * 0.4 + 0.3) * 600 - 0.5
    straight = align_face(photo, Landmarks(ibug(five), "ibug", "test"), size=128)
    matrix = cv2.getRotationMatrix2D((300, 300), 30, 1.0)
    tilted = cv2.warpAffine(photo, matrix, (600, 600), flags=cv2.INTER_CUBIC)
    points = five @ matrix[:, :2].T + matrix[:, 2]
    again = align_face(tilted, Landmarks(ibug(points), "ibug", "test"), size=128)
    assert np.abs(straight.astype(int) - again).max() <= 4


def test_a_face_that_shrinks_is_averaged_not_aliased():
    checkers = np.indices((1024, 1024)).sum(0) % 2 * 255
    photo = np.repeat(checkers[:, :, None], 3, axis=2).astype(np.uint8)
    face = align_face(photo, Landmarks(ibug(TEMPLATE * 1024 - 0.5), "ibug", "test"), size=64)
    assert np.abs(face[2:-2, 2:-2].astype(int) - 127).max() <= 8


def test_a_face_at_the_border_is_filled_by_its_mirror_image():
    photo = np.full((100, 100, 3), 200, np.uint8)
    five = TEMPLATE * 100 - 40
    assert align_face(photo, Landmarks(ibug(five), "ibug", "test"), size=64).min() == 200


def test_encoding_gives_the_same_bytes_and_nearly_the_same_pixels():
    face = drawing(128)
    encoded = encode_face(face, quality=95)
    assert encoded == encode_face(face, quality=95)
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decoded.astype(int) - face).mean() < 1.5
