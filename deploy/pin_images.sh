#!/bin/sh
# Writes the newest digest of each base image into the Dockerfiles and manifests; needs docker and a registry.
set -eu
cd "$(dirname "$0")"
files=$(grep -rlE '@sha256:[0-9a-f]{64}' . --include=Dockerfile --include='*.yaml')
for image in $(grep -hoE '[a-z0-9./_-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}' $files | sort -u); do
    name=${image%@*}
    digest=$(docker buildx imagetools inspect "$name" --format '{{.Manifest.Digest}}')
    echo "$name $digest"
    sed -i.old "s|$image|$name@$digest|" $files
done
find . -name '*.old' -delete
