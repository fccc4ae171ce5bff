#!/bin/bash
# Builds the application with Maven, and deploys and publishes it with SnapStart on a running thawd.
# usage: examples/spring-petstore/deploy.sh [--prime] [--runtime javaN] [NAME]      (default NAME: petstore)
# --prime: prime.json's events run before the snapshot is taken, so that clones have their code loaded and compiled.
# The server is found by THAW_ENDPOINT, by default http://127.0.0.1:8429. Needs a JDK from 17 on, maven,
# and the thaw command in PATH or in build/.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

prime=
name=petstore
runtime=
while [ $# -gt 0 ]; do
    case $1 in
        --prime) prime=prime.json ;;
        --runtime) runtime=$2 && shift ;;
        -*) sed -n '2,6s/^# //p' "$0" >&2 && exit 2 ;;
        *) name=$1 ;;
    esac
    shift
done
if [ -z "$runtime" ]; then # the oldest of this host's that can run Spring Boot 3
    runtime=java$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' /usr/lib/jvm/*/release | sort -n | awk '$1 >= 17' | head -1)
fi
thaw=$(readlink -f "${THAW:-$(command -v thaw || echo ../../build/thaw)}")

echo "building with Maven"
mvn -q -B package
cp -r target/classes/. target/package/

"$thaw" deploy target/package "$name" --runtime "$runtime" --handler pets.StreamLambdaHandler --memory 1769 --timeout 30 \
    ${prime:+--prime "$prime"}
echo "with an event that it knows: --payload @examples/spring-petstore/event.json"
