"""How many injected planets, and how many false alarms of the noise, pass a network: completeness and reliability."""
