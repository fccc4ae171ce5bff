#!/bin/bash
# Build this example, deploy it to the server at THAW_ENDPOINT (default http://127.0.0.1:8429), publish a version with
# SnapStart, and call it. Needs Go from 1.18 on, zip and the AWS CLI. deploy.sh [FUNCTION-NAME]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

name=${1:-go-hello}
export AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-test} AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-test}
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1} AWS_PAGER=
aws_lambda() {
    "${THAW_AWS_CLI:-aws}" --endpoint-url "${THAW_ENDPOINT:-http://127.0.0.1:8429}" lambda "$@"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -buildvcs=false -ldflags="-s -w" -o "$work/bootstrap" .
(cd "$work" && zip -q function.zip bootstrap)

if aws_lambda get-function --function-name "$name" >/dev/null 2>&1; then
    aws_lambda update-function-code --function-name "$name" --zip-file "fileb://$work/function.zip" >/dev/null
    aws_lambda wait function-updated-v2 --function-name "$name"
else
    aws_lambda create-function --function-name "$name" --runtime provided.al2023 --handler bootstrap \
        --role arn:aws:iam::000000000000:role/any --zip-file "fileb://$work/function.zip" \
        --snap-start ApplyOn=PublishedVersions --memory-size 512 --timeout 30 >/dev/null
    aws_lambda wait function-active-v2 --function-name "$name"
fi
version=$(aws_lambda publish-version --function-name "$name" --query Version --output text)
aws_lambda wait published-version-active --function-name "$name" --qualifier "$version"
aws_lambda invoke --function-name "$name:$version" --payload fileb://event.json "$work/answer.json" --output text
cat "$work/answer.json"
echo
echo "deployed $name:$version"
