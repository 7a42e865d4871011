#!/bin/sh
# Install mmbench into .venv and run the demonstration; options go to `mmbench run`.
set -eu
cd "$(dirname "$0")/.."
sh .ci/setup sdv
exec .venv/bin/mmbench run "$@"
