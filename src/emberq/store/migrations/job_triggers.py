"""Triggers on the table `jobs`, as revision 0001 creates them."""

from __future__ import annotations

from alembic import op


def create_job_triggers() -> None:
    """Create the trigger that refuses other transitions, and those that count outcomes."""
    _refuse_other_transitions()
    _count_past_outcomes()


def drop_job_trigger_functions() -> None:
    """Drop the functions; the triggers went with their table."""
    for function in ("refuse_transition", "count_deleted_outcomes", "count_retried_outcome"):
        op.execute(f"DROP FUNCTION {function}()")


def _refuse_other_transitions() -> None:
    # The condition lists every permitted change, so that the function only runs for a refused one.
    op.execute(
        """
        CREATE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'job % may not go from % to %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_transitions';
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER jobs_transitions BEFORE UPDATE OF state ON jobs FOR EACH ROW
        WHEN (OLD.state IS DISTINCT FROM NEW.state AND (OLD.state, NEW.state) NOT IN (
            ('pending', 'queued'), ('pending', 'cancelled'),
            ('queued', 'pending'), ('queued', 'processing'), ('queued', 'cancelled'),
            ('processing', 'pending'), ('processing', 'completed'),
            ('processing', 'failed'), ('processing', 'cancelled'),
            ('failed', 'pending'), ('cancelled', 'pending')
        ))
        EXECUTE FUNCTION refuse_transition()
        """
    )


def _count_past_outcomes() -> None:
    # One row per outcome, counted in groups: one statement may purge thousands of jobs.
    op.execute(
        """
        CREATE FUNCTION count_deleted_outcomes() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO past_outcomes AS past (state, error_code, jobs)
            SELECT state, coalesce(error_code, ''), count(*) FROM gone
            WHERE state IN ('completed', 'failed', 'cancelled')
            GROUP BY 1, 2 ORDER BY 1, 2
            ON CONFLICT (state, error_code) DO UPDATE SET jobs = past.jobs + EXCLUDED.jobs;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER jobs_outcomes_deleted AFTER DELETE ON jobs REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION count_deleted_outcomes()
        """
    )
    op.execute(
        """
        CREATE FUNCTION count_retried_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO past_outcomes AS past (state, error_code, jobs)
            VALUES (OLD.state, coalesce(OLD.error_code, ''), 1)
            ON CONFLICT (state, error_code) DO UPDATE SET jobs = past.jobs + 1;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER jobs_outcome_retried AFTER UPDATE OF state ON jobs FOR EACH ROW
        WHEN (OLD.state IN ('failed', 'cancelled') AND NEW.state = 'pending')
        EXECUTE FUNCTION count_retried_outcome()
        """
    )
