using System;
using System.Globalization;
using System.IO;
using System.Text;
using System.Text.Json;

namespace Thaw.Runtime;

internal enum Level { Trace, Debug, Information, Warning, Error, Critical }

/// <summary>
/// Standard output and error as Lambda's .NET has them: what is written as a line becomes an entry of the log with time,
/// request and level, as text or as JSON; what is written without a line's end goes out as it is. One write for each.
/// </summary>
internal sealed class Log : TextWriter
{
    private enum Format { Text, Unformatted, Json }

    private static readonly string[] Labels = { "trce", "dbug", "info", "warn", "fail", "crit" };
    private static readonly object Turn = new object();
    private static readonly UTF8Encoding Utf8 = new UTF8Encoding(false);
    private static Format format;
    private static Level least = Level.Information;
    private static string? requestId, traceId;
    private static Log? output;

    private readonly Stream to;
    private readonly Level level;

    private Log(Stream to, Level level) : base(CultureInfo.InvariantCulture)
    {
        this.to = to;
        this.level = level;
    }

    /// <summary>Puts the function's console in place.</summary>
    public static void Open()
    {
        format = Setting("AWS_LAMBDA_HANDLER_LOG_FORMAT", "AWS_LAMBDA_LOG_FORMAT").ToLowerInvariant() switch {
            "json" => Format.Json, "unformatted" => Format.Unformatted, _ => Format.Text };
        least = ParseLevel(Setting("AWS_LAMBDA_HANDLER_LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL")) ?? Level.Information;
        output = new Log(Console.OpenStandardOutput(), Level.Information);
        Console.SetOut(output);
        Console.SetError(new Log(Console.OpenStandardError(), Level.Error));
    }

    private static string Setting(string name, string otherwise)
    {
        string? value = Environment.GetEnvironmentVariable(name);
        return !string.IsNullOrEmpty(value) ? value : Environment.GetEnvironmentVariable(otherwise) ?? "";
    }

    public static Level? ParseLevel(string? name)
    {
        if (string.Equals(name, "fatal", StringComparison.OrdinalIgnoreCase))
            return Level.Critical;
        if (string.Equals(name, "warn", StringComparison.OrdinalIgnoreCase))
            return Level.Warning;
        return Enum.TryParse(name, true, out Level level) && Enum.IsDefined(level) ? level : null;
    }

    /// <summary>From here on, entries are of this invocation.</summary>
    public static void Begin(string? request, string? trace)
    {
        requestId = request;
        traceId = trace;
    }

    public static void Tell(Level level, string? message, Exception? error = null) =>
        output!.Entry(level, message ?? "", error, Array.Empty<object?>());

    /// <summary>An entry of a given level, with the values of its {places}.</summary>
    public static void Tell(string? level, Exception? error, string? template, object?[]? values) =>
        output!.Entry(ParseLevel(level) ?? Level.Information, template ?? "", error, values ?? Array.Empty<object?>());

    /// <summary>Text that is no entry of its own.</summary>
    public static void Raw(string? text) => output!.Write(text);

    private void Entry(Level of, string template, Exception? error, object?[] values)
    {
        if (of >= least)
            Send(Compose(of, template, error, values));
    }

    /// <summary>Composes an entry, and writes nothing.</summary>
    public static void Rehearse() => Compose(ParseLevel("information") ?? Level.Trace, "{name}: {1}", null, new object?[] { "rehearsal", 1 });

