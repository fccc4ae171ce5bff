// The C# compiler's command line, where Roslyn is at hand only as a library.
using System;
using System.IO;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Text;

CSharpCommandLineArguments asked = CSharpCommandLineParser.Default.Parse(args, Directory.GetCurrentDirectory(), null);
var trees = asked.SourceFiles.Select(file => {
    using FileStream stream = File.OpenRead(file.Path);
    return CSharpSyntaxTree.ParseText(SourceText.From(stream), asked.ParseOptions, file.Path);
});
var references = asked.MetadataReferences.Select(one => MetadataReference.CreateFromFile(one.Reference));
string output = asked.OutputFileName ?? throw new InvalidOperationException("no -out");
var compilation = CSharpCompilation.Create(Path.GetFileNameWithoutExtension(output), trees, references, asked.CompilationOptions);
using var bytes = new MemoryStream();
var result = compilation.Emit(bytes, options: asked.EmitOptions);
foreach (Diagnostic told in asked.Errors.Concat(result.Diagnostics))
    if (told.Severity >= DiagnosticSeverity.Warning && !told.IsSuppressed)
        Console.Error.WriteLine(told);
if (!result.Success || asked.Errors.Any(told => told.Severity == DiagnosticSeverity.Error))
    return 1;
File.WriteAllBytes(Path.Combine(asked.OutputDirectory, output), bytes.ToArray());
return 0;
