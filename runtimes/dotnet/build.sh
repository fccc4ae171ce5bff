#!/bin/sh
# Compiles the .NET runtimes' program for every .NET from 8 on that this host has, into a folder N beside this script,
# with the C# compiler of an SDK. No SDK, no program, and no dotnetN runtimes.
# usage: build.sh
set -eu
cd "$(dirname "$(readlink -f "$0")")"

# The roots of .NET, where the server looks for them too (src/daemon/front_dotnet.c).
roots() {
    for file in /etc/dotnet/install_location_x64 /etc/dotnet/install_location; do
        [ ! -f "$file" ] || head -1 "$file"
    done
    echo /usr/lib/dotnet
    echo /usr/share/dotnet
    echo /usr/lib64/dotnet
    echo /usr/local/share/dotnet
    echo /usr/local/lib/dotnet
}

# compile FRAMEWORK OUTPUT [compiler's option...] SOURCE...
compile() {
    framework=$1
    output=$2
    shift 2
    references=
    for assembly in "$framework"/*.dll; do
        references="$references -reference:$assembly"
    done
    # shellcheck disable=SC2086 # the references are words
    "$csc_dotnet" exec "$csc" -nologo -noconfig -nostdlib -deterministic -optimize -unsafe -nullable:enable -langversion:10 \
        -debug- $references "-out:$output" "$@"
}

csc=
for root in $(roots); do
    for found in "$root"/sdk/*/Roslyn/bincore/csc.dll; do
        [ ! -f "$found" ] || { csc=$found && csc_dotnet=$root/dotnet; }
    done
done
[ -n "$csc" ] || exit 0
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 DOTNET_EnableDiagnostics=0
for root in $(roots); do
    for framework in "$root"/shared/Microsoft.NETCore.App/[0-9]*; do
        version=${framework##*/}
        major=${version%%.*}
        { [ -f "$framework/libcoreclr.so" ] && [ "$major" -ge 8 ]; } || continue
        done=$major/Thaw.Runtime.dll
        [ -f "$done" ] && [ -z "$(find src core build.sh "$framework/System.Private.CoreLib.dll" -newer "$done" -print -quit)" ] && continue
        rm -rf "$major.new"
        mkdir -p "$major.new/core"
        compile "$framework" "$major.new/core/Amazon.Lambda.Core.dll" -target:library core/*.cs
        compile "$framework" "$major.new/Thaw.Runtime.dll" -target:exe src/*.cs
        printf '{"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": "%s.0.0"}}}\n' "$major" \
            >"$major.new/Thaw.Runtime.runtimeconfig.json"
        rm -rf "$major"
        mv "$major.new" "$major"
    done
done
