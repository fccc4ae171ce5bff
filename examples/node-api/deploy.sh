#!/bin/bash
# Deploy this example to the server at THAW_ENDPOINT (default http://127.0.0.1:8429), publish a version with SnapStart, and
# call it. Needs npm, zip and the AWS CLI. deploy.sh [FUNCTION-NAME]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

name=${1:-node-api}
export AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-test} AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-test}
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1} AWS_PAGER=
aws_lambda() {
    aws --endpoint-url "${THAW_ENDPOINT:-http://127.0.0.1:8429}" lambda "$@"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json index.js event.json "$work"
(cd "$work" && npm install --omit=dev --no-audit --no-fund --no-package-lock --silent && zip -qr function.zip .)

major=$(/usr/bin/node --version | sed 's/^v\([0-9]*\).*/\1/')
if aws_lambda get-function --function-name "$name" >/dev/null 2>&1; then
    aws_lambda update-function-code --function-name "$name" --zip-file "fileb://$work/function.zip" >/dev/null
    aws_lambda wait function-updated-v2 --function-name "$name"
else
    aws_lambda create-function --function-name "$name" --runtime "nodejs$major.x" --handler index.handler \
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
