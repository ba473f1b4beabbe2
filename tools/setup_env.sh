# shellcheck shell=bash
# Makes or reuses the virtual environment, then names its Python in $python. To be sourced.
#
# The environment lies in .venv beside requirements.txt, or in the folder that EASEL_VENV names. Packages are
# installed only when requirements.txt or the Python version has changed since the last whole installation.
# pip's own variables (PIP_INDEX_URL, PIP_CERT, ...) and its configuration file are honoured.

# Prints its arguments to stderr as one sentence and ends the program.
stop_setup() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Whether this Python is one that the packages can be installed for.
fitting_python() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

# Prints a fitting Python of the machine; the one that is active comes first.
find_python() {
    local name found=""
    for name in python3 python python3.13 python3.12 python3.11; do
        if fitting_python "$name"; then
            command -v "$name"
            return
        fi
        found="$found$("$name" -c 'import sys; print("", sys.version.split()[0], end="")' 2>/dev/null || true)"
    done
    stop_setup "Python 3.11, 3.12 or 3.13 is needed, but this machine has${found:- none}." \
        "Install one (for instance python3.12 and python3.12-venv) and start again."
}

# Makes an empty environment in folder $1, unless there is a working one.
make_environment() {
    local base
    if "$1/bin/python" -c '' 2>/dev/null; then
        fitting_python "$1/bin/python" ||
            stop_setup "the Python in $1 is not 3.11, 3.12 or 3.13: remove that folder, or name another by EASEL_VENV."
        return
    fi
    if [ -n "$(ls -A "$1" 2>/dev/null)" ] && [ ! -e "$1/pyvenv.cfg" ]; then
        stop_setup "$1 is not a virtual environment and not empty: name another folder by EASEL_VENV."
    fi
    base=$(find_python) || exit 1
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        stop_setup "$base cannot make virtual environments. On Debian and Ubuntu:" \
            "apt install python$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    echo "Making a virtual environment in $1 with $("$base" -V)."
    "$base" -m venv --clear "$1" || stop_setup "no virtual environment could be made in $1."
}

# Prints what the installed packages depend on: the hash of requirements.txt and the Python version.
installation_key() {
    "$1" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), "%d.%d.%d" % sys.version_info[:3])' "$2"
}

# Installs requirements.txt $2 into environment $1. The stamp comes last, so a broken installation is tried again.
install_packages() {
    local key stamp="$1/easel-installed.txt"
    key=$(installation_key "$1/bin/python" "$2")
    [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return
    rm -f "$stamp"
    echo "Installing the packages of requirements.txt into $1: up to 3 GB to download, 6 GB on disk, some minutes."
    "$1/bin/python" -m pip install -qq --disable-pip-version-check --requirement "$2" ||
        stop_setup "the installation failed; pip says why above. Start again to go on with it." \
            "Behind a mirror set PIP_INDEX_URL, behind a proxy HTTPS_PROXY."
    echo "$key" >"$stamp"
}

# Everything above, one start at a time: a second one waits for the first. The lock is on the folder itself, so it
# ends with the program, however that ends. (macOS has no flock and goes without.)
set_up_environment() {
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    EASEL_VENV=${EASEL_VENV:-$root/.venv}
    mkdir -p "$EASEL_VENV" || stop_setup "$EASEL_VENV cannot be made: name another folder by EASEL_VENV."
    EASEL_VENV=$(cd "$EASEL_VENV" && pwd)
    exec 9<"$EASEL_VENV"
    if command -v flock >/dev/null && ! flock --nonblock 9; then
        echo "Waiting for another start that sets up $EASEL_VENV."
        flock 9
    fi
    make_environment "$EASEL_VENV"
    install_packages "$EASEL_VENV" "$root/requirements.txt"
    exec 9>&-
    # shellcheck disable=SC2034 # for the program that sources this
    python=$EASEL_VENV/bin/python
}

set_up_environment
