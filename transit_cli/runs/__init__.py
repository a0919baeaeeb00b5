"""Run folders, read: `transit runs` and `transit watch`."""
