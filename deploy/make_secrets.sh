#!/bin/sh
# Makes all secrets of a recipe once: passwords, the sealing key, Valkey's users, and a private authority with
# certificates for PostgreSQL and Valkey. Existing files are kept. Needs openssl.
#   deploy/make_secrets.sh deploy/openwebui/secrets       or deploy/kubernetes/secrets
set -eu
umask 077
target=${1:?usage: make_secrets.sh FOLDER}
users=$(cd "$(dirname "$0")" && pwd)/kubernetes/users.acl
mkdir -p "$target/tls"
cd "$target"

password() { [ -s "$1" ] || openssl rand -hex 24 | tr -d '\n' > "$1"; }
write() { [ -s "$1" ] || printf '%s' "$2" > "$1"; }

for name in postgres owner api worker openwebui valkey; do
    password "$name-password"
done
[ -s EMBERQ_SECRET_KEY ] || openssl rand -base64 32 | tr '+/' '-_' | tr -d '\n' > EMBERQ_SECRET_KEY
password WEBUI_SECRET_KEY

tls="sslmode=verify-full&sslrootcert=/tls/ca.crt"
for role in owner api worker; do
    mkdir -p "$role"
    write "$role/EMBERQ_DATABASE_URL" "postgresql://emberq_$role:$(cat "$role-password")@postgres/emberq?$tls"
done
for role in api worker; do
    write "$role/EMBERQ_REDIS_URL" "rediss://emberq:$(cat valkey-password)@valkey:6379/0?ssl_ca_certs=/tls/ca.crt"
    write "$role/EMBERQ_SECRET_KEY" "$(cat EMBERQ_SECRET_KEY)"
done
# Open WebUI reads variables only.
openwebui="postgresql://openwebui:$(cat openwebui-password)@postgres/openwebui?$tls"
write open-webui.env "WEBUI_SECRET_KEY=$(cat WEBUI_SECRET_KEY)
DATABASE_URL=$openwebui
PGVECTOR_DB_URL=$openwebui
"
[ -s users.acl ] || sed "s/THE-PASSWORD/$(cat valkey-password)/" "$users" > users.acl

cd tls
if [ ! -s ca.crt ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=emberq recipe" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout ca.key -out ca.crt 2>/dev/null
fi
for server in postgres valkey; do
    [ ! -s "$server.crt" ] || continue
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$server" \
        -keyout "$server.key" -out "$server.csr" 2>/dev/null
    printf 'subjectAltName=DNS:%s,DNS:%s.emberq\nextendedKeyUsage=serverAuth\n' "$server" "$server" > "$server.ext"
    openssl x509 -req -in "$server.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 \
        -extfile "$server.ext" -out "$server.crt" 2>/dev/null
    rm "$server.csr" "$server.ext"
done
cd ..
# Containers run under other numbers than yours and get single files: each is readable, the folder is not.
find . -type f ! -name ca.key -exec chmod a+r {} +
