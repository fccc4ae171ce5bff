using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Threading;

namespace Thaw.Runtime;

/// <summary>Compiles, before the snapshot, what each clone would have to compile for its first event. Of the function's own
/// code nothing runs but what its serializer calls on the types of event and answer.</summary>
internal static class Warm
{
    /// <summary>All that is not generic in an assembly. AWS_LAMBDA_DOTNET_PREJIT=Never says not to.</summary>
    public static void Compile(Assembly assembly)
    {
        if ("Never".Equals(Environment.GetEnvironmentVariable("AWS_LAMBDA_DOTNET_PREJIT"), StringComparison.OrdinalIgnoreCase))
            return;
        Type?[] types;
        try {
            types = assembly.GetTypes();
        } catch (ReflectionTypeLoadException e) {
            types = e.Types; // those that could be loaded: the package lacks what the others need
        }
        foreach (Type? type in types)
            if (type != null)
                Compile(type);
    }

    public static void Compile(Type type)
    {
        const BindingFlags Own = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static |
            BindingFlags.DeclaredOnly;
        if (type.ContainsGenericParameters || type.IsInterface)
            return;
        foreach (MethodBase method in (IEnumerable<MethodBase>)type.GetMethods(Own))
            Compile(method);
        foreach (MethodBase method in type.GetConstructors(Own))
            Compile(method);
    }

    private static void Compile(MethodBase method)
    {
        const MethodImplAttributes Native = MethodImplAttributes.InternalCall | MethodImplAttributes.Runtime;
        if (method.IsAbstract || method.ContainsGenericParameters || (method.Attributes & MethodAttributes.PinvokeImpl) != 0 ||
            (method.MethodImplementationFlags & Native) != 0)
            return;
        try {
            RuntimeHelpers.PrepareMethod(method.MethodHandle);
        } catch (Exception) {
            // It needs what the package lacks, and will say so if it is ever called.
        }
    }

    private sealed class Inner
    {
        public string? Text { get; set; }
        public int Number { get; set; }
    }

    /// <summary>The kinds of values that events and answers are made of.</summary>
    private sealed record Sample(string? Text, int Int, long Long, double Double, float Float, decimal Decimal, bool Bool, byte Byte,
        Guid Guid, DateTime Time, DateTimeOffset Offset, TimeSpan Span, DayOfWeek Enum, int? MaybeInt, long? MaybeLong,
        double? MaybeDouble, decimal? MaybeDecimal, bool? MaybeBool, Guid? MaybeGuid, DateTime? MaybeTime, byte[]? Bytes,
        string[]? Texts, int[]? Ints, List<string>? List, List<Inner>? Inners, Dictionary<string, string>? Map,
        Dictionary<string, object>? Objects, object? Any, JsonElement Element);

    /// <summary>Takes every kind of value through the serializer: its code for them is common to all functions.</summary>
    public static void Serializer(JsonSerializerOptions options)
    {
        var sample = new Sample("text", 1, 2, 3.5, 4.5f, 5.5m, true, 7, Guid.Empty, DateTime.UnixEpoch, DateTimeOffset.UnixEpoch,
            TimeSpan.Zero, DayOfWeek.Monday, 1, 2, 3.5, 5.5m, true, Guid.Empty, DateTime.UnixEpoch, new byte[] { 1 },
            new[] { "a" }, new[] { 1 }, new List<string> { "b" }, new List<Inner> { new Inner { Text = "c", Number = 1 } },
            new Dictionary<string, string> { ["d"] = "e" }, new Dictionary<string, object> { ["f"] = 1 }, "any", default);
        sample = sample with { Element = JsonSerializer.Deserialize<JsonElement>("{\"g\": [1, null, true, 1.5, \"h\"]}", options) };
        var bytes = new MemoryStream();
        JsonSerializer.Serialize(bytes, sample, options);
        JsonSerializer.Deserialize<Sample>(bytes.ToArray(), options);
        bytes.Position = 0;
        JsonSerializer.Deserialize<Sample>(bytes, options);
    }

    private const int StepMs = 25, QuietMs = 250, SettleMs = 5000;

    /// <summary>
    /// Waits until nothing is compiled any more: a while after the last new method, .NET prepares all that were called for
    /// a second compilation. Each clone would do that beside its first event.
    /// </summary>
    public static void Settle()
    {
        long known = -1;
        for (int waited = 0, quiet = 0; waited < SettleMs && quiet < QuietMs; waited += StepMs) {
            long now = JitInfo.GetCompiledMethodCount();
            quiet = now == known ? quiet + StepMs : 0;
            known = now;
            Thread.Sleep(StepMs);
        }
    }
}
