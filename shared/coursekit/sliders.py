"""`slide`: a figure that is drawn again when a slider is moved.

In place of ipywidgets' `interact`, whose Output widget makes notebook runners talk back to the kernel while it works: now and
then a message is lost, and papermill and nbgrader wait for ever (nbclient issue 312, papermill issue 723). An image widget needs no answer.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib.pyplot as plt
from ipywidgets import Image, ValueWidget, VBox
from matplotlib.figure import Figure

DPI = 90


def slide(draw: Callable[..., Figure], **controls: ValueWidget) -> VBox:
    """The controls (sliders, dropdowns; one for each argument of `draw`) over the figure that `draw` returns for their values.

    >>> slide(lambda w: plt.figure(), w=FloatSlider(min=-3, max=3))  # doctest: +SKIP
    """
    picture = Image(format="png")

    def redraw(_change: object = None) -> None:
        figure = draw(**{name: control.value for name, control in controls.items()})
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=DPI)
        plt.close(figure)
        picture.value = drawn.getvalue()

    for name, control in controls.items():
        control.description = control.description or name
        control.observe(redraw, names="value")
    redraw()
    return VBox([*controls.values(), picture])
