#!/bin/sh
# A database for each of the two, with pgvector in both; run once, by the first start of PostgreSQL.
set -eu
make() {
    psql --username postgres --set ON_ERROR_STOP=1 --set name="$1" --set password="$2" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
    psql --username postgres --dbname "$1" --set ON_ERROR_STOP=1 --command 'CREATE EXTENSION vector'
}
make emberq "$EMBERQ_DB_PASSWORD"
make openwebui "$OPENWEBUI_DB_PASSWORD"
