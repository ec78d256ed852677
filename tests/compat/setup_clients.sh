#!/bin/sh
# Make the virtual environment of tests/compat: PyPI's pymesos and chronos-python as they are, in .cache/clients/venv.
#
# The parser that pymesos needs, http-parser, ships C source made by a Cython too old for Python 3.11; it is made anew from its
# .pyx with Cython 0.29. Where there is no C compiler, its other parser, written in Python, is used: pymesos takes either.
set -eu
cd "$(dirname "$0")/../.."
home=$PWD/.cache/clients
stamp=$home/ready
mkdir -p .cache
exec 9>.cache/clients.lock
flock 9
[ "$stamp" -nt "$0" ] && [ -x "$home/venv/bin/python" ] && exit 0

rm -rf "$home"
mkdir -p "$home"
.venv/bin/python -m venv "$home/venv"
pip="$home/venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip install 'cython==0.29.37' 'setuptools<70' wheel
$pip download --no-deps --no-build-isolation --no-binary :all: --dest "$home" 'http-parser==0.9.0'
tar -C "$home" -xzf "$home/http-parser-0.9.0.tar.gz"
(cd "$home/http-parser-0.9.0/http_parser" && "$home/venv/bin/cython" -2 parser.pyx)
if ! $pip install --no-build-isolation "$home/http-parser-0.9.0" >"$home/build.log" 2>&1; then
    echo "http-parser cannot be compiled here (see $home/build.log): its Python files are used" >&2
    packages=$("$home/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir "$packages/http_parser"
    cp "$home"/http-parser-0.9.0/http_parser/*.py "$packages/http_parser"
fi
$pip install 'six==1.17.0' 'addict==2.4.0' 'kazoo==2.11.0'
$pip install 'httplib2==0.22.0' 'pyparsing==3.1.4'
$pip install --no-build-isolation --no-deps 'pymesos==0.3.15' 'chronos-python==1.2.1'
"$home/venv/bin/python" -c 'import chronos, pymesos'
touch "$stamp"
