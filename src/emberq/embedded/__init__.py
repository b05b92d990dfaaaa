"""PostgreSQL and Valkey from their wheels, inside the data directory."""
