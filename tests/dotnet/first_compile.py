"""first_compile.py ROOT ROSLYN SOURCE OUTPUT: compiles the compiler's command line, csc.cs, by the Roslyn that it is for:
this Python process hosts the .NET in ROOT, and calls the libraries in ROSLYN."""

import json
import pathlib
import sys
import tempfile

from clr_loader import get_coreclr
from pythonnet import set_runtime

root, roslyn, source, output = (pathlib.Path(one).resolve() for one in sys.argv[1:])
version = next((root / "shared/Microsoft.NETCore.App").iterdir()).name
with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    json.dump({"runtimeOptions": {"framework": {"name": "Microsoft.NETCore.App", "version": version}}}, file)
    file.flush()
    set_runtime(get_coreclr(runtime_config=file.name, dotnet_root=str(root)))
    import clr

clr.AddReference(str(roslyn / "Microsoft.CodeAnalysis.dll"))
clr.AddReference(str(roslyn / "Microsoft.CodeAnalysis.CSharp.dll"))
from Microsoft.CodeAnalysis import MetadataReference, OutputKind, SyntaxTree  # noqa: E402
from Microsoft.CodeAnalysis.CSharp import (  # noqa: E402
    CSharpCompilation, CSharpCompilationOptions, CSharpSyntaxTree)
from System.Collections.Generic import List  # noqa: E402
from System.IO import File  # noqa: E402

trees, references = List[SyntaxTree](), List[MetadataReference]()
trees.Add(CSharpSyntaxTree.ParseText(source.read_text(encoding="utf-8")))
for folder in (root / "shared/Microsoft.NETCore.App" / version, roslyn):
    for path in folder.glob("*.dll"):
        if folder != roslyn or path.name.startswith("Microsoft.CodeAnalysis"):
            references.Add(MetadataReference.CreateFromFile(str(path)))
compilation = CSharpCompilation.Create(
    output.stem, trees, references, CSharpCompilationOptions(OutputKind.ConsoleApplication))
stream = File.Create(str(output))
result = compilation.Emit(stream)
stream.Close()
for told in result.Diagnostics:
    print(told.ToString(), file=sys.stderr)
sys.exit(0 if result.Success else 1)
