#!/bin/bash
# Compiles the shop, and deploys and publishes it with SnapStart on a running thawd.
# usage: examples/dotnet-pets/deploy.sh [--prime] [--runtime NAME] [FUNCTION]      (default: dotnet-pets)
# --prime: prime.json's events run before the snapshot is taken, so that clones have their code loaded and compiled.
# --runtime: a dotnetN of this host (default: the oldest), or another managed runtime, in whose place .NET is started.
# The server is found by THAW_ENDPOINT, by default http://127.0.0.1:8429. Needs a .NET SDK, zip and the AWS CLI.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
bootstraps=../../runtimes/dotnet

first() { # of these paths, the first that is there
    local path
    for path in "$@"; do
        [ ! -e "$path" ] || { echo "$path" && return; }
    done
}

prime=
name=dotnet-pets
runtime=
while [ $# -gt 0 ]; do
    case $1 in
        --prime) prime=,THAW_PRIME=prime.json ;;
        --runtime) runtime=$2 && shift ;;
        -*) sed -n '2,6s/^# //p' "$0" >&2 && exit 2 ;;
        *) name=$1 ;;
    esac
    shift
done
$bootstraps/build.sh
number=${runtime#dotnet}
if [ ! -d "$bootstraps/$number" ] || [ -z "$number" ]; then
    number=$(cd "$bootstraps" && printf '%s\n' [0-9]*/ | sort -n | head -1) # the oldest that this host has
    number=${number%/}
fi
[ -d "$bootstraps/$number" ] || { echo "there is no .NET SDK from 8 on on this host" >&2 && exit 1; }
runtime=${runtime:-dotnet$number}
framework=$(first /usr/{lib,share,lib64,local/share,local/lib}/dotnet/shared/Microsoft.NETCore.App/"$number".*)
csc=$(first /usr/{lib,share,lib64,local/share,local/lib}/dotnet/sdk/*/Roslyn/bincore/csc.dll)
endpoint=${THAW_ENDPOINT:-http://127.0.0.1:8429}
export AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-example} AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-example}
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1} AWS_PAGER=

aws_lambda() {
    "${THAW_AWS_CLI:-aws}" --endpoint-url "$endpoint" lambda "$@"
}

echo "compiling for .NET $number"
rm -rf target
mkdir -p target/package
references=()
for assembly in "$framework"/*.dll "$bootstraps/$number/core/Amazon.Lambda.Core.dll"; do
    references+=("-reference:$assembly")
done
DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 "${csc%/sdk/*}/dotnet" exec "$csc" -nologo -noconfig -nostdlib -optimize -nullable:enable \
    -target:library -out:target/package/Pets.dll "${references[@]}" Shop.cs
cp wrapper.sh prime.json target/package/
(cd target/package && zip -q -X -r ../pets.zip .)

echo "deploying $name for $runtime"
variables="AWS_LAMBDA_EXEC_WRAPPER=/var/task/wrapper.sh,PETS_DOTNET=${framework%/shared/*}/dotnet,PETS_DOTNET_VERSION=$number$prime"
aws_lambda delete-function --function-name "$name" >/dev/null 2>&1 || true
aws_lambda create-function --function-name "$name" --runtime "$runtime" --handler Pets::Pets.Shop::Handle \
    --role arn:aws:iam::000000000000:role/any --zip-file fileb://target/pets.zip --memory-size 512 --timeout 30 \
    --snap-start ApplyOn=PublishedVersions --environment "Variables={$variables}" >/dev/null
aws_lambda wait function-active-v2 --function-name "$name"
version=$(aws_lambda publish-version --function-name "$name" --query Version --output text)
aws_lambda wait published-version-active --function-name "$name" --qualifier "$version"
echo "published $name:$version; for example:"
echo "  thaw invoke $name:$version --payload @examples/dotnet-pets/event.json"
echo "  thaw bench $name:$version -n 50 --payload @examples/dotnet-pets/event.json"
