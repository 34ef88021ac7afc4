# Sourced by the other scripts: `prepare run` or `prepare test` makes .venv at the repository's root from the
# lock files, once per change of them. EXO_CUDA=1 takes MLX's CUDA build, EXO_PYTHON names the Python to use.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The project runs from the checkout: ahead of everything installed, and whatever folder it is started from.
export PYTHONPATH=$root PYTHONSAFEPATH=1
python=$root/.venv/bin/python

say() { echo "$*" >&2; } # standard output is the program's own

die() {
    say "$*"
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local name
    if [ -n "${EXO_PYTHON:-}" ]; then
        is_new_enough "$EXO_PYTHON" || die "EXO_PYTHON=$EXO_PYTHON is not a Python 3.11 or later"
        echo "$EXO_PYTHON"
        return
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if is_new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    die "exo_actors needs Python 3.11 or later: install it (Debian, Ubuntu: apt install python3-venv; macOS: brew" \
        "install python), or name it, EXO_PYTHON=/path/to/python3"
}

make_venv() {
    local base
    base=$(find_python) || exit 1
    rm -rf "$root/.venv"
    "$base" -m venv "$root/.venv" >&2 || {
        rm -rf "$root/.venv"
        die "$base can't make virtual environments: install its venv package (Debian, Ubuntu: apt install" \
            "python3-venv) or name another Python, EXO_PYTHON=/path/to/python3"
    }
}

prepare() {
    local base=run other=cuda locked=$root/.venv/locked name names fresh=yes files=()
    if [ "${EXO_CUDA:-0}" = 1 ]; then base=cuda other=run; fi
    names=$base
    if [ "$1" = test ]; then names="$base test"; fi
    for name in $names; do
        cmp -s "$root/requirements/$name.txt" "$locked/$name.txt" || fresh=no
        files+=(-r "$root/requirements/$name.txt")
    done
    if [ $fresh = yes ] && [ -x "$python" ]; then return; fi

    say "Setting up $root/.venv (this happens once, and after an update) ..."
    if [ -e "$locked/$other.txt" ] || ! "$python" -c 'import pip' 2>/dev/null; then make_venv; fi
    rm -rf "$locked"
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        "${files[@]}" >&2 || die "The packages could not be installed: see above; run this again to go on."
    mkdir "$locked"
    for name in $names; do cp "$root/requirements/$name.txt" "$locked/"; done
}
