"""Admission, tickets, recovery and events: which job runs when, and who hears of it."""
