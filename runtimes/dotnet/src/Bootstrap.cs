using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Runtime.Loader;
using System.Text;
using System.Threading.Tasks;

namespace Thaw.Runtime;

/// <summary>Runs a .NET function: the program of the managed runtimes dotnet8 and later.</summary>
internal static class Bootstrap
{
    private const int ExitInit = 1, ExitHook = 64;
    private const int RehearsalRounds = 3;
    private const long RehearsalMs = 60000; // that a rehearsed event seems to have
    private const string RehearsalEvent = "{\"key\": [\"value\", 1, 1.5, true, null], \"text\": \"\\u00e4\\n\"}";
    private const string TraceVariable = "_X_AMZN_TRACE_ID";

    private static string root = "/var/task";
    private static Client client = null!;
    private static Action<string?>? setTrace; // of Amazon.Lambda.Core, where it has this

    public static void Main()
    {
        bool snapStart = Environment.GetEnvironmentVariable("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start";
        root = Variable("LAMBDA_TASK_ROOT", root);
        if (snapStart)
            Unique.Begin();
        Log.Open();
        client = new Client(Variable("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"));
        AssemblyLoadContext.Default.Resolving += FindAssembly;
        AppDomain.CurrentDomain.AssemblyLoad += (_, loaded) => ConnectCore(loaded.LoadedAssembly);
        Handlers handler = Initialise();
        if (snapStart)
            FreezeAndRestore(handler);
        while (true)
            Handle(handler, client.Next());
    }

    private static string Variable(string name, string otherwise)
    {
        string? value = Environment.GetEnvironmentVariable(name);
        return string.IsNullOrEmpty(value) ? otherwise : value;
    }

    /// <summary>What no .deps.json of the package led to: a file beside the handler's, else our own Amazon.Lambda.Core.</summary>
    private static Assembly? FindAssembly(AssemblyLoadContext context, AssemblyName name)
    {
        foreach (string folder in new[] { root, Path.Combine(Path.GetDirectoryName(typeof(Bootstrap).Assembly.Location)!, "core") }) {
            string path = Path.Combine(folder, name.CultureName ?? "", name.Name + ".dll");
            if (File.Exists(path))
                return context.LoadFromAssemblyPath(path);
        }
        return null;
    }

    /// <summary>Gives the package's LambdaLogger our log, and finds out how it wants to be told the trace.</summary>
    private static void ConnectCore(Assembly loaded)
    {
        if (loaded.GetName().Name != "Amazon.Lambda.Core")
            return;
        const BindingFlags Inner = BindingFlags.Static | BindingFlags.NonPublic;
        Type? logger = loaded.GetType("Amazon.Lambda.Core.LambdaLogger");
        Set("_loggingAction", (Action<string>)(message => Log.Tell(Level.Information, message)));
        Set("_loggingWithLevelAction", (Action<string, string, object[]>)((level, message, values) => Log.Tell(level, null, message, values)));
        Set("_loggingWithLevelAndExceptionAction", (Action<string, Exception, string, object[]>)Log.Tell);
        setTrace = loaded.GetType("Amazon.Lambda.Core.LambdaTraceProvider")?.GetMethod("SetCurrentTraceId", Inner)
            ?.CreateDelegate<Action<string?>>();

        void Set(string field, Delegate action)
        {
            FieldInfo? found = logger?.GetField(field, Inner);
            if (found != null && found.FieldType.IsInstanceOfType(action))
                found.SetValue(null, action);
        }
    }

    private static Handlers Initialise()
    {
        try {
            return new Handlers(Variable("_HANDLER", ""), root);
        } catch (Exception e) {
            throw Fail("init/error", e, Fault.TypeOf(e), ExitInit);
        }
    }

    /// <summary>Reports, logs, and ends the process: it does not come back.</summary>
    private static Exception Fail(string path, Exception error, string kind, int code)
    {
        Log.Tell(Level.Error, "", error);
        client.PostError(path, Fault.Describe(error), kind);
        Environment.Exit(code);
        return error;
    }

    // ---- SnapStart ----

    /// <summary>
    /// Is frozen in its request for restore/next, or, when no hook is to run after a restore, in its first one for an
    /// event, which saves each clone a round trip.
    /// </summary>
    private static void FreezeAndRestore(Handlers handler)
    {
        Prime(handler);
        List<Func<ValueTask>> before = Hooks("CopyBeforeSnapshotCallbacksToRegistry");
        before.Reverse();
        Run(before, "init/error", "Runtime.BeforeSnapshotError", ExitHook);
        List<Func<ValueTask>> after = Hooks("CopyAfterRestoreCallbacksToRegistry");
        Rehearse(handler);
        Unique.Prepare();
        Warm.Settle();
        LeaveNoGarbage();
        if (after.Count == 0)
            return;
        Answer answer = client.Restore();
        if (answer.Status != 200)
            throw new IOException("restore/next: status " + answer.Status);
        Run(after, "restore/error", "Runtime.AfterRestoreError", ExitHook + 1);
    }

    /// <summary>What the function registered with Amazon.Lambda.Core.SnapshotRestore, the first first.</summary>
    private static List<Func<ValueTask>> Hooks(string copy)
    {
        var hooks = new List<Func<ValueTask>>();
        foreach (Assembly loaded in AppDomain.CurrentDomain.GetAssemblies()) {
            if (loaded.GetName().Name != "Amazon.Lambda.Core")
                continue;
            MethodInfo? method = loaded.GetType("Amazon.Lambda.Core.SnapshotRestore")
                ?.GetMethod(copy, BindingFlags.Static | BindingFlags.NonPublic);
            method?.Invoke(null, new object[] { (Action<Func<ValueTask>>)hooks.Add });
        }
        return hooks;
    }

    private static void Run(List<Func<ValueTask>> hooks, string path, string kind, int code)
    {
        try {
            foreach (Func<ValueTask> hook in hooks)
                hook().AsTask().GetAwaiter().GetResult();
        } catch (Exception e) {
            throw Fail(path, e, kind, code);
        }
    }

    /// <summary>
    /// Handles the sample events that the function is to be primed with, if any, as it will handle all others: each clone
    /// has the types loaded and the code compiled.
    /// </summary>
    private static void Prime(Handlers handler)
    {
        for (Answer head = client.Prime(); head.Status == 200; head = client.Prime())
            Handle(handler, head);
    }

    /// <summary>Runs what a clone will run first, so that it is compiled.</summary>
    private static void Rehearse(Handlers handler)
    {
        handler.Compile();
        for (int i = 0; i < RehearsalRounds; i++) {
            Answer answer = client.Rehearse();
            if (answer.Status != 200)
                throw new IOException("ping: status " + answer.Status);
            Answer head = RehearsedHead(RehearsalEvent);
            Begin(head);
            handler.Rehearse(head);
            Begin(new Answer());
        }
    }

    private static Answer RehearsedHead(string json) => new Answer {
        Body = Encoding.UTF8.GetBytes(json),
        Head = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 00000000-0000-0000-0000-000000000000\r\n" +
            "Lambda-Runtime-Trace-Id: Root=1-00000000-000000000000000000000000;Sampled=0\r\nLambda-Runtime-Deadline-Ms: " +
            (DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() + RehearsalMs) +
            "\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:rehearsal",
    };

    /// <summary>Collects, and gives free memory back: fresh pages cost a clone less than copies of old garbage.</summary>
    private static void LeaveNoGarbage()
    {
        for (int i = 0; i < 2; i++) {
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, true, true);
            GC.WaitForPendingFinalizers();
        }
    }

