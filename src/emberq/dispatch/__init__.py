"""Dispatch of jobs: uploads, admission, tickets, recovery and maintenance, and the host that runs workers."""
