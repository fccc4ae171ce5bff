#!/bin/bash
# Deploy this example to the server at THAW_ENDPOINT (default http://127.0.0.1:8429), publish a version with SnapStart, and
# call it. Needs Python with pip or venv, zip and the AWS CLI. DATA_MB=300 sets the size of its data.
# deploy.sh [FUNCTION-NAME]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

name=${1:-python-data}
export AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-test} AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-test}
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1} AWS_PAGER=
aws_lambda() {
    "${THAW_AWS_CLI:-aws}" --endpoint-url "${THAW_ENDPOINT:-http://127.0.0.1:8429}" lambda "$@"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=/usr/bin/python3
if ! "$python" -m pip --version >/dev/null 2>&1; then # Debian has it in a package of its own; a venv brings one
    "$python" -m venv "$work/venv"
    python=$work/venv/bin/python3
fi
"$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-compile --target "$work/package" \
    -r requirements.txt
# Tests and headers of the libraries are of no use to a function.
find "$work/package" -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +
cp app.py "$work/package"
(cd "$work/package" && zip -qr1 ../function.zip .)

runtime=$(basename "$(readlink -f /usr/bin/python3)")
settings=(--memory-size 1769 --timeout 60 --environment "Variables={DATA_MB=${DATA_MB:-300}}")
if aws_lambda get-function --function-name "$name" >/dev/null 2>&1; then
    aws_lambda update-function-code --function-name "$name" --zip-file "fileb://$work/function.zip" >/dev/null
    aws_lambda wait function-updated-v2 --function-name "$name"
    aws_lambda update-function-configuration --function-name "$name" "${settings[@]}" >/dev/null
    aws_lambda wait function-updated-v2 --function-name "$name"
else
    aws_lambda create-function --function-name "$name" --runtime "$runtime" --handler app.handler \
        --role arn:aws:iam::000000000000:role/any --zip-file "fileb://$work/function.zip" \
        --snap-start ApplyOn=PublishedVersions "${settings[@]}" >/dev/null
    aws_lambda wait function-active-v2 --function-name "$name"
fi
version=$(aws_lambda publish-version --function-name "$name" --query Version --output text)
aws_lambda wait published-version-active --function-name "$name" --qualifier "$version"
aws_lambda invoke --function-name "$name:$version" --payload fileb://event.json "$work/answer.json" --output text
cat "$work/answer.json"
echo
echo "deployed $name:$version"
