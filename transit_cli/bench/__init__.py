"""`transit bench`: how fast this machine trains and infers, and how near to its limits."""
