"""A slider that is moved draws its figure again, and nothing but an image widget shows it."""

import matplotlib
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from coursekit.sliders import slide
from ipywidgets import FloatSlider, Image, Output

PNG = b"\x89PNG"


@pytest.fixture
def line():
    seen = []

    def draw(slope):
        seen.append(slope)
        figure, ax = plt.subplots()
        ax.plot([0, 1], [0, slope])
        return figure

    draw.seen = seen
    return draw


def test_the_figure_is_drawn_once_at_the_start_and_again_when_the_slider_moves(line):
    slider = FloatSlider(value=1.0, min=0.0, max=5.0)
    box = slide(line, slope=slider)
    picture = box.children[-1]
    first = bytes(picture.value)
    slider.value = 3.0
    assert line.seen == [1.0, 3.0]
    assert first.startswith(PNG)
    assert bytes(picture.value).startswith(PNG)
    assert bytes(picture.value) != first


def test_the_slider_is_named_after_the_argument_and_no_figure_stays_open(line):
    open_before = plt.get_fignums()
    box = slide(line, slope=FloatSlider(value=1.0))
    assert box.children[0].description == "slope"
    assert plt.get_fignums() == open_before


def test_no_output_widget_is_used_since_notebook_runners_hang_on_it(line):
    box = slide(line, slope=FloatSlider(value=1.0))
    assert not any(isinstance(child, Output) for child in box.children)
    assert isinstance(box.children[-1], Image)
