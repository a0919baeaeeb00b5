"""Which operators MPS has, falls back on, refuses or gets wrong; and how to go on when it refuses one."""
