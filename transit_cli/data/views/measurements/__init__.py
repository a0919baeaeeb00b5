"""Measurements on transits for networks: shape, secondary dips, odd and even transits, centroids."""
