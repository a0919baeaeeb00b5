"""Periods and durations against the papers' formulae, and the template's shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transit_cli.search import grid, template

# Gravitational constant times the Sun's mass (m3/s2) and the Sun's radius (m), IAU 2015 resolution B3.
GM_SUN, R_SUN, DAY = 1.3271244e20, 6.957e8, 86400.0


def test_a_central_transit_of_the_sun_lasts_as_long_as_kepler_s_law_says():
    for period in (1.0, 10.0, 365.25):
        distance = (GM_SUN * (period * DAY / (2 * np.pi)) ** 2) ** (1 / 3)
        assert grid.duration(period, 1.0) == pytest.approx(period / np.pi * R_SUN / distance, rel=1e-3)


def test_the_number_of_periods_is_that_of_ofir_2014():
    span, oversampling = 27.0, 3
    low, high = 0.6, 13.5
    a = (2 * np.pi) ** (2 / 3) / np.pi * R_SUN / GM_SUN ** (1 / 3) / (span * DAY * oversampling)  # eq. 5
    first, last = 1 / (high * DAY), 1 / (low * DAY)
    expected = (last ** (1 / 3) - first ** (1 / 3) + a / 3) * 3 / a  # eq. 7
    assert len(grid.periods(span, low, high)) == pytest.approx(expected, abs=2)


@settings(deadline=None)
@given(span=st.floats(5, 400), low=st.floats(0.2, 1), share=st.floats(0.3, 1), density=st.floats(0.05, 20))
def test_neighbouring_periods_never_drift_apart_by_more_than_their_share_of_a_transit(span, low, share, density):
    periods = grid.periods(span, low, share * span, density, oversampling=3)
    assert periods[0] == pytest.approx(low)
    assert periods[-1] == pytest.approx(share * span)
    drift = span * np.abs(np.diff(1 / periods)) * np.minimum(periods[:-1], periods[1:])
    assert (drift <= 1.02 * grid.duration(periods[1:], density) / 3).all()


def test_the_template_is_a_limb_darkened_transit():
    offset = np.linspace(-1.2, 1.2, 241)
    shape = template.shape(offset)
    assert shape.max() == pytest.approx(1, abs=1e-9)
    assert (shape[np.abs(offset) > 1] == 0).all()
    np.testing.assert_allclose(shape, shape[::-1], atol=1e-12)
    assert 0.5 < shape[np.abs(np.abs(offset) - 0.9).argmin()] < 0.95  # neither a box nor a V


def test_the_template_is_that_of_exoplanet_core_but_for_the_planet_s_finite_size():
    from exoplanet_core import quad_limbdark_light_curve

    offset = np.linspace(-0.999, 0.999, 301)
    along = np.sqrt((1 + template.RADIUS) ** 2 - template.IMPACT**2) * offset
    exact = -quad_limbdark_light_curve(*template.LIMB_DARKENING, np.hypot(along, template.IMPACT), template.RADIUS)
    np.testing.assert_allclose(template.shape(offset), exact / exact.max(), atol=0.02)


@given(width=st.floats(2, 12))
def test_a_kernel_holds_the_whole_template(width):
    kernel = template.kernel(width, 12)
    whole = template.shape(np.linspace(-1, 1, 20001)).mean()
    assert kernel.sum() == pytest.approx(width * whole, rel=0.02)
