#!/bin/sh
# Install emberq into a fresh virtual environment, as `make demo` does, and print its size in MB, and the model's.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
started=$(date +%s)
make --no-print-directory -C "$here" VENV="$target/venv" "$target/venv/.default" >/dev/null
installed=$(date +%s)
EMBERQ_MODELS_DIR="$target/models" "$target/venv/bin/emberq" models pull >/dev/null
pulled=$(date +%s)
echo "virtual environment: $(du -sm "$target/venv" | cut -f1) MB, installed in $((installed - started)) s"
echo "default model:       $(du -sm "$target/models" | cut -f1) MB, in place after $((pulled - installed)) s"
if "$target/venv/bin/python" -c 'import torch' 2>/dev/null; then echo "torch is installed" >&2; exit 1; fi
