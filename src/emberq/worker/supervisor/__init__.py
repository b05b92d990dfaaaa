"""The supervisor process: worker slots, their restarts, reloads and the warm-up before the first fork."""