    private static byte[] Compose(Level of, string template, Exception? error, object?[] values)
    {
        string time = DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture);
        if (format == Format.Json)
            return Json(time, of, template, error, values);
        var text = new StringBuilder();
        if (format == Format.Text)
            text.Append(time).Append('\t').Append(requestId).Append('\t').Append(Labels[(int)of]).Append('\t');
        text.Append(FillPlaces(template, values, null));
        if (error != null)
            text.Append(template.Length > 0 ? "\n" : "").Append(Fault.Text(error));
        return Utf8.GetBytes(text.Append('\n').ToString());
    }

    private static byte[] Json(string time, Level of, string template, Exception? error, object?[] values)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes)) {
            json.WriteStartObject();
            json.WriteString("timestamp", time);
            json.WriteString("level", of.ToString());
            if (!string.IsNullOrEmpty(requestId))
                json.WriteString("requestId", requestId);
            if (!string.IsNullOrEmpty(traceId))
                json.WriteString("traceId", traceId);
            json.WriteString("message", FillPlaces(template, values, null));
            FillPlaces(template, values, (name, value) => {
                json.WritePropertyName(name);
                WriteValue(json, value);
            });
            if (error != null) {
                json.WriteString("errorType", error.GetType().FullName);
                json.WriteString("errorMessage", error.Message);
                json.WriteStartArray("stackTrace");
                foreach (string line in Fault.Text(error).Split('\n'))
                    json.WriteStringValue(line.Trim());
                json.WriteEndArray();
            }
            json.WriteEndObject();
        }
        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }

    private static void WriteValue(Utf8JsonWriter json, object value)
    {
        try {
            JsonSerializer.Serialize(json, value, value.GetType());
        } catch (NotSupportedException) {
            json.WriteStringValue(value.ToString());
        }
    }

    /// <summary>The message with its {places} filled, in order or by number; "{{" is a brace. Names what it filled.</summary>
    private static string FillPlaces(string template, object?[] values, Action<string, object>? told)
    {
        if (values.Length == 0)
            return template;
        var text = new StringBuilder();
        int used = 0;
        for (int i = 0; i < template.Length; i++) {
            char c = template[i];
            int close = c == '{' ? template.IndexOf('}', i) : -1;
            if ((c == '{' || c == '}') && i + 1 < template.Length && template[i + 1] == c) {
                text.Append(c);
                i++;
            } else if (close < 0) {
                text.Append(c);
            } else {
                string[] place = template.Substring(i + 1, close - i - 1).Split(':', 2);
                string name = place[0].TrimStart('@');
                int index = int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : used++;
                object? value = index < values.Length ? values[index] : null;
                text.Append(index >= values.Length ? template.AsSpan(i, close - i + 1)
                    : place.Length > 1 && value is IFormattable formattable
                        ? formattable.ToString(place[1], CultureInfo.InvariantCulture) : value?.ToString());
                if (value != null)
                    told?.Invoke(name, value);
                i = close;
            }
        }
        return text.ToString();
    }

    private void Send(byte[] bytes)
    {
        lock (Turn)
            to.Write(bytes, 0, bytes.Length);
    }

    // ---- TextWriter: lines become entries, all else goes through ----

    public override Encoding Encoding => Utf8;
    public override void Write(char value) => Send(Utf8.GetBytes(new[] { value }));
    public override void Write(char[] buffer, int index, int count) => Send(Utf8.GetBytes(buffer, index, count));
    public override void Write(ReadOnlySpan<char> buffer) => Send(Utf8.GetBytes(buffer.ToArray()));
    public override void Write(string? value) => Send(Utf8.GetBytes(value ?? ""));
    public override void WriteLine() => Line("");
    public override void WriteLine(string? value) => Line(value);
    public override void WriteLine(char value) => Line(value.ToString());
    public override void WriteLine(char[]? buffer) => Line(buffer == null ? "" : new string(buffer));
    public override void WriteLine(char[] buffer, int index, int count) => Line(new string(buffer, index, count));
    public override void WriteLine(ReadOnlySpan<char> buffer) => Line(buffer.ToString());
    public override void WriteLine(StringBuilder? value) => Line(value?.ToString());
    public override void WriteLine(bool value) => Line(value ? "True" : "False");
    public override void WriteLine(int value) => Line(value.ToString(CultureInfo.InvariantCulture));
    public override void WriteLine(uint value) => Line(value.ToString(CultureInfo.InvariantCulture));
    public override void WriteLine(long value) => Line(value.ToString(CultureInfo.InvariantCulture));
    public override void WriteLine(ulong value) => Line(value.ToString(CultureInfo.InvariantCulture));
    public override void WriteLine(float value) => Line(value.ToString(CultureInfo.InvariantCulture));
    public override void WriteLine(double value) => Line(value.ToString(CultureInfo.InvariantCulture));
    public override void WriteLine(decimal value) => Line(value.ToString(CultureInfo.InvariantCulture));
    public override void WriteLine(object? value) => Line(value?.ToString());
    public override void WriteLine(string text, object? a) => Line(string.Format(FormatProvider, text, a));
    public override void WriteLine(string text, object? a, object? b) => Line(string.Format(FormatProvider, text, a, b));
    public override void WriteLine(string text, object? a, object? b, object? c) =>
        Line(string.Format(FormatProvider, text, a, b, c));
    public override void WriteLine(string text, params object?[] values) =>
        Line(string.Format(FormatProvider, text, values));
    public override System.Threading.Tasks.Task WriteLineAsync(string? value)
    {
        Line(value);
        return System.Threading.Tasks.Task.CompletedTask;
    }

    private void Line(string? text) => Entry(level, text ?? "", null, Array.Empty<object?>());
}
