using System;
using System.Collections.Generic;
using System.Globalization;
using System.Reflection;
using System.Text;
using System.Text.Json;

namespace Thaw.Runtime;

/// <summary>An object of an interface that is only known when the function is loaded.</summary>
public class Proxy : DispatchProxy
{
    private Func<string, object?[], object?> answers = (_, _) => null;

    internal static object Make(Type of, Func<string, object?[], object?> answers)
    {
        object made = Create(of, typeof(Proxy));
        ((Proxy)made).answers = answers;
        return made;
    }

    protected override object? Invoke(MethodInfo? method, object?[]? arguments)
    {
        string name = method!.Name;
        if (name.StartsWith("get_", StringComparison.Ordinal))
            name = name.Substring(4);
        object? answer = answers(name, arguments ?? Array.Empty<object?>());
        Type expected = method.ReturnType;
        return answer == null && expected.IsValueType && expected != typeof(void) ? Activator.CreateInstance(expected) : answer;
    }
}

/// <summary>
/// The context object, as an ILambdaContext of the package's own Amazon.Lambda.Core, whatever its version: this program
/// is compiled without that library.
/// </summary>
internal sealed class Contexts
{
    private readonly Type contextType;
    private readonly object logger;
    private readonly object? serializer;
    private readonly string function = Variable("AWS_LAMBDA_FUNCTION_NAME"), version = Variable("AWS_LAMBDA_FUNCTION_VERSION"),
        group = Variable("AWS_LAMBDA_LOG_GROUP_NAME"), stream = Variable("AWS_LAMBDA_LOG_STREAM_NAME");
    private readonly int memory =
        int.TryParse(Variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), NumberStyles.None, CultureInfo.InvariantCulture, out int mb) ? mb : 0;

    public Contexts(Type contextType, object? serializer)
    {
        this.contextType = contextType;
        this.serializer = serializer;
        logger = Proxy.Make(contextType.GetProperty("Logger")!.PropertyType, WriteLog);
    }

    public static bool IsContext(Type type) => type.IsInterface && type.FullName == "Amazon.Lambda.Core.ILambdaContext";

    private static string Variable(string name) => Environment.GetEnvironmentVariable(name) ?? "";

    public object Make(Answer head)
    {
        long.TryParse(head.Field("Lambda-Runtime-Deadline-Ms"), NumberStyles.None, CultureInfo.InvariantCulture, out long deadline);
        object? identity = null, client = null;
        return Proxy.Make(contextType, (name, _) => name switch {
            "AwsRequestId" => head.Field("Lambda-Runtime-Aws-Request-Id") ?? "",
            "InvokedFunctionArn" => head.Field("Lambda-Runtime-Invoked-Function-Arn") ?? "",
            "TraceId" => head.Field("Lambda-Runtime-Trace-Id") ?? "",
            "TenantId" => head.Field("Lambda-Runtime-Aws-Tenant-Id") ?? "",
            "FunctionName" => function,
            "FunctionVersion" => version,
            "LogGroupName" => group,
            "LogStreamName" => stream,
            "MemoryLimitInMB" => memory,
            "RemainingTime" => TimeSpan.FromMilliseconds(deadline - DateTimeOffset.UtcNow.ToUnixTimeMilliseconds()),
            "Logger" => logger,
            "Serializer" => serializer,
            "Identity" => identity ??= Identity(head.Field("Lambda-Runtime-Cognito-Identity")),
            "ClientContext" => client ??= ClientContext(head.Field("Lambda-Runtime-Client-Context")),
            _ => null,
        });
    }

    /// <summary>Asks a context all that a function may ask, save to log.</summary>
    public void Rehearse(object context)
    {
        foreach (PropertyInfo property in contextType.GetProperties())
            property.GetValue(context);
        Log.Rehearse();
    }

    public void Compile()
    {
        Warm.Compile(logger.GetType());
        Warm.Compile(Make(new Answer()).GetType());
    }

    private static JsonElement Parse(string? text)
    {
        if (string.IsNullOrEmpty(text))
            return default;
        return JsonSerializer.Deserialize<JsonElement>(Encoding.Latin1.GetBytes(text)); // as the head was read
    }

    private static string? Text(JsonElement of, params string[] names)
    {
        foreach (string name in names)
            if (of.ValueKind == JsonValueKind.Object && of.TryGetProperty(name, out JsonElement value))
                return value.ValueKind == JsonValueKind.String ? value.GetString() : value.ToString();
        return null;
    }

    private object Identity(string? json)
    {
        JsonElement known = Parse(json);
        return Proxy.Make(contextType.GetProperty("Identity")!.PropertyType, (name, _) => name switch {
            "IdentityId" => Text(known, "cognitoIdentityId", "identityId") ?? "",
            "IdentityPoolId" => Text(known, "cognitoIdentityPoolId", "identityPoolId") ?? "",
            _ => null,
        });
    }

    private object? ClientContext(string? json)
    {
        JsonElement known = Parse(json);
        if (known.ValueKind != JsonValueKind.Object)
            return null;
        Type type = contextType.GetProperty("ClientContext")!.PropertyType;
        known.TryGetProperty("client", out JsonElement application);
        object client = Proxy.Make(type.GetProperty("Client")!.PropertyType, (name, _) => name switch {
            "AppPackageName" => Text(application, "app_package_name"),
            "AppTitle" => Text(application, "app_title"),
            "AppVersionCode" => Text(application, "app_version_code"),
            "AppVersionName" => Text(application, "app_version_name"),
            "InstallationId" => Text(application, "installation_id"),
            _ => null,
        });
        return Proxy.Make(type, (name, _) => name switch {
            "Client" => client, "Custom" => Map(known, "custom"), "Environment" => Map(known, "env"), _ => null });
    }

    private static Dictionary<string, string> Map(JsonElement of, string name)
    {
        var map = new Dictionary<string, string>();
        if (of.TryGetProperty(name, out JsonElement values) && values.ValueKind == JsonValueKind.Object)
            foreach (JsonProperty value in values.EnumerateObject())
                map[value.Name] = value.Value.ToString();
        return map;
    }

    /// <summary>All of ILambdaLogger: Log and LogLine, and Log or LogLEVEL with a level, an exception and values.</summary>
    private static object? WriteLog(string name, object?[] arguments)
    {
        if (name == "Log" && arguments.Length == 1)
            Log.Raw(arguments[0] as string);
        else if (name == "LogLine")
            Log.Tell(Level.Information, arguments[0] as string);
        else if (name.StartsWith("Log", StringComparison.Ordinal)) {
            int at = name == "Log" ? 1 : 0;
            string? level = name == "Log" ? arguments[0]?.ToString() : name.Substring(3);
            Exception? error = at < arguments.Length ? arguments[at] as Exception : null;
            at += error != null ? 1 : 0;
            Log.Tell(level, error, at < arguments.Length ? arguments[at] as string : null,
                at + 1 < arguments.Length ? arguments[at + 1] as object?[] : null);
        }
        return null;
    }
}
