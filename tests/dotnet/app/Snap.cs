using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.IO.MemoryMappedFiles;
using System.Linq;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

namespace App;

/// <summary>Everything that is random, used before the snapshot too, also in a thread that stays alive.</summary>
public class Randoms
{
    private readonly BlockingCollection<TaskCompletionSource<Dictionary<string, object>>> asked = new();
    private readonly RandomNumberGenerator kept = RandomNumberGenerator.Create();

    public Randoms()
    {
        new Thread(() => {
            foreach (var one in asked.GetConsumingEnumerable())
                one.SetResult(Draw());
        }) { IsBackground = true }.Start();
        Handle(null);
    }

    private Dictionary<string, object> Draw()
    {
        int[] cards = Enumerable.Range(0, 52).ToArray();
        Random.Shared.Shuffle(cards);
        var bytes = new byte[8];
        kept.GetBytes(bytes);
        using var rsa = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        return new() {
            ["shared"] = Random.Shared.NextInt64(), ["shared double"] = Random.Shared.NextDouble(), ["shuffle"] = cards,
            ["items"] = Random.Shared.GetItems(cards, 20), ["new Random"] = new Random().NextInt64(), ["guid"] = Guid.NewGuid(),
            ["crypto"] = RandomNumberGenerator.GetHexString(16), ["crypto int"] = RandomNumberGenerator.GetInt32(int.MaxValue),
            ["kept crypto"] = Convert.ToHexString(bytes), ["key"] = Convert.ToHexString(rsa.ExportSubjectPublicKeyInfo()),
            ["file name"] = Path.GetRandomFileName(),
        };
    }

    private Dictionary<string, object> WithTraces() => new(Draw()) {
        ["trace"] = ActivityTraceId.CreateRandom().ToString(), ["span"] = ActivitySpanId.CreateRandom().ToString() };

    public object Handle(object? any)
    {
        var answer = new TaskCompletionSource<Dictionary<string, object>>();
        asked.Add(answer);
        return new { main = WithTraces(), thread = answer.Task.Result, pool = Task.Run(WithTraces).Result };
    }
}

public class Hooks
{
    private static readonly List<string> told = new();

    public Hooks()
    {
        Register("first");
        Register("second");
    }

    private static void Register(string name)
    {
        SnapshotRestore.RegisterBeforeSnapshot(() => Tell("before " + name));
        SnapshotRestore.RegisterAfterRestore(async () => {
            await Task.Delay(1);
            await Tell("after " + name);
        });
    }

    private static ValueTask Tell(string what)
    {
        told.Add(what);
        if (Environment.GetEnvironmentVariable("FAIL") == what)
            throw new InvalidOperationException("the hook failed");
        return ValueTask.CompletedTask;
    }

    public List<string> Handle() => told;
}

/// <summary>What a program keeps running: threads, the pool, timers, the collector, code that is compiled again.</summary>
public class Work
{
    private readonly Dictionary<int, string> kept = Enumerable.Range(0, 5000).ToDictionary(i => i, i => "value " + i);
    private readonly BlockingCollection<int> jobs = new();
    private readonly ConcurrentQueue<int> done = new();
    private readonly string file = Path.GetTempFileName();
    private readonly MemoryMappedFile mapped;
    private readonly FileSystemWatcher watcher;
    private readonly long started = Stopwatch.GetTimestamp();
    private int count, ticks;
    private readonly Timer timer;

    public Work()
    {
        for (int i = 0; i < 3; i++)
            new Thread(() => {
                foreach (int job in jobs.GetConsumingEnumerable())
                    done.Enqueue(job * job);
            }) { IsBackground = true, Name = "worker" }.Start();
        timer = new Timer(_ => Interlocked.Increment(ref ticks), null, 0, 20);
        File.WriteAllBytes(file, new byte[4096]);
        mapped = MemoryMappedFile.CreateFromFile(file);
        watcher = new FileSystemWatcher(Path.GetDirectoryName(file)!) { EnableRaisingEvents = true };
        GC.Collect();
        Parallel.For(0, 100, _ => Sum(1000));
    }

    private static long Sum(int to) => Enumerable.Range(0, to).Sum(i => (long)i * i);

    public async Task<object> Handle(int many)
    {
        int before = ticks;
        for (int i = 0; i < many; i++)
            jobs.Add(i);
        while (done.Count < many)
            await Task.Delay(1);
        long squares = done.Sum(one => (long)one);
        done.Clear();
        while (ticks == before)
            await Task.Delay(1);
        var garbage = new List<byte[]>();
        for (int i = 0; i < 2000; i++)
            garbage.Add(new byte[10000]);
        GC.Collect(2, GCCollectionMode.Forced, true, true);
        using var view = mapped.CreateViewAccessor();
        view.Write(0, view.ReadInt32(0) + 1);
        view.Flush();
        var noticed = new TaskCompletionSource<string?>();
        watcher.Created += (_, change) => noticed.TrySetResult(change.Name);
        string made = file + ".new";
        File.WriteAllText(made, "");
        await noticed.Task;
        File.Delete(made);
        long sum = 0;
        for (int i = 0; i < 3000; i++) // often enough for a second compilation
            sum = Sum(100);
        using var child = Process.Start(new ProcessStartInfo("/bin/echo", "child") { RedirectStandardOutput = true })!;
        string said = (await child.StandardOutput.ReadToEndAsync()).Trim();
        await child.WaitForExitAsync();
        return new {
            sum, squares, kept = kept[4711], count = ++count, mapped = view.ReadInt32(0), said, child = child.ExitCode,
            forward = Stopwatch.GetElapsedTime(started) > TimeSpan.Zero,
            parallel = ParallelEnumerable.Range(0, 1000).Sum() };
    }
}

public class Primed
{
    private static readonly List<object> seen = new();

    public List<object> Handle(object given)
    {
        seen.Add(given);
        return given.ToString() == "bad" ? throw new InvalidOperationException("bad") : seen;
    }
}
