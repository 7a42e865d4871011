#!/bin/sh
# Install mmbench with its development tools into .venv and run the tests; options go to pytest.
set -eu
cd "$(dirname "$0")/.."
sh .ci/setup sdv,dev
exec .venv/bin/python -m pytest "$@"
