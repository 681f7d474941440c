import numpy as np

from models.averaging import moved_average


def test_an_average_forgets_its_start_and_then_slowly():
    values, average, wanted = np.random.default_rng(0).normal(size=200), {"x": 5.0}, 5.0
    for step, value in enumerate(values):
        average = moved_average(average, {"x": value}, step, 0.9)
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * value
    np.testing.assert_allclose(average["x"], wanted, rtol=1e-4)
    first = moved_average({"x": 5.0}, {"x": 1.0}, 0, 0.999)["x"]
    np.testing.assert_allclose(first, 1.4, rtol=1e-6)
