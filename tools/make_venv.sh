#!/bin/sh
# Makes the virtual environment VENV with the pinned packages, then writes STAMP.
#
#   sh tools/make_venv.sh VENV STAMP [PYTHON]
#
# Without PYTHON the first python3.11, python3.10, python3 or python on PATH
# is taken that runs as a Python 3.10 or 3.11 and can make environments.
# An environment that was finished before is brought up to date in place.
set -eu
venv=$1 stamp=$2 asked=${3:-}

fail() {
  echo "$1" >&2
  exit 1
}

# A name on PATH proves little: version managers leave commands there that only
# say that no such version is active. So every candidate is run.
version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' </dev/null 2>/dev/null
}
is_supported() {
  case $(version "$1") in 3.10 | 3.11) ;; *) return 1 ;; esac
}
# Debian packs ensurepip apart from Python.
can_make_venv() {
  "$1" -c 'import ensurepip, venv' </dev/null >/dev/null 2>&1
}

# Prints the first supported Python on PATH for which the command $1 succeeds.
first_on_path() {
  for name in python3.11 python3.10 python3 python; do
    old_ifs=$IFS
    IFS=:
    for folder in $PATH; do
      IFS=$old_ifs
      candidate=${folder:-.}/$name
      if [ -x "$candidate" ] && is_supported "$candidate" && $1 "$candidate"; then
        echo "$candidate"
        return
      fi
    done
    IFS=$old_ifs
  done
}

choose_python() {
  if [ -n "$asked" ]; then
    python=$asked
    found=$(version "$asked") ||
      fail "PYTHON=$asked does not run; give the path of a Python 3.10 or 3.11."
    is_supported "$asked" ||
      fail "PYTHON=$asked is Python $found; TensorFlow 2.15 needs 3.10 or 3.11."
  else
    python=$(first_on_path can_make_venv)
    [ -n "$python" ] || python=$(first_on_path true)
    [ -n "$python" ] ||
      fail 'No Python 3.10 or 3.11 on PATH; cdnet_tf needs one of them. With

  uv:     uv python install 3.11 && make PYTHON="$(uv python find --system 3.11)" install
  pyenv:  pyenv install -s 3.11 && make PYTHON="$(pyenv prefix 3.11)/bin/python" install
  conda:  conda create -y -n py311 python=3.11 && conda run -n py311 make install

Afterwards the other targets need no PYTHON.'
  fi
  can_make_venv "$python" ||
    fail "$python has no ensurepip, without which it cannot make $venv.
On Debian and Ubuntu: apt-get install python$(version "$python")-venv
Or name another interpreter: make PYTHON=/path/to/python install"
}

# pip prints the cause itself.
pip_install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
    fail "The installation into $venv did not finish: see pip's message above."
}

if [ -e "$stamp" ] && [ -z "$asked" ] && is_supported "$venv/bin/python"; then
  echo "Bringing $venv up to date."
  rm "$stamp"
else
  choose_python
  echo "Installing TensorFlow 2.15 and the rest into $venv with $python; takes minutes."
  rm -f "$stamp"
  "$python" -m venv --clear "$venv"
  # The tests install into an environment of their own, which older ones cannot.
  pip_install 'pip>=22.3'
fi
pip_install -c requirements_lock.txt -e '.[dev]'
# Reads the authors' checkpoints; without it those tests are skipped. PyPI's builds for
# Linux bring gigabytes of CUDA, so there it is a CPU build or none.
torch=2.13.0
case $(uname -s) in Linux) torch=$torch+cpu ;; esac
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 1 \
  --timeout 15 --extra-index-url https://download.pytorch.org/whl/cpu \
  -c requirements_lock.txt "torch==$torch" ||
  echo 'No CPU build of PyTorch in reach: the tests of its checkpoints are skipped.'
touch "$stamp"