    // ---- events ----

    /// <summary>From here on, logs and traces are of this event.</summary>
    private static void Begin(Answer head)
    {
        string? trace = head.Field("Lambda-Runtime-Trace-Id");
        Log.Begin(head.Field("Lambda-Runtime-Aws-Request-Id"), trace);
        Environment.SetEnvironmentVariable(TraceVariable, trace);
        setTrace?.Invoke(trace);
    }

    private static void Handle(Handlers handler, Answer head)
    {
        if (head.Status != 200)
            throw new IOException("invocation/next: status " + head.Status);
        Begin(head);
        string? id = head.Field("Lambda-Runtime-Aws-Request-Id");
        ArraySegment<byte> answer = default;
        Exception? error = null;
        try {
            answer = handler.Handle(head);
        } catch (Exception e) {
            error = e;
        }
        Answer told = error != null ? Report(id, error)
            : client.Post("invocation/" + id + "/response", answer.Array!, answer.Count, "");
        if (told.Status != 202)
            Log.Tell(Level.Error, $"The answer was refused with status {told.Status}: {Encoding.UTF8.GetString(told.Body)}");
    }

    private static Answer Report(string? id, Exception error)
    {
        Log.Tell(Level.Error, "", error);
        return client.PostError("invocation/" + id + "/error", Fault.Describe(error), Fault.TypeOf(error));
    }
}
