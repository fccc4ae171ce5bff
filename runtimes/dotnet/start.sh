#!/bin/sh
# start.sh DOTNET N: starts the function in $_HANDLER on the .NET program DOTNET, whose major version is N.
# Assembly::Type::Method is loaded by our bootstrap, with the package's own .deps.json and .runtimeconfig.json, where it has
# them; a handler without colons is an executable assembly (or program) of the package, which speaks to the Runtime API itself.
dotnet=$1
ours=/var/runtime/dotnet/$2
root=${LAMBDA_TASK_ROOT:-/var/task}

# What suits functions, where they say nothing else.
memory=${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-128}
if [ -z "$DOTNET_GCHeapHardLimit$DOTNET_GCHeapHardLimitPercent" ]; then # else: the whole machine's memory
    DOTNET_GCHeapHardLimit=$(printf '0x%x' $((memory * 1048576 / 100 * 90))) && export DOTNET_GCHeapHardLimit
fi
if [ "$memory" -lt 1769 ]; then # a part of one processor: a collector's thread beside the function's is of no use
    export DOTNET_gcConcurrent="${DOTNET_gcConcurrent:-0}"
fi
# For tools that cannot enter the sandbox: a socket, pipes and threads less to make for each clone.
export DOTNET_EnableDiagnostics="${DOTNET_EnableDiagnostics:-0}"
if [ "$AWS_LAMBDA_INITIALIZATION_TYPE" = snap-start ]; then
    # Code that is mapped twice, once to be written and once to be run, is shared memory: each clone would make it anew.
    export DOTNET_EnableWriteXorExecute="${DOTNET_EnableWriteXorExecute:-0}"
fi

# Without ICU's libraries .NET does not start, unless it is told to do without cultures.
set -- /usr/lib/*/libicuuc.so.* /usr/lib64/libicuuc.so.* /opt/lib/libicuuc.so.*
case $* in
    */libicuuc.so.[0-9]*) ;;
    *) export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT="${DOTNET_SYSTEM_GLOBALIZATION_INVARIANT:-1}" ;;
esac

# file_of NAME.SUFFIX: the assembly's own, else the only one there is; nothing otherwise.
file_of() {
    [ ! -f "$root/$1.$2" ] || { echo "$root/$1.$2" && return; }
    set -- "$root"/*."$2"
    [ $# -ne 1 ] || [ ! -f "$1" ] || echo "$1"
}

case $_HANDLER in
    *:*)
        assembly=${LAMBDA_DOTNET_MAIN_ASSEMBLY:-${_HANDLER%%:*}}
        assembly=${assembly%.dll}
        dependencies=$(file_of "$assembly" deps.json)
        configuration=$(file_of "$assembly" runtimeconfig.json)
        set -- "$dotnet" exec
        [ -z "$dependencies" ] || set -- "$@" --depsfile "$dependencies"
        set -- "$@" --runtimeconfig "${configuration:-$ours/Thaw.Runtime.runtimeconfig.json}" "$ours/Thaw.Runtime.dll"
        ;;
    *)
        program=$root/$_HANDLER
        if [ "$AWS_LAMBDA_INITIALIZATION_TYPE" = snap-start ]; then
            export DOTNET_STARTUP_HOOKS="$ours/Thaw.Runtime.dll${DOTNET_STARTUP_HOOKS:+:$DOTNET_STARTUP_HOOKS}"
        fi
        if [ -f "${program%.dll}.dll" ]; then
            set -- "$dotnet" exec "${program%.dll}.dll"
        elif [ -f "$program" ]; then
            set -- "$program"
        else
            echo "Error: executable assembly ${program%.dll}.dll or binary $program not found." >&2
            exit 104
        fi
        ;;
esac
exec /bin/sh /var/runtime/exec-wrapper.sh "$@"
