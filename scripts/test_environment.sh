#!/usr/bin/env bash
# Run a short suite (data, metrics, one training per model family, private interfaces, wheel) with other versions than
# those of constraints.txt, in a separate virtual environment:
#
#     scripts/test_environment.sh newest     Python 3.13, the newest versions that pyproject.toml allows
#     scripts/test_environment.sh oldest     Python 3.11, the oldest versions that pyproject.toml allows
#
# A second argument `install` ends after the installation.
#
# Exit status 0: passed; 1: failed; 3: skipped, with the reason on standard output (no interpreter, not enough disk, pip
# failed).
# PYTHON chooses the interpreter, WORKERS the number of test processes (0: the tests run in pytest itself), NEEDED_GB the
# free disk space that is required.
set -euo pipefail
cd "$(dirname "$0")/.."

which=${1:-}
case $which in
newest) version=3.13 ;;
oldest) version=3.11 ;;
*)
	echo "usage: scripts/test_environment.sh newest|oldest" >&2
	exit 2
	;;
esac
NEEDED_GB=${NEEDED_GB:-10}
SUITE=(tests/data tests/metrics tests/cli/test_families.py tests/cli/test_wheel.py tests/test_private_interfaces.py)

skip() {
	echo "skipped: the $which versions on Python $version: $1"
	exit 3
}

runs() { "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; }

# Print a Python of the wanted version: $PYTHON, then the search path, then the versions of pyenv.
interpreter() {
	local candidate candidates=("${PYTHON:-python$version}" "python$version")
	if command -v pyenv >/dev/null; then candidates+=("$(pyenv root)"/versions/"$version".*/bin/python); fi
	for candidate in "${candidates[@]}"; do
		if runs "$candidate"; then
			command -v "$candidate"
			return
		fi
	done
	return 1
}

python=$(interpreter) || skip "no interpreter python$version (search path, pyenv); install it or set PYTHON"
env=.venv-$which
if [ ! -e "$env/.installed" ]; then
	free=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1048576))
	[ "$free" -ge "$NEEDED_GB" ] || skip "$free GB of disk are free, $NEEDED_GB GB are needed (NEEDED_GB)"
fi
if [ ! -e "$env/.installed" ] || [ pyproject.toml -nt "$env/.installed" ]; then
	echo "installing the $which versions on $($python --version) into $env"
	"$python" -m venv "$env"
	options=()
	if [ "$which" = oldest ]; then
		"$env/bin/python" scripts/oldest_versions.py >"$env/oldest.txt"
		options=(-c "$env/oldest.txt")
	fi
	# most modules are never imported; the packages are large (CUDA) and needed here only, so uv keeps no copy of them
	UV_NO_CACHE=1 "$env/bin/python" scripts/install.py --no-compile --upgrade "${options[@]}" -e '.[dev]' ||
		skip "pip cannot install them; its message is above"
	# compile what the tests import once, not in each of their processes; the tests report what cannot be imported
	PYTHONDONTWRITEBYTECODE= "$env/bin/python" -c 'import importlib, tests.ranks as ranks
for name in ranks.PRELOADED: importlib.import_module(name)' >/dev/null 2>&1 || true
	touch "$env/.installed"
fi
[ "${2:-}" != install ] || exit 0
"$env/bin/python" -c 'import sys; from importlib.metadata import version
for name in sys.argv[1:]: print(name, version(name), sep="==")' \
	torch pytorch-lightning hydra-core omegaconf numpy pandas pyarrow pydantic torchmetrics wandb matplotlib rich entmax
PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 STEMLAB_MOST_EXAMPLES=25 "$env/bin/python" -m pytest -q -n "${WORKERS:-2}" --dist loadfile -m "not slow" "${SUITE[@]}"
