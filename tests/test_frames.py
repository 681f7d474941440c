"""Pictures drawn in the background while the caller does something else."""

import threading

import pytest

from render.frames import drawn_ahead


def test_pictures_drawn_ahead_come_in_order_and_are_begun_before_they_are_asked_for():
    begun = threading.Event()

    def pictures():
        begun.set()
        yield from range(200)  # more than may wait

    with drawn_ahead(pictures()) as drawn:
        assert begun.wait(10)
        assert list(drawn) == list(range(200))


def test_an_error_comes_where_the_next_picture_would():
    def pictures():
        yield 1
        raise ValueError("expected a picture")

    with drawn_ahead(pictures()) as drawn:
        assert next(drawn) == 1
        with pytest.raises(ValueError, match="expected a picture"):
            next(drawn)


def test_who_leaves_early_leaves_nobody_drawing():
    closed = threading.Event()

    def pictures():
        try:
            yield from iter(int, 1)  # without end
        finally:
            closed.set()

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), drawn_ahead(pictures()) as drawn:
        assert next(drawn) == 0
        raise KeyboardInterrupt
    assert threading.active_count() == before and closed.wait(10)
