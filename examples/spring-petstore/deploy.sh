#!/bin/bash
# Builds the application with Maven, and deploys and publishes it with SnapStart on a running thawd.
# usage: examples/spring-petstore/deploy.sh [--prime] [--runtime javaN] [NAME]      (default NAME: petstore)
# --prime: prime.json's events run before the snapshot is taken, so that clones have their code loaded and compiled.
# The server is found by THAW_ENDPOINT, by default http://127.0.0.1:8429. Needs a JDK from 17 on, maven, zip and the AWS CLI.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

prime=
name=petstore
runtime=
while [ $# -gt 0 ]; do
    case $1 in
        --prime) prime=prime.json ;;
        --runtime) runtime=$2 && shift ;;
        -*) sed -n '2,5s/^# //p' "$0" >&2 && exit 2 ;;
        *) name=$1 ;;
    esac
    shift
done
if [ -z "$runtime" ]; then # the oldest of this host's that can run Spring Boot 3
    runtime=java$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' /usr/lib/jvm/*/release | sort -n | awk '$1 >= 17' | head -1)
fi
endpoint=${THAW_ENDPOINT:-http://127.0.0.1:8429}
export AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-example} AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-example}
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1} AWS_PAGER=

aws_lambda() {
    "${THAW_AWS_CLI:-aws}" --endpoint-url "$endpoint" lambda "$@"
}

echo "building with Maven"
mvn -q -B package
cp -r target/classes/. prime.json target/package/
rm -f target/petstore.zip
(cd target/package && zip -q -X -r ../petstore.zip .)

echo "deploying $name for $runtime"
aws_lambda delete-function --function-name "$name" >/dev/null 2>&1 || true
aws_lambda create-function --function-name "$name" --runtime "$runtime" --handler pets.StreamLambdaHandler \
    --role arn:aws:iam::000000000000:role/any --zip-file fileb://target/petstore.zip --memory-size 1769 --timeout 30 \
    --snap-start ApplyOn=PublishedVersions ${prime:+--environment "Variables={THAW_PRIME=$prime}"} >/dev/null
aws_lambda wait function-active-v2 --function-name "$name"
version=$(aws_lambda publish-version --function-name "$name" --query Version --output text)
aws_lambda wait published-version-active --function-name "$name" --qualifier "$version"
echo "published $name:$version; for example:"
echo "  thaw invoke $name:$version --payload @examples/spring-petstore/event.json"
echo "  thaw bench $name:$version -n 50 --payload @examples/spring-petstore/event.json"
