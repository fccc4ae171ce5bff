#!/bin/sh
# AWS_LAMBDA_EXEC_WRAPPER names a program that starts a managed runtime in our place: it gets the runtime's command line
# as its arguments. exec-wrapper.sh COMMAND... is what the server starts for a function that has set this variable.
wrapper=$AWS_LAMBDA_EXEC_WRAPPER
unset AWS_LAMBDA_EXEC_WRAPPER
if [ -z "$wrapper" ]; then
    exec "$@"
elif [ ! -f "$wrapper" ]; then
    echo "$wrapper: does not exist" >&2
    exit 127
elif [ ! -x "$wrapper" ]; then
    echo "$wrapper: is not an executable" >&2
    exit 126
fi
exec "$wrapper" "$@"
