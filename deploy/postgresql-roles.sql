-- Roles of PostgreSQL for redistill's processes: who may write what. docs/threat-model.md says what that stops.
--
-- Run as the owner of the tables after each `redistill db upgrade` (a new table gives nobody but that owner a right), for example
--   psql "$REDISTILL_DATABASE" -v ON_ERROR_STOP=1 -f deploy/postgresql-roles.sql
-- Once before it, with passwords of their own:
--   CREATE ROLE redistill_stream LOGIN PASSWORD '...';  CREATE ROLE redistill_repair LOGIN PASSWORD '...';
--   CREATE ROLE redistill_alerts LOGIN PASSWORD '...';  CREATE ROLE redistill_reader LOGIN PASSWORD '...';

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM redistill_stream, redistill_repair, redistill_alerts, redistill_reader;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO redistill_stream, redistill_repair, redistill_alerts, redistill_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO redistill_stream, redistill_repair, redistill_alerts, redistill_reader;

-- redistill run stream: what is measured. No audit entry, no request, no release, no incident, no job.
GRANT INSERT, UPDATE, DELETE ON accuracy_states, counters, facts, feature_rows, findings, gaps, input_states, join_rates, join_rows, label_request_rows,
  label_request_states, label_requests, labels, leases, model_locks, offsets, outbox, outcomes, processes, profiles, unregistered, windows TO redistill_stream;
GRANT UPDATE (revision, updated_at) ON specs TO redistill_stream;

-- redistill run repair, and the commands of people: everything but the schema.
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO redistill_repair;
REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM redistill_repair;
-- The audit is written and never changed.
REVOKE UPDATE, DELETE ON audit FROM redistill_repair;

-- redistill run alerts: whom it told what.
GRANT INSERT, UPDATE, DELETE ON alert_deliveries, alert_holds, facts, leases, operational_alerts, processes, storm_members TO redistill_alerts;

-- redistill run web: see RUNBOOK.md. redistill_reader is for check-history, models, incidents list: it writes nothing.

GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO redistill_stream, redistill_repair, redistill_alerts;
