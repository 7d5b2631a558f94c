"""MAE and RMSE against scikit-learn."""

import numpy as np
import pytest

from trainables.metrics import mae, rmse

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@pytest.fixture
def ages() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    age = rng.integers(0, 70, 200).astype(np.int16)
    return (age + rng.normal(0, 4, 200)).astype(np.float32), age


def test_mae_and_rmse_agree_with_scikit_learn(ages):
    predicted, age = ages
    assert mae(predicted, age) == pytest.approx(sklearn_metrics.mean_absolute_error(age, predicted.astype(float)))
    assert rmse(predicted, age) == pytest.approx(sklearn_metrics.root_mean_squared_error(age, predicted.astype(float)))


def test_a_column_of_predictions_is_refused_instead_of_broadcast():
    with pytest.raises((ValueError, TypeError)):  # TypeError where jaxtyping checks the shape first
        mae(np.zeros((3, 1), np.float32), np.zeros(3, np.int16))


def test_no_faces_have_no_error():
    with pytest.raises(ValueError, match="no faces"):
        mae(np.zeros(0, np.float32), np.zeros(0, np.int16))
