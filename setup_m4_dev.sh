#!/usr/bin/env bash
# Sets up everything that transit needs into .venv, on macOS (Apple silicon) and on Linux. Running it again is harmless.
#
#   ./setup_m4_dev.sh              what was tested (constraints.txt)
#   ./setup_m4_dev.sh --nightly    a PyTorch nightly instead: newest MPS operators, tested by nobody
#   ./setup_m4_dev.sh --check      only say what is missing
#
# It installs nothing outside .venv and never pipes a download into a shell: what is missing from the system, it names,
# with the command that brings it.
set -euo pipefail
cd "$(dirname "$0")"

nightly=no check=no
for argument in "$@"; do
  case "$argument" in
    --nightly) nightly=yes ;;
    --check) check=yes ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "error: unknown option $argument"; echo "  wanted: --nightly, --check or --help"; exit 2 ;;
  esac
done

say() { printf '%s\n' "$*"; }
fail() { # found, wanted, fix
  printf 'error: %s\n  wanted: %s\n  to fix: %s\n' "$1" "$2" "$3" >&2
  exit 5
}

system=$(uname -s) machine=$(uname -m)
case "$system" in
  Darwin)
    # Under Rosetta, uname says x86_64 on an Apple chip; this key says what the chip is.
    if [ "$(sysctl -n hw.optional.arm64 2>/dev/null || echo 0)" = 1 ] && [ "$machine" = x86_64 ]; then
      fail "this shell runs under Rosetta (x86_64 on Apple silicon)" "a native arm64 shell: MPS does not exist under Rosetta" \
        "run 'arch -arm64 $SHELL', then this script again"
    fi
    [ "$machine" = arm64 ] || say "note: this is an Intel Mac; PyTorch has no builds for it after 2.2, so this will fail below."
    xcode-select -p >/dev/null 2>&1 || fail "Apple's command line tools are missing" "a compiler, for the tests and some packages" "xcode-select --install"
    command -v brew >/dev/null 2>&1 || say "note: Homebrew is not installed; it is one way to get Python 3.11 (https://brew.sh)."
    ;;
  Linux) command -v c++ >/dev/null 2>&1 || say "note: no C++ compiler (c++); the tests that simulate an MPS device will be skipped." ;;
  *) fail "this system is $system" "macOS on Apple silicon, or Linux" "on Windows, use WSL 2" ;;
esac

# The version that was tested first, then any newer that is there.
python=""
for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
  [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
  if "$candidate" -c 'import sys; sys.exit(not (sys.version_info >= (3, 11) and sys.version_info < (3, 15)))' 2>/dev/null; then
    python=$(command -v "$candidate")
    break
  fi
done
[ -n "$python" ] || fail "no Python 3.11 or newer was found" "Python 3.11" \
  "$([ "$system" = Darwin ] && echo 'brew install python@3.11' || echo 'apt-get install python3.11 python3.11-venv, or your system'\''s own way')"
if [ "$system" = Darwin ] && [ "$("$python" -c 'import platform; print(platform.machine())')" != arm64 ] && [ "$machine" = arm64 ]; then
  fail "$python is an x86_64 Python under Rosetta" "an arm64 Python: MPS does not exist under Rosetta" \
    "brew install python@3.11, then PYTHON=/opt/homebrew/bin/python3.11 $0"
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python cannot make virtual environments" "the modules venv and ensurepip" "apt-get install python3-venv"

say "$system $machine, $("$python" --version) at $python"
[ "$check" = no ] || exit 0

if [ -x .venv/bin/python ] && ! .venv/bin/python -c 'import pip' 2>/dev/null; then
  say "note: .venv is broken (its Python has moved?); it is made anew."
  rm -rf .venv
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check)

# constraints.txt is what was tested, with Python 3.11; another Python takes what its own ranges allow.
constraints=(-c constraints.txt)
[ "$(.venv/bin/python -c 'import sys; print(*sys.version_info[:2], sep=".")')" = 3.11 ] || constraints=()
if [ "$nightly" = yes ]; then
  say "installing a PyTorch nightly: tested by nobody; './setup_m4_dev.sh' brings the tested one back"
  "${pip[@]}" install -q --upgrade --pre torch --index-url https://download.pytorch.org/whl/nightly/cpu
  grep -v '^torch==' constraints.txt >.venv/constraints-nightly.txt
  constraints=(-c .venv/constraints-nightly.txt)
else
  say "installing PyTorch (the largest part) ..."
  "${pip[@]}" install -q ${constraints[@]+"${constraints[@]}"} "$([ ${#constraints[@]} -gt 0 ] && grep '^torch==' constraints.txt || echo 'torch>=2.8')"
fi
say "installing transit and its tools ..."
"${pip[@]}" install -q ${constraints[@]+"${constraints[@]}"} -e '.[dev]'
touch .venv/.ready
say "ready: .venv/bin/transit (or: source .venv/bin/activate)"
