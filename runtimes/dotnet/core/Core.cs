// What Amazon.Lambda.Core offers to functions, for packages that come without it: their names, our words. A package that
// brings the library itself uses its own.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Threading.Tasks;

[assembly: System.Reflection.AssemblyVersion("1.0.0.0")]

namespace Amazon.Lambda.Core;

/// <summary>What an invocation says about itself.</summary>
public interface ILambdaContext
{
    string AwsRequestId { get; }
    IClientContext ClientContext { get; }
    string FunctionName { get; }
    string FunctionVersion { get; }
    ICognitoIdentity Identity { get; }
    string InvokedFunctionArn { get; }
    ILambdaLogger Logger { get; }
    string LogGroupName { get; }
    string LogStreamName { get; }
    int MemoryLimitInMB { get; }
    TimeSpan RemainingTime { get; }
    string TenantId => "";
    string TraceId => "";
    ILambdaSerializer? Serializer => null;
}

/// <summary>The mobile application that called.</summary>
public interface IClientContext
{
    IDictionary<string, string> Environment { get; }
    IClientApplication Client { get; }
    IDictionary<string, string> Custom { get; }
}

public interface IClientApplication
{
    string AppPackageName { get; }
    string AppTitle { get; }
    string AppVersionCode { get; }
    string AppVersionName { get; }
    string InstallationId { get; }
}

public interface ICognitoIdentity
{
    string IdentityId { get; }
    string IdentityPoolId { get; }
}

/// <summary>Reads events and writes answers.</summary>
public interface ILambdaSerializer
{
    T Deserialize<T>(Stream requestStream);
    void Serialize<T>(T response, Stream responseStream);
}

/// <summary>Names the serializer of an assembly or a handler.</summary>
[AttributeUsage(AttributeTargets.Method | AttributeTargets.Assembly)]
public sealed class LambdaSerializerAttribute : Attribute
{
    public LambdaSerializerAttribute(Type serializerType) => SerializerType = serializerType;
    public Type SerializerType { get; set; }
}

public enum LogLevel { Trace, Debug, Information, Warning, Error, Critical }

public interface ILambdaLogger
{
    void Log(string message);
    void LogLine(string message);
    void Log(string level, string message, params object?[] args);
    void Log(string level, Exception exception, string message, params object?[] args);
    void Log(LogLevel level, string message, params object?[] args) => Log(level.ToString(), message, args);
    void Log(LogLevel level, Exception exception, string message, params object?[] args) => Log(level.ToString(), exception, message, args);
    void LogTrace(string message, params object?[] args) => Log(LogLevel.Trace, message, args);
    void LogDebug(string message, params object?[] args) => Log(LogLevel.Debug, message, args);
    void LogInformation(string message, params object?[] args) => Log(LogLevel.Information, message, args);
    void LogWarning(string message, params object?[] args) => Log(LogLevel.Warning, message, args);
    void LogError(string message, params object?[] args) => Log(LogLevel.Error, message, args);
    void LogError(Exception exception, string message, params object?[] args) => Log(LogLevel.Error, exception, message, args);
    void LogCritical(string message, params object?[] args) => Log(LogLevel.Critical, message, args);
    void LogCritical(Exception exception, string message, params object?[] args) => Log(LogLevel.Critical, exception, message, args);
}

/// <summary>The log, where there is no context at hand. The bootstrap puts its own actions in place.</summary>
public static class LambdaLogger
{
    private static Action<string> _loggingAction = Console.WriteLine;
    private static Action<string, string, object?[]> _loggingWithLevelAction = (_, message, _) => Console.WriteLine(message);

    public static void Log(string message) => _loggingAction(message);
    public static void Log(LogLevel level, string message, params object?[] args) =>
        _loggingWithLevelAction(level.ToString(), message, args);
}

/// <summary>Hooks of SnapStart: the last registered runs first before the snapshot, the first one first after a restore.</summary>
public static class SnapshotRestore
{
    private static readonly ConcurrentQueue<Func<ValueTask>> before = new(), after = new();

    public static void RegisterBeforeSnapshot(Func<ValueTask> beforeSnapshotAction) => before.Enqueue(beforeSnapshotAction);

    public static void RegisterAfterRestore(Func<ValueTask> afterRestoreAction) => after.Enqueue(afterRestoreAction);

    internal static void CopyBeforeSnapshotCallbacksToRegistry(Action<Func<ValueTask>> take) => Hand(before, take);

    internal static void CopyAfterRestoreCallbacksToRegistry(Action<Func<ValueTask>> take) => Hand(after, take);

    private static void Hand(ConcurrentQueue<Func<ValueTask>> hooks, Action<Func<ValueTask>> take)
    {
        while (hooks.TryDequeue(out Func<ValueTask>? hook))
            take(hook);
    }
}
