#!/usr/bin/env bash
# Sets up the environment if there is none and runs the tests; arguments go to pytest: bash tests/run.sh tests/data
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/setup_env.sh

# The models of the tests are tiny: more threads than two cost more than they give.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
exec "${python:?}" -m pytest -q "$@"
