#!/bin/bash
# install.sh FOLDER PYTHON: puts a .NET runtime with a C# compiler into FOLDER, from what the npm registry has, for the tests
# on machines without an SDK: a command line tool that was published together with its .NET 9, and a code generator
# that comes with Roslyn. PYTHON is one that has pythonnet (tests/requirements.txt). Does nothing when FOLDER is its own work
# already, or not its work at all.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
folder=$1
python=$2
runtime=@azure/mcp-linux-x64@0.0.8
compiler=@autorest/csharp@3.0.0-beta.20251203.1

stamp=$folder/installed-for-thaw-tests
made_by=$(cksum <"$here/install.sh")
[ ! -e "$folder" ] || [ -f "$stamp" ] || exit 0
[ "$(cat "$stamp" 2>/dev/null)" != "$made_by" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "$runtime" "$compiler" >/dev/null
mkdir runtime compiler root
tar -xzf azure-mcp-*.tgz -C runtime --strip-components=1
tar -xzf autorest-csharp-*.tgz -C compiler --strip-components=1

# A self-contained program lists in its .deps.json which of its files are the shared framework.
"$python" - runtime root <<'END'
import json, pathlib, shutil, sys
source, root = map(pathlib.Path, sys.argv[1:])
# What the program took a newer one of, from a package of its own.
NEWER = ["System.Diagnostics.DiagnosticSource", "System.Formats.Asn1", "System.Text.Json", "System.Threading.Channels"]
NOT_OF_WEB = ("Microsoft.Extensions.AI", "Microsoft.Extensions.Azure")
listed = json.loads(next(source.glob("*.deps.json")).read_text())
target = listed["runtimeTarget"]["name"]
for pack, files in listed["targets"][target].items():
    if not pack.startswith("runtimepack."):
        continue
    if pack.startswith("runtimepack.Microsoft.NETCore.App."):
        files["runtime"].update({name + ".dll": {} for name in NEWER})
    else:
        files["runtime"].update({path.name: {} for path in source.glob("Microsoft.Extensions.*.dll")
                                 if not path.name.startswith(NOT_OF_WEB)})
    name, version = pack.removeprefix("runtimepack.").split("/")
    to = root / "shared" / name.replace(".Runtime.linux-x64", "") / version
    host = root / "host/fxr" / version
    to.mkdir(parents=True)
    host.mkdir(parents=True, exist_ok=True)
    for file in [*files.get("runtime", {}), *files.get("native", {})]:
        file = pathlib.PurePath(file).name
        shutil.move(source / file, (host if file == "libhostfxr.so" else to) / file)
    package = pack.removeprefix("runtimepack.")
    (to / (to.parent.name + ".deps.json")).write_text(json.dumps({
        "runtimeTarget": listed["runtimeTarget"],
        "targets": {target.split("/")[0]: {}, target: {package: files}},
        "libraries": {package: {"type": "package", "serviceable": True, "sha512": ""}}}))
    if to.parent.name != "Microsoft.NETCore.App":  # what it builds on
        (to / (to.parent.name + ".runtimeconfig.json")).write_text(json.dumps(
            {"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": version}}}))
END
version=$(ls root/shared/Microsoft.NETCore.App)
cc -std=c17 -Wall -Wextra -O2 -o root/dotnet "$here/host.c" -ldl
csc=root/sdk/$version/Roslyn/bincore
mkdir -p "$csc"
cp compiler/Microsoft.CodeAnalysis{,.CSharp}.dll "$csc"
printf '{"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": "%s"}}}\n' "$version" >"$csc/csc.runtimeconfig.json"
DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 "$python" "$here/first_compile.py" root "$csc" "$here/csc.cs" "$csc/csc.dll"
echo "$made_by" >"root/$(basename "$stamp")"
chmod 755 root
mkdir -p "$(dirname "$folder")"
rm -rf "$folder.new"
cp -r root "$folder.new"
rm -rf "$folder"
mv "$folder.new" "$folder"
