using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Text.Json;

namespace Thaw.Runtime;

/// <summary>The function cannot be started: what its package or its handler's name lacks.</summary>
internal sealed class LambdaValidationException : Exception
{
    public LambdaValidationException(string message, Exception? cause = null) : base(message, cause) {}
}

/// <summary>How failures are told to callers and to the log, in the official client's shape.</summary>
internal static class Fault
{
    private const int BytesMax = 256 * 1024;
    private const int CausesMax = 20;
    private const int FramesMax = 200;
    private const string TooLong = "{\"errorMessage\": \"Exception exceeded maximum payload size of 256KB.\"}";

    public static string TypeOf(Exception error) => error.GetType().Name;

    /// <summary>The JSON object that callers see.</summary>
    public static byte[] Describe(Exception error)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes))
            Write(json, error, 0);
        return bytes.Length <= BytesMax ? bytes.ToArray() : System.Text.Encoding.UTF8.GetBytes(TooLong);
    }

    private static void Write(Utf8JsonWriter json, Exception error, int depth)
    {
        json.WriteStartObject();
        json.WriteString("errorType", TypeOf(error));
        json.WriteString("errorMessage", error.Message);
        List<string> frames = UserFrames(error);
        if (frames.Count > 0) {
            json.WriteStartArray("stackTrace");
            foreach (string frame in frames)
                json.WriteStringValue(frame);
            json.WriteEndArray();
        }
        if (error.InnerException != null && depth < CausesMax) {
            json.WritePropertyName("cause");
            Write(json, error.InnerException, depth + 1);
        }
        if (error is AggregateException all && depth < CausesMax) {
            json.WriteStartArray("causes");
            foreach (Exception one in all.InnerExceptions)
                Write(json, one, depth + 1);
            json.WriteEndArray();
        }
        json.WriteEndObject();
    }

    /// <summary>What lies above this runtime's own frames.</summary>
    private static List<string> UserFrames(Exception error)
    {
        var lines = new List<string>();
        foreach (string line in (error.StackTrace ?? "").Split('\n')) {
            string frame = line.Trim();
            if (frame.StartsWith("at Thaw.Runtime.", StringComparison.Ordinal) || lines.Count == FramesMax)
                break;
            if (frame.Length > 0 && !IsReflection(frame))
                lines.Add(frame);
        }
        return lines;
    }

    private static bool IsReflection(string frame) =>
        frame.StartsWith("at System.Reflection.MethodBaseInvoker.", StringComparison.Ordinal) ||
        frame.StartsWith("at System.Reflection.RuntimeMethodInfo.", StringComparison.Ordinal) ||
        frame.StartsWith("at System.RuntimeMethodHandle.InvokeMethod", StringComparison.Ordinal) ||
        frame.StartsWith("at InvokeStub_", StringComparison.Ordinal) ||
        frame.StartsWith("--- End of stack trace from previous location", StringComparison.Ordinal);

    /// <summary>What the log shows.</summary>
    public static string Text(Exception error)
    {
        var text = new System.Text.StringBuilder();
        Exception? one = error;
        for (int depth = 0; one != null && depth < CausesMax; depth++, one = one.InnerException) {
            text.Append(depth == 0 ? "" : "\n ---> ").Append(one.GetType().FullName).Append(": ").Append(one.Message);
            foreach (string frame in UserFrames(one))
                text.Append("\n   ").Append(frame);
        }
        return text.ToString();
    }
}
