#!/usr/bin/env bash
# Sets up the environment if there is none and runs the tests; arguments go to pytest: bash tests/run.sh tests/data
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/setup_env.sh

# The models of the tests are tiny, so that two processes of one thread each are faster than one with two.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "${python:?}" -m pytest -q -n "${TEST_PROCESSES:-2}" --dist loadfile "$@"
