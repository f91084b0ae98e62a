"""The drawing of a page with its fields."""

import numpy as np
import pytest

from nnpipe.forms.drawing import BLUE, Mark, upright


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("tilt", [-8, 0, 8])
def test_a_page_is_drawn_upright(quarters, tilt):
    """A field is where it was, however the page lies in the scanner; a small tilt stays."""
    page = np.zeros((60, 100), np.uint8)
    page[10:20, 30:70] = 255
    corners = np.array([[30, 10], [70, 10], [70, 20], [30, 20]], float)
    angle = np.deg2rad(tilt)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = (corners - corners[0]) @ turn + corners[0]
    lying, there = page, corners
    for _ in range(quarters):
        width = lying.shape[1]
        lying = np.rot90(lying)
        there = np.column_stack([there[:, 1], width - there[:, 0]])
    shown, (mark,) = upright(lying, [Mark(there, "a", BLUE)])
    np.testing.assert_array_equal(shown, page)
    np.testing.assert_allclose(mark.corners, corners)
