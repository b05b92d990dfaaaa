#!/bin/sh
# The databases of emberq and Open WebUI with their roles; run once, by the first start of PostgreSQL.
# The owner of emberq's tables only migrates them, and grants the API and the workers what they need.
set -eu
secrets=${SECRETS:-/run/secrets}
run() { psql --username postgres --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$@"; }
make_role() {
    NAME=$1 PASSWORD=$(cat "$secrets/$2-password") run <<'SQL'
\getenv name NAME
\getenv password PASSWORD
CREATE ROLE :"name" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'password';
SQL
}
make_database() {
    run --set name="$1" --set owner="$2" <<'SQL'
CREATE DATABASE :"name" OWNER :"owner";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
    run --dbname "$1" --command 'CREATE EXTENSION IF NOT EXISTS vector'
}
for role in owner api worker; do make_role "emberq_$role" "$role"; done
make_role openwebui openwebui
make_database emberq emberq_owner
make_database openwebui openwebui
run --dbname emberq <<'SQL'
GRANT CONNECT ON DATABASE emberq TO emberq_api, emberq_worker;
GRANT USAGE ON SCHEMA public TO emberq_api, emberq_worker;
-- The API may end what the connections of a lost worker still hold.
GRANT emberq_worker TO emberq_api;
-- Below row-level security, keyword search uses its index only then.
ALTER FUNCTION pg_catalog.ts_match_vq(tsvector, tsquery) LEAKPROOF;
SQL
