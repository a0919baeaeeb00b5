"""`transit doctor`: whether this machine will train well, and what to type where it will not."""
