#!/bin/sh
# Compiles the Java runtime's program into thaw-runtime.jar beside this script, when a JDK is there and it is not newer
# than its sources. No JDK, no jar, and no java runtimes: the server says so when it starts.
set -eu
cd "$(dirname "$(readlink -f "$0")")"
jar=thaw-runtime.jar
[ -f "$jar" ] && [ -z "$(find src build.sh -newer "$jar" -print -quit)" ] && exit 0
home=
for javac in /usr/lib/jvm/*/bin/javac; do
    [ -x "$javac" ] || continue
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "${javac%/bin/javac}/release")
    [ "${version:-0}" -lt 11 ] || { home=${javac%/bin/javac}; break; }
done
[ -n "$home" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
find src -name '*.java' -exec "$home/bin/javac" -nowarn -Xlint:-options --release 11 -d "$work/classes" {} +
# The jar stays uncompressed: the virtual machine maps what it need not inflate.
"$home/bin/jar" --create --no-compress --file "$work/$jar" -C "$work/classes" .
mv "$work/$jar" "$jar"
