#!/bin/sh
# AWS_LAMBDA_EXEC_WRAPPER=/var/task/wrapper.sh: Lambda runs this with the runtime's own command line as its arguments.
# A .NET runtime's command line is run as it is, with settings that suit a program which is frozen: no statistics of
# code for a later compilation. That of any other runtime is left out, and .NET put in its place: this is how .NET came to
# SnapStart, in a runtime that had it.
export DOTNET_TieredPGO="${DOTNET_TieredPGO:-0}"
case $1 in
    */dotnet) exec "$@" ;;
    *) exec /bin/sh /var/runtime/dotnet/start.sh "$PETS_DOTNET" "$PETS_DOTNET_VERSION" ;;
esac
