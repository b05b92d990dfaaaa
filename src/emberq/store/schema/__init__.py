"""The tables, and the states of a job."""
